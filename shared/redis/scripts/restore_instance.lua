-- Writes what is known of one instance. Nothing leads to it until its challenge
-- is there, and from then on it is left alone.
if redis.call("EXISTS", challenge_key) == 1 then return { "there" } end
local id = arg.identity
redis.call("DEL", instance_key(id))
for n, name in ipairs(arg.name) do redis.call("HSET", instance_key(id), name, arg.value[n]) end
rebase(id, arg.base)
for _, entry in ipairs(arg.entry or {}) do redis.call("RPUSH", journal_key(id), entry) end
return { "ok" }
