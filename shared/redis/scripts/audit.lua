local page = redis.call("SSCAN", instances, arg.cursor, "COUNT", 100)
local found = {}
for _, id in ipairs(page[2]) do
  local r = read(instance_key(id))
  if r then
    table.insert(found, id)
    table.insert(found, redis.call("HGETALL", instance_key(id)))
    table.insert(found, redis.call("EXISTS", lease_key(id)))
  end
end
return { "ok", page[1], now, found }
