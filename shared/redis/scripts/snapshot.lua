-- A challenge with all of its instances at one moment, but for its leases and
-- its outbox.
local c = read(challenge_key)
if not c then return { "gone" } end
local found = {}
for _, id in ipairs(redis.call("SMEMBERS", instances)) do
  if read(instance_key(id)) then
    table.insert(found, redis.call("HGETALL", instance_key(id)))
    table.insert(found, redis.call("GET", base_key(id)) or "")
    table.insert(found, redis.call("LRANGE", journal_key(id), 0, -1))
  end
end
return { "ok", redis.call("HGETALL", challenge_key), redis.call("HGETALL", sources),
  redis.call("SMEMBERS", pooled), redis.call("ZRANGE", deleting, 0, -1, "WITHSCORES"), found }
