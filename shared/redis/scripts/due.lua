-- Looks at one challenge: marks deleting whatever has come to its end among
-- the instances asked for, and answers what is to be destroyed now, the next
-- end of each instance asked for, when to look at the rest again, which of the
-- sources asked for hold nothing, which entries (kind and name) led to what can't be
-- read, why it can't, and when to look at those again.
local c = read(challenge_key)
if not c then return { "gone", {}, {}, "", "", arg.source or {} } end
local records, free, unread, why = {}, {}, {}, {}
-- What can't be read keeps nothing else from being looked at. A kind is one of those
-- in keys.go.
local function look(kind, name, id)
  local known, r = pcall(function()
    local r = read(instance_key(id))
    if r then half_of(r) end
    return r
  end)
  if known then
    records[id] = r
  else
    table.insert(unread, kind)
    table.insert(unread, name)
    why[id] = type(r) == "table" and r.err or r
  end
end
for _, id in ipairs(arg.identity or {}) do look("instance", id, id) end
for _, source in ipairs(arg.source or {}) do
  local id = redis.call("HGET", sources, source)
  if id then look("source", source, id) else table.insert(free, source) end
end
for _, id in ipairs(arg.whole and redis.call("SMEMBERS", instances) or {}) do look("whole", "", id) end
for _, id in ipairs(past(c.ends_at) and redis.call("SMEMBERS", pooled) or {}) do look("pool", "", id) end

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
local reasons = {}
for _, reason in pairs(why) do table.insert(reasons, reason) end
return { "ok", ids, ends, again, pool_end, free, unread, reasons, score(later) }
