local r, stands = guard()
if not r then return { stands } end
if r.state ~= "updating" then return { "superseded", r.state, r.revision } end
local half = r.replacement ~= "" and read(instance_key(r.replacement))
if half and half.state == "pending" then return standing(r, r.replacement) end
reserve(arg.half, read(challenge_key), { source = r.source, additional = r.additional, replaces = arg.identity })
set(instance_key(arg.identity), r, { replacement = arg.half })
return standing(r, arg.half)
