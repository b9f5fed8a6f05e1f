-- The deletion that this request asked for has failed for it: what is left belongs to
-- nobody, and so to the next request. What another one has taken over stays its own.
local c = read(challenge_key)
local left = {}
for _, id in ipairs(arg.identity or {}) do left[id] = read(instance_key(id)) end
for id, r in pairs(left) do
  if r.deleted_by == arg.request then set(instance_key(id), r, { deleted_by = unowned }) end
end
if c and c.deleting == arg.request then set(challenge_key, c, { deleting = unowned }) end
return { "ok" }
