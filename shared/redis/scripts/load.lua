local c, r = read(challenge_key), read(instance_key(arg.identity))
if not c or not r then return { "gone" } end
return standing(r, redis.call("HGETALL", challenge_key), redis.call("HGETALL", instance_key(arg.identity)),
  redis.call("GET", base_key(arg.identity)) or "", redis.call("LRANGE", journal_key(arg.identity), 0, -1),
  bare(r) and "yes" or "")
