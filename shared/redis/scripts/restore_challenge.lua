-- Makes a challenge appear, whose instances were written before.
local c = read(challenge_key)
if c then return { c.incarnation == arg.incarnation and "there" or "taken" } end
for _, id in ipairs(arg.identity or {}) do
  if redis.call("EXISTS", instance_key(id)) == 0 then return { "incomplete" } end
end
redis.call("DEL", sources, instances, claimable, pooled, deleting)
for _, id in ipairs(arg.identity or {}) do redis.call("SADD", instances, id) end
for n, source in ipairs(arg.source or {}) do redis.call("HSET", sources, source, arg.held[n]) end
for _, id in ipairs(arg.claimable or {}) do redis.call("RPUSH", claimable, id) end
for _, id in ipairs(arg.pooled or {}) do redis.call("SADD", pooled, id) end
for n, id in ipairs(arg.deleting or {}) do redis.call("ZADD", deleting, arg.from[n], id) end
for n, name in ipairs(arg.name) do redis.call("HSET", challenge_key, name, arg.value[n]) end
return { "ok" }
