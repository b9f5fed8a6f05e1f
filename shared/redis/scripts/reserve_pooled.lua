if recall(arg.identity) then return { "ok" } end -- repeated
local c = open_challenge()
if not c or shortage(c) <= 0 or (c.pool_rests_until ~= "" and not past(c.pool_rests_until)) then return { "full" } end
if not arg.hint then return { "short" } end
if stale() then return { "stale" } end
redis.call("SADD", pooled, arg.identity)
reserve(arg.identity, c, {})
remember(arg.identity, arg.identity)
return { "ok" }
