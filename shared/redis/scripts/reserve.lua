local holder = redis.call("HGET", sources, arg.source)
local held = holder and read(instance_key(holder))
if recall(arg.request) then -- repeated: an update may have moved what it reserved, or somebody deleted it
  if held and held.request == arg.request then
    return { held.state == "ready" and "claimed" or "reserved", "", redis.call("HGETALL", instance_key(holder)) }
  end
  return { "reserved", "", { "identity", arg.identity, "source", arg.source, "state", "deleting" } }
end

local c = open_challenge()
if not c then return { "challenge not found" } end
if past(c.ends_at) then return { "challenge expired" } end
-- Without a hint this only looks what would be done.
if arg.hint and stale() then return { "stale" } end

-- The first of the pool that can be given out; what can't be is none of it.
local function claimable_first()
  while true do
    local id = redis.call("LINDEX", claimable, 0)
    local r = id and read(instance_key(id))
    if not id or (r and r.state == "ready" and r.source == "" and r.generation == c.generation) then return id, r end
    redis.call("LPOP", claimable)
  end
end

if held and held.state ~= "deleting" and held.state ~= "failed" and not ended(held) then
  if arg.idempotency == "" or held.idempotency ~= arg.idempotency then return { "instance exists" } end
  return { "attached", "", redis.call("HGETALL", instance_key(holder)) }
end
local id, r = claimable_first() -- it reads, so it comes before what writes
if arg.ready and (not id or arg.additional ~= "") then return { "none ready" } end
if not arg.hint then return { "ready" } end
local replaced = ""
if held then
  replaced = holder
  doom(holder, held)
end

local fields = { source = arg.source, idempotency = arg.idempotency, request = arg.request, additional = arg.additional }

if id then -- claim it
  fields.last_renew = now
  if arg.additional == "" then
    fields.ends_at = end_of(c)
  else
    fields.state = "pending" -- it gets its end once it is brought to its settings
  end
  redis.call("LPOP", claimable)
  redis.call("SREM", pooled, id)
  redis.call("HSET", sources, arg.source, id)
  change(id, r, "instance.claimed", fields)
  remember(arg.request, id)
  return { r.state == "ready" and "claimed" or "reserved", replaced, redis.call("HGETALL", instance_key(id)) }
end

redis.call("HSET", sources, arg.source, arg.identity)
reserve(arg.identity, c, fields)
remember(arg.request, arg.identity)
return { "reserved", replaced, redis.call("HGETALL", instance_key(arg.identity)) }
