-- One page of hints, each with the time it was touched if it is old enough to
-- be taken away once the reader finds nothing behind it, else with "". The age
-- counts from before the reader looks.
-- Or of one hint alone, if there is that one.
local page
if arg.field then
  local touched = redis.call("HGET", prefix, arg.field)
  page = { "0", touched and { arg.field, touched } or {} }
else
  page = redis.call("HSCAN", prefix, arg.cursor, "COUNT", 100)
end
local found = {}
for n = 1, #page[2], 2 do
  local touched = page[2][n + 1]
  table.insert(found, page[2][n])
  table.insert(found, before(add(touched, "60.000000000"), now) and touched or "")
end
return { "ok", page[1], found }
