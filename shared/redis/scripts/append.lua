local r, stands = guard()
if not r then return { stands } end
if r.state ~= arg.state then return { "superseded", r.state, r.revision } end
if r.appended ~= arg.number then -- else repeated
  redis.call("RPUSH", journal_key(arg.identity), arg.entry)
  redis.call("HSET", instance_key(arg.identity), "appended", arg.number)
end
return standing(r)
