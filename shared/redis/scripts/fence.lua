-- Ends the taking of a lease: the lock holds our token, so the next fence is
-- ours.
local r = read(instance_key(arg.identity))
if not r then return { "gone" } end
if redis.call("GET", lease_key(arg.identity)) ~= arg.token then return { "lost" } end
redis.call("HINCRBY", instance_key(arg.identity), "attempts", 1)
return { "ok", r.state, r.revision, redis.call("HINCRBY", instance_key(arg.identity), "fence", 1) }
