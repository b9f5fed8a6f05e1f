local c = open_challenge()
if not c then return { "challenge not found" } end
if stale() then return { "stale" } end
local records = {}
for _, id in ipairs(redis.call("SMEMBERS", instances)) do records[id] = read(instance_key(id)) end

local fields = { pool_rests_until = "" } -- it may work now
if arg.reference then fields.reference, fields.digest = arg.reference, arg.digest end
for _, name in ipairs({ "timeout", "ends_at", "additional", "min", "max" }) do
  if arg[name] then fields[name] = arg[name] end
end
local moved = (fields.digest and fields.digest ~= c.digest) or (fields.additional and fields.additional ~= c.additional)
if moved then fields.generation = string.format("%d", tonumber(c.generation) + 1) end
change_challenge(c, "challenge.updated", fields)

-- Claimed instances: a new end for each, and the way to the new generation.
local updating, ends = {}, {}
for id, r in pairs(records) do
  if r.source ~= "" and visible(r) then
    local e = end_of(c)
    if outdated(c, r.generation) then
      change(id, r, "instance.updating", { state = "updating", strategy = arg.strategy, ends_at = e })
      table.insert(updating, id)
    elseif e ~= r.ends_at then
      change(id, r, "instance.renewed", { ends_at = e })
    end
    if e ~= "" and before(e, arg.soon) then
      table.insert(ends, id)
      table.insert(ends, e)
    end
  end
end

-- The pool: all that is outdated, or what is too many. Of those too many the
-- pending ones go first, since a ready one is worth more to the next source,
-- and then the ready ones from the end of the list.
local doomed = {}
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
return { "ok", redis.call("HGETALL", challenge_key), updating, doomed, ends }
