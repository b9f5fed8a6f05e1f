local id = arg.identity
local r, stands = guard()
if not r then return { stands } end
if r.settled_by == arg.request then return standing(r) end -- repeated
-- A destroy may fail as well: the instance stays deleting, and says why. Only
-- what was deployed once can be left ready or failed.
local allowed = r.state == "updating" or (arg.to == "deleting" and (r.state == "pending" or r.state == "deleting"))
if not allowed then return { "superseded", r.state, r.revision } end
if stale() then return { "stale" } end
set(instance_key(id), r, { failure = arg.failure, settled_by = arg.request })
if r.state == "deleting" then
  disown(id, r)
elseif arg.to == "deleting" then
  doom(id, r)
else
  change(id, r, "instance." .. arg.to, { state = arg.to, strategy = "" })
end
return standing(r)
