-- The deletion of these instances, or of the challenge that has them, has failed for
-- the call that it belonged to: it belongs to nobody, and so to the next call.
local c = read(challenge_key)
local left = {}
for _, id in ipairs(arg.identity or {}) do left[id] = read(instance_key(id)) end
for id, r in pairs(left) do
  if r.state == "deleting" and (not arg.challenge or (c and r.deleted_by == c.deleting)) then
    set(instance_key(id), r, { deleted_by = unowned })
  end
end
if arg.challenge and c and c.deleting ~= "" and next(left) then set(challenge_key, c, { deleting = unowned }) end
return { "ok" }
