local c = read(challenge_key)
if not c or c.incarnation ~= arg.incarnation then return { "gone" } end
if c.deleting == "" then return { "not deleting" } end
if redis.call("SCARD", instances) > 0 then return { "not empty" } end
change_challenge(c, "challenge.deleted", {})
redis.call("DEL", challenge_key, sources, instances, claimable, pooled, deleting)
redis.call("EXPIRE", outbox, 3600) -- long enough to publish the last events
return { "ok" }
