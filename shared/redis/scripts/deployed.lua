local id = arg.identity
local r, stands = guard()
if not r then return { stands } end
local function answer() return standing(r, redis.call("HGETALL", instance_key(id))) end
if r.settled_by == arg.request then return answer() end -- repeated
if r.state ~= arg.state or (r.state ~= "pending" and r.state ~= "updating") then
  return { "superseded", r.state, r.revision }
end
if stale() then return { "stale" } end
local c = read(challenge_key)
local old = r.replaces ~= "" and read(instance_key(r.replaces))
local half = half_of(r) -- of an update that another strategy overtook

rebase(id, arg.base)
local behind = outdated(c, arg.generation)
local fields = {
  info = arg.info, generation = arg.generation, reference = arg.reference, digest = arg.digest,
  failure = "", strategy = "", settled_by = arg.request, state = "ready",
}
local kind = "instance.ready"
if behind then
  local strategy = old and old.strategy or r.strategy
  if strategy == "" then strategy = "in-place" end -- it was pending when the challenge moved on
  fields.state, fields.strategy, kind = "updating", strategy, "instance.updating"
end

-- What was deployed is not wanted any more: it is kept on record to be
-- destroyed.
local function discard()
  fields.state = nil
  set(instance_key(id), r, fields)
  doom(id, r)
  return answer()
end

if r.replaces ~= "" then
  local replaced = r.replaces
  local held = redis.call("HGET", sources, r.source) == replaced
  if not (held and old and old.state == "updating") then return discard() end
  for _, name in ipairs({ "since", "last_renew", "ends_at", "additional", "idempotency", "request" }) do
    fields[name] = old[name]
  end
  fields.replaces = ""
  redis.call("HSET", sources, r.source, id)
  set(instance_key(r.replaces), old, { replacement = "", request = "" })
  doom(replaced, old)
elseif r.state == "pending" and r.source == "" then
  -- Never behind: an update that raises the generation marks it deleting.
  fields.since, fields.last_renew = now, now
  redis.call("RPUSH", claimable, id)
elseif r.state == "pending" then
  if r.since == "" then fields.since, fields.last_renew = now, now end
  fields.ends_at = end_of(c)
elseif r.replacement ~= "" then
  if half then doom(r.replacement, half) end
  fields.replacement = ""
end
change(id, r, kind, fields)
return answer()
