-- How the fast tick stands, and its changes. Its key is in the slot of the due
-- entries, so that one step can look at both. The turn rises with each change,
-- by which whoever turned the tick on finds out that it was changed meanwhile.
local tick = "{" .. prefix .. "}:tick"
local state, turn = unpack(redis.call("HMGET", tick, "state", "turn"))
state, turn = state or "off", turn or "0"
local due = redis.call("ZCOUNT", prefix, "-inf", score(add(now, arg.horizon))) > 0
if not arg.to then return { "ok", state, turn, due and 1 or 0 } end
if arg.turn and arg.turn ~= turn then return { "moved", state, turn } end
if arg.unless and due then return { "due", state, turn } end
redis.call("HSET", tick, "state", arg.to)
return { "ok", arg.to, redis.call("HINCRBY", tick, "turn", 1) }
