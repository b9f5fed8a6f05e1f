for _, field in ipairs(arg.field) do redis.call("HSET", prefix, field, now) end
return { "ok", now }
