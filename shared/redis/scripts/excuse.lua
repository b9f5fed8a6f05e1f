-- Gives back the attempt that the lease has taken, once, and unless another update
-- has given all of them meanwhile.
local r, stands = guard()
if not r then return { stands } end
if r.attempts == arg.attempt then
  set(instance_key(arg.identity), r, { attempts = string.format("%d", tonumber(r.attempts) - 1) })
end
return standing(r)
