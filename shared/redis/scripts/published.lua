local wanted, left = {}, 0
for _, id in ipairs(arg.id) do
  wanted[id] = true
  left = left + 1
end
local from = "-"
while left > 0 do
  local entries = redis.call("XRANGE", outbox, from, "+", "COUNT", 100)
  for _, entry in ipairs(entries) do
    for n = 1, #entry[2], 2 do
      if entry[2][n] == "id" and wanted[entry[2][n + 1]] then
        redis.call("XDEL", outbox, entry[1])
        left = left - 1
      end
    end
  end
  if #entries < 100 then break end
  from = "(" .. entries[#entries][1]
end
return { "ok" }
