local c = open_challenge()
if not c then return { "challenge not found" } end
local id = redis.call("HGET", sources, arg.source)
local r = id and read(instance_key(id))
if not r or (r.state ~= "ready" and r.state ~= "updating") then return { "instance not found" } end
if c.timeout == "" then return { "no renewal" } end
if ended(r) then return { "instance expired" } end
change(id, r, "instance.renewed", { last_renew = now, ends_at = end_of(c) })
return { "ok", id, redis.call("HGETALL", instance_key(id)) }
