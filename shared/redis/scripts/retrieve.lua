-- "none" when the source holds no record at all, "absent" when it holds one
-- that is not to be seen.
local id = redis.call("HGET", sources, arg.source)
if not id then return { "none" } end
local r = read(instance_key(id))
if not r or not visible(r) then return { "absent" } end
return { "ok", id, redis.call("HGETALL", instance_key(id)) }
