local id = arg.identity
local r, stands = guard()
if not r then return { stands } end
if r.settled_by == arg.request then return standing(r) end -- repeated
if r.state ~= "ready" or r.revision ~= arg.revision or ended(r) then return { "superseded", r.state, r.revision } end
if stale() then return { "stale" } end
half_of(r)
set(instance_key(id), r, { failure = arg.failure, settled_by = arg.request })
if arg.to == "deleting" or (arg.to == "updating" and r.source == "") then -- the pool makes another one
  doom(id, r)
elseif arg.to == "updating" then
  change(id, r, "instance.updating", { state = "updating", strategy = "recreate" })
end
return standing(r)
