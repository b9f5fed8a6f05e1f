local page = redis.call("SSCAN", instances, arg.cursor, "COUNT", 100)
local found = {}
for _, id in ipairs(page[2]) do
  local fields = redis.call("HGETALL", instance_key(id)) -- not read: what is newer is for the reader to tell of
  if #fields > 0 then
    table.insert(found, id)
    table.insert(found, fields)
    table.insert(found, redis.call("EXISTS", lease_key(id)))
    table.insert(found, redis.call("EXISTS", base_key(id), journal_key(id)))
  end
end
return { "ok", page[1], now, found }
