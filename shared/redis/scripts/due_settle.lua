-- Takes away the entries that were seen, unless they moved since, and adds the
-- next ones: the earliest date of each wins.
for n, member in ipairs(arg.seen or {}) do
  if redis.call("ZSCORE", prefix, member) == arg.at[n] then redis.call("ZREM", prefix, member) end
end
for n, member in ipairs(arg.next or {}) do
  redis.call("ZADD", prefix, "LT", arg.by[n], member)
end
return { "ok" }
