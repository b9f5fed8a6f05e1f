-- The rules, each written once. This file stands before every script, which
-- runs in one slot: KEYS[1] is the prefix of a challenge's keys (see keys.go),
-- or the whole key of an index. Before it stands schema, the version of records
-- that this code writes.
--
-- ARGV[1] shifts the clock, for tests. Then come names and values; a name that
-- begins with "+" may come again, and its values are a list.
local prefix = KEYS[1]
local arg = {}
for n = 2, #ARGV, 2 do
  local name, value = ARGV[n], ARGV[n + 1]
  if string.sub(name, 1, 1) == "+" then
    name = string.sub(name, 2)
    arg[name] = arg[name] or {}
    table.insert(arg[name], value)
  else
    arg[name] = value
  end
end

local challenge_key, sources, instances = prefix .. "c", prefix .. "s", prefix .. "i"
local claimable, pooled, deleting, outbox = prefix .. "p", prefix .. "q", prefix .. "d", prefix .. "o"

local function instance_key(id) return prefix .. "i:" .. id end
local function base_key(id) return prefix .. "x:" .. id end
local function journal_key(id) return prefix .. "j:" .. id end
local function lease_key(id) return prefix .. "l:" .. id end

-- Time. An instant or a span is text, "seconds.nnnnnnnnn"; the nanoseconds
-- count forward even when the seconds are negative. A number would lose digits.

local function split(t)
  local s, n = string.match(t, "^(%-?%d+)%.(%d+)$")
  return tonumber(s), tonumber(n)
end

local function join(s, n) return string.format("%d.%09d", s, n) end

local function add(t, span)
  local s, n = split(t)
  local ds, dn = split(span)
  s, n = s + ds, n + dn
  if n >= 1000000000 then s, n = s + 1, n - 1000000000 end
  return join(s, n)
end

local function before(a, b)
  local as, an = split(a)
  local bs, bn = split(b)
  return as < bs or (as == bs and an < bn)
end

local clock = redis.call("TIME")
local now = add(join(tonumber(clock[1]), tonumber(clock[2]) * 1000), ARGV[1])

local function past(t) return t ~= "" and before(t, now) end

-- The score of an instant in a sorted set: a number, good for a microsecond.
local function score(t)
  local s, n = split(t)
  return string.format("%.6f", s + n / 1000000000)
end

-- A script that was announced in an index must run soon after, because a
-- reader may take an announcement away that is older than twice this.
local function stale() return before(add(arg.hint, "25.000000000"), now) end

-- Records. A field that is not there reads as "".

local blank = { __index = function() return "" end }

-- What scripts count with. A record in which it is something else ends the script
-- before anything is written, see read.
local numbers, instants = { "revision", "generation", "attempts", "min", "max" }, { "ends_at", "timeout", "pool_rests_until" }

local function check(key, record)
  local function damaged(name) error("DAMAGED " .. key .. ": " .. name) end
  for _, name in ipairs(numbers) do
    local value = rawget(record, name)
    if value and string.format("%d", tonumber(value) or 0) ~= value then damaged(name) end
  end
  for _, name in ipairs(instants) do
    if record[name] ~= "" and not split(record[name]) then damaged(name) end
  end
end

local function read(key)
  local flat = redis.call("HGETALL", key)
  if #flat == 0 then return nil end
  local record = setmetatable({}, blank)
  for n = 1, #flat, 2 do record[flat[n]] = flat[n + 1] end
  -- Call it before anything is written: it ends the script.
  if (tonumber(record.schema) or 0) > schema then error("NEWERSCHEMA " .. key) end
  check(key, record)
  return record
end

local function set(key, record, fields)
  for name, value in pairs(fields) do
    record[name] = value
    redis.call("HSET", key, name, value)
  end
end

-- Events. Each change of a record raises its revision and tells of it.

local function announce(kind, identity, id)
  redis.call("XADD", outbox, "MAXLEN", "~", 10000, "*",
    "id", id, "type", kind, "identity", identity, "at", now)
end

local function change_challenge(c, kind, fields)
  set(challenge_key, c, fields)
  c.revision = tostring(redis.call("HINCRBY", challenge_key, "revision", 1))
  announce(kind, "", c.incarnation .. "/" .. c.revision)
end

-- Whoever is to bring it to another state has all attempts before him.
local function change(id, r, kind, fields)
  fields.changed_at = now
  if fields.state then fields.attempts = "0" end
  set(instance_key(id), r, fields)
  r.revision = tostring(redis.call("HINCRBY", instance_key(id), "revision", 1))
  announce(kind, id, id .. "/" .. r.revision)
end

-- What a challenge and an instance are.

-- A challenge that is to go takes no more orders.
local function open_challenge()
  local c = read(challenge_key)
  if c and c.deleting ~= "" then return nil end
  return c
end

-- An instance has ended when its date passed. A pending one has no date yet.
local function ended(r)
  return r.state ~= "pending" and r.state ~= "deleting" and past(r.ends_at)
end

-- Since it was settled last a recreate has begun to destroy what it was made of: it
-- can't stay what it was. Whatever settles it ends that, in an older version as well.
local function bare(r) return r.bare ~= "" and r.bare == r.settled_by end

-- What is not visible reads as absent.
local function visible(r)
  return (r.state == "ready" or r.state == "updating") and not ended(r)
end

-- What a list holds. What can't be judged is in it as well, for its reader to
-- tell of after all others.
local function listed(id)
  local known, is = pcall(function()
    local r = read(instance_key(id))
    return r and visible(r)
  end)
  return is or not known
end

-- When an instance ends that starts or is renewed now.
local function end_of(c)
  if c.timeout == "" then return c.ends_at end
  local e = add(now, c.timeout)
  if c.ends_at ~= "" and before(c.ends_at, e) then return c.ends_at end
  return e
end

local function outdated(c, generation) return tonumber(generation) < tonumber(c.generation) end

-- How many instances the pool is short of; negative, how many it has too many.
-- Claimed is whatever is neither pooled nor on its way out.
local function shortage(c)
  local ready = redis.call("SCARD", pooled)
  local claimed = redis.call("SCARD", instances) - ready - redis.call("ZCARD", deleting)
  local wanted, limit = tonumber(c.min), tonumber(c.max)
  if limit > 0 then wanted = math.min(wanted, math.max(0, limit - claimed)) end
  if past(c.ends_at) then wanted = 0 end
  return wanted - ready
end

-- Steps that several verbs take.

local function reserve(id, c, fields)
  local r = setmetatable({}, blank)
  fields.schema, fields.identity, fields.fence, fields.state = tostring(schema), id, "0", "pending"
  fields.generation, fields.reference, fields.digest = c.generation, c.reference, c.digest
  redis.call("SADD", instances, id)
  change(id, r, "instance.pending", fields)
end

-- The pending half of an instance's blue-green update, if there is one. What
-- writes before it dooms the instance calls this first, see read.
local function half_of(r)
  local half = r.replacement ~= "" and read(instance_key(r.replacement))
  return half and half.state == "pending" and half or nil
end

-- Marks an instance deleting, and with it the pending half of its blue-green
-- update. Whoever asked for it is at work now; others look after the grace.
local function doom(id, r)
  if redis.call("HGET", instance_key(id), "state") == "deleting" then return false end
  local half = half_of(r)
  change(id, r, "instance.deleting", { state = "deleting", strategy = "", deleted_by = arg.request or "" })
  redis.call("SREM", pooled, id)
  if r.source == "" then redis.call("LREM", claimable, 0, id) end
  redis.call("ZADD", deleting, score(add(now, "30.000000000")), id)
  if half then doom(r.replacement, half) end
  return true
end

-- A deletion belongs to the request that asked for it, which alone is told that
-- it succeeded. One that failed is unowned, see disown.lua: it belongs to the next
-- request.
local unowned = "-"

-- A command may be sent again because its answer was lost, when others have undone
-- what it did and something else has begun: for a minute it is known what that was.
-- And so long it is known of the request of a reservation that its instance was deleted.
local function done_key(request) return prefix .. "t:" .. request end
local function remember(request, what) redis.call("SET", done_key(request), what, "EX", 60) end
local function recall(request) return redis.call("GET", done_key(request)) end

-- The right of a lease to write: its fence is the newest and nobody else holds
-- the lock. A lock that ran out unseen is taken again, and every write
-- refreshes it. Returns the record, or nothing and how the lease stands.
local function guard()
  local r = read(instance_key(arg.identity))
  if not r then return nil, "gone" end
  if r.fence ~= arg.fence then return nil, "lost" end
  local holder = redis.call("GET", lease_key(arg.identity))
  if holder and holder ~= arg.token then return nil, "lost" end
  redis.call("SET", lease_key(arg.identity), arg.token, "PX", arg.ttl)
  return r, "ok"
end

local function rebase(id, base)
  redis.call("DEL", base_key(id), journal_key(id))
  if base ~= "" then redis.call("SET", base_key(id), base) end
end

-- How a lease stands after a write: the record's state, and its revision, by
-- which a late answer is told from a newer one.
local function standing(r, ...) return { "ok", r.state, r.revision, ... } end
