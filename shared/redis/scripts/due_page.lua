-- One page of what is due by a bound, which is now on the first page.
local bound = arg.bound
if bound == "" then bound = score(now) end
return { "ok", bound, redis.call("ZRANGEBYSCORE", prefix, "-inf", bound, "WITHSCORES", "LIMIT", arg.skip, 100) }
