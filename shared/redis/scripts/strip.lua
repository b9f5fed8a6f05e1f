-- Comes before what an updating instance is made of is destroyed.
local r, stands = guard()
if not r then return { stands } end
if r.state ~= "updating" then return { "superseded", r.state, r.revision } end
set(instance_key(arg.identity), r, { bare = r.settled_by })
return standing(r)
