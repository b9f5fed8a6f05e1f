-- Gives the installation its name, unless what was restored is gone by now.
local named = redis.call("GET", prefix)
if named ~= arg.restoring and named ~= arg.name then return { "lost" } end
redis.call("SET", prefix, arg.name)
return { "ok" }
