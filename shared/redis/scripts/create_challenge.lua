if recall(arg.incarnation) then return { "ok" } end -- repeated
if read(challenge_key) then return { "challenge exists" } end
if stale() then return { "stale" } end
local c = setmetatable({}, blank)
change_challenge(c, "challenge.created", {
  schema = tostring(schema), tenant = arg.tenant, id = arg.id, incarnation = arg.incarnation, generation = "1",
  reference = arg.reference, digest = arg.digest, timeout = arg.timeout, ends_at = arg.ends_at,
  additional = arg.additional, min = arg.min, max = arg.max,
})
remember(arg.incarnation, arg.incarnation)
redis.call("PERSIST", outbox) -- it may be left of a former challenge of this id
return { "ok" }
