-- Looks at one challenge: marks deleting whatever has come to its end among
-- the instances asked for, and answers what is to be destroyed now, the next
-- end of each instance asked for, when to look at the rest again, and which of the
-- sources asked for hold nothing.
local c = read(challenge_key)
if not c then return { "gone", {}, {}, "", "", arg.source or {} } end
local records, free = {}, {}
local function look(id)
  records[id] = records[id] or read(instance_key(id))
  if records[id] then half_of(records[id]) end
end
for _, id in ipairs(arg.identity or {}) do look(id) end
for _, source in ipairs(arg.source or {}) do
  local id = redis.call("HGET", sources, source)
  if id then look(id) else table.insert(free, source) end
end
for _, id in ipairs(arg.whole and redis.call("SMEMBERS", instances) or {}) do look(id) end
for _, id in ipairs(past(c.ends_at) and redis.call("SMEMBERS", pooled) or {}) do look(id) end

local ids, ends = {}, {}
for id, r in pairs(records) do
  local pooled_end = past(c.ends_at) and redis.call("SISMEMBER", pooled, id) == 1
  if ended(r) or pooled_end then
    doom(id, r)
    table.insert(ids, id)
  elseif r.ends_at ~= "" and r.state ~= "deleting" then
    table.insert(ends, id)
    table.insert(ends, r.ends_at)
  end
end
for _, id in ipairs(redis.call("ZRANGEBYSCORE", deleting, "-inf", score(now))) do table.insert(ids, id) end

-- Whoever reads this has a minute before the next reader is told the same.
local later = add(now, "60.000000000")
for _, id in ipairs(ids) do redis.call("ZADD", deleting, score(later), id) end
local again = redis.call("ZRANGE", deleting, 0, 0, "WITHSCORES")[2] or ""
local pool_end = redis.call("SCARD", pooled) > 0 and c.ends_at or ""
return { "ok", ids, ends, again, pool_end, free }
