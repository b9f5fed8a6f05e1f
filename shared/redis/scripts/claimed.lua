local page = redis.call("HSCAN", sources, arg.cursor, "COUNT", 100)
local found = {}
for n = 2, #page[2], 2 do
  local id = page[2][n]
  if listed(id) then
    table.insert(found, id)
    table.insert(found, redis.call("HGETALL", instance_key(id)))
  end
end
return { "ok", page[1], found }
