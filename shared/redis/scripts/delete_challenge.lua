local c = read(challenge_key)
local done = recall(arg.request)
if done and not (c and c.incarnation == done) then return { "first", {}, done } end -- repeated
if not c then return { "challenge not found" } end
if stale() then return { "stale" } end
local ids = redis.call("SMEMBERS", instances)
local records = {}
for _, id in ipairs(ids) do records[id] = read(instance_key(id)) end
local first = c.deleting == "" or c.deleting == unowned or c.deleting == arg.request
if c.deleting == "" then
  change_challenge(c, "challenge.updated", { deleting = arg.request })
elseif first then
  set(challenge_key, c, { deleting = arg.request })
end
if first then remember(arg.request, c.incarnation) end
redis.call("DEL", claimable)
for id, r in pairs(records) do doom(id, r) end
return { first and "first" or "again", ids, c.incarnation }
