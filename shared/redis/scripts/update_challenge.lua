local done = recall(arg.request)
local c = done and read(challenge_key) or open_challenge()
if done and not (c and c.incarnation == done) then return { "gone" } end
if not c then return { "challenge not found" } end
if not done and stale() then return { "stale" } end
local records = {}
for _, id in ipairs(redis.call("SMEMBERS", instances)) do records[id] = read(instance_key(id)) end

local updating, doomed, ends = {}, {}, {}
local function soon(id, e)
  if e ~= "" and before(e, arg.soon) then
    table.insert(ends, id)
    table.insert(ends, e)
  end
end
local function answer() return { "ok", redis.call("HGETALL", challenge_key), updating, doomed, ends } end

if done then -- repeated: what is left to be done by now
  for id, r in pairs(records) do
    if r.source ~= "" and visible(r) then
      if r.state == "updating" then table.insert(updating, id) end
      soon(id, r.ends_at)
    elseif r.source == "" and r.state == "deleting" then
      table.insert(doomed, id)
    end
  end
  return answer()
end

local fields = { pool_rests_until = "" } -- it may work now
if arg.reference then fields.reference, fields.digest = arg.reference, arg.digest end
for _, name in ipairs({ "timeout", "ends_at", "additional", "min", "max" }) do
  if arg[name] then fields[name] = arg[name] end
end
local moved = (fields.digest and fields.digest ~= c.digest) or (fields.additional and fields.additional ~= c.additional)
if moved then fields.generation = string.format("%d", tonumber(c.generation) + 1) end
change_challenge(c, "challenge.updated", fields)
remember(arg.request, c.incarnation)

-- Claimed instances: a new end for each, and the way to the new generation.
for id, r in pairs(records) do
  if r.source ~= "" and visible(r) then
    local e = end_of(c)
    if outdated(c, r.generation) then
      change(id, r, "instance.updating", { state = "updating", strategy = arg.strategy, ends_at = e })
      table.insert(updating, id)
    elseif e ~= r.ends_at then
      change(id, r, "instance.renewed", { ends_at = e })
    end
    soon(id, e)
  end
end

-- The pool: all that is outdated, or what is too many. Of those too many the
-- pending ones go first, since a ready one is worth more to the next source,
-- and then the ready ones from the end of the list.
local function drop(id)
  if records[id] and doom(id, records[id]) then table.insert(doomed, id) end
end
if moved then
  redis.call("DEL", claimable)
  for _, id in ipairs(redis.call("SMEMBERS", pooled)) do drop(id) end
end
local surplus = -shortage(c)
for id, r in pairs(records) do
  if surplus > #doomed and not moved and r.state == "pending" and redis.call("SISMEMBER", pooled, id) == 1 then drop(id) end
end
while not moved and surplus > #doomed do
  local id = redis.call("RPOP", claimable)
  if not id then break end
  drop(id)
end
return answer()
