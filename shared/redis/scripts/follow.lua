-- What a reservation has led to: what its source holds, if that has the name of the
-- reservation's request, or else whether somebody has deleted that.
local id = redis.call("HGET", sources, arg.source)
local r = id and read(instance_key(id))
if not r or r.request ~= arg.request or not visible(r) then
  return { recall(arg.request) == "deleted" and "deleted" or "none" }
end
return { "ok", id, redis.call("HGETALL", instance_key(id)) }
