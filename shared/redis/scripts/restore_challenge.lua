-- Makes a challenge appear, whose instances were written before.
local c = read(challenge_key)
if c then return { c.incarnation == arg.incarnation and "there" or "taken" } end
for _, id in ipairs(arg.identity or {}) do
  if redis.call("EXISTS", instance_key(id)) == 0 then return { "incomplete" } end
end
local unclaimed = {}
for _, id in ipairs(arg.pooled or {}) do
  unclaimed[id] = read(instance_key(id))
  if unclaimed[id] then half_of(unclaimed[id]) end
end
redis.call("DEL", sources, instances, claimable, pooled, deleting)
for _, id in ipairs(arg.identity or {}) do redis.call("SADD", instances, id) end
for n, source in ipairs(arg.source or {}) do redis.call("HSET", sources, source, arg.held[n]) end
for n, id in ipairs(arg.deleting or {}) do redis.call("ZADD", deleting, arg.from[n], id) end
for n, name in ipairs(arg.name) do redis.call("HSET", challenge_key, name, arg.value[n]) end

-- Whatever was in the pool may have been claimed since, by somebody who knows
-- its flags and can reach it: nobody else may get it.
for id, r in pairs(unclaimed) do doom(id, r) end
if next(unclaimed) then change_challenge(read(challenge_key), "challenge.unsettled", {}) end
return { "ok" }
