local done = recall(arg.request)
if done then return { "first", done } end -- repeated
if not read(challenge_key) then return { "challenge not found" } end
local id = redis.call("HGET", sources, arg.source)
local r = id and read(instance_key(id))
if not r or ended(r) then return { "instance not found" } end
if stale() then return { "stale" } end
if r.state ~= "deleting" then
  doom(id, r)
elseif r.deleted_by == unowned then
  set(instance_key(id), r, { deleted_by = arg.request })
else
  return { "again", id }
end
remember(arg.request, id)
return { "first", id }
