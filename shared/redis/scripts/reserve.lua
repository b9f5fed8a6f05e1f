local c = open_challenge()
if not c then return { "challenge not found" } end
if past(c.ends_at) then return { "challenge expired" } end
if stale() then return { "stale" } end

local replaced = ""
local holder = redis.call("HGET", sources, arg.source)
if holder then
  local r = read(instance_key(holder))
  if r and r.request == arg.request then
    -- A repeated command whose first answer was lost.
    return { r.state == "ready" and "claimed" or "reserved", "", redis.call("HGETALL", instance_key(holder)) }
  end
  if r and r.state ~= "deleting" and r.state ~= "failed" and not ended(r) then
    if arg.idempotency == "" or r.idempotency ~= arg.idempotency then return { "instance exists" } end
    return { "attached", "", redis.call("HGETALL", instance_key(holder)) }
  end
  if r then
    replaced = holder
    doom(holder, r)
  end
end

local fields = { source = arg.source, idempotency = arg.idempotency, request = arg.request, additional = arg.additional }

local function claim(id, r)
  fields.last_renew = now
  if arg.additional == "" then
    fields.ends_at = end_of(c)
  else
    fields.state = "pending" -- it gets its end once it is brought to its settings
  end
  redis.call("SREM", pooled, id)
  redis.call("HSET", sources, arg.source, id)
  change(id, r, "instance.claimed", fields)
  return { r.state == "ready" and "claimed" or "reserved", replaced, redis.call("HGETALL", instance_key(id)) }
end

while true do
  local id = redis.call("LINDEX", claimable, 0)
  if not id then break end
  local r = read(instance_key(id))
  redis.call("LPOP", claimable)
  if r and r.state == "ready" and r.source == "" and r.generation == c.generation then return claim(id, r) end
end

redis.call("HSET", sources, arg.source, arg.identity)
reserve(arg.identity, c, fields)
return { "reserved", replaced, redis.call("HGETALL", instance_key(arg.identity)) }
