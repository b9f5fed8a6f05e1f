redis.call("ZADD", deleting, "XX", score(add(now, arg.by)), arg.identity)
return { "ok" }
