local r, stands = guard()
if not r then return { stands } end
return standing(r)
