for n, field in ipairs(arg.field) do
  if redis.call("HGET", prefix, field) == arg.touched[n] then redis.call("HDEL", prefix, field) end
end
return { "ok" }
