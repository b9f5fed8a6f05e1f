-- Tells that work on the challenge is left that nobody is at.
local c = read(challenge_key)
if not c then return { "gone" } end
change_challenge(c, "challenge.unsettled", {})
return { "ok" }
