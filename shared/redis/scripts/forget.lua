local id = arg.identity
local r, stands = guard()
if not r then return { stands } end
if r.state ~= "deleting" then return { "superseded", r.state, r.revision } end
change(id, r, "instance.deleted", {})
-- Who reserved it may be about to ask. What was given up nobody deleted.
if r.request ~= "" and r.failure == "" then remember(r.request, "deleted") end
redis.call("DEL", instance_key(id), base_key(id), journal_key(id))
redis.call("SREM", instances, id)
redis.call("ZREM", deleting, id)
if redis.call("HGET", sources, r.source) == id then redis.call("HDEL", sources, r.source) end
return standing(r)
