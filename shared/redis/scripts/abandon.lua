local id = arg.identity
local r, stands = guard()
if not r then return { stands } end
if r.settled_by == arg.request then return standing(r) end -- repeated
-- A destroy may fail as well: it stays deleting, and the record says why.
local again = r.state == "deleting" and arg.to == "deleting"
if r.state ~= "pending" and r.state ~= "updating" and not again then return { "superseded", r.state, r.revision } end
if arg.to == "ready" and r.state ~= "updating" then return { "superseded", r.state, r.revision } end
if stale() then return { "stale" } end
set(instance_key(id), r, { failure = arg.failure, settled_by = arg.request })
if arg.to == "deleting" then
  doom(id, r)
else
  change(id, r, "instance." .. arg.to, { state = arg.to, strategy = "" })
end
return standing(r)
