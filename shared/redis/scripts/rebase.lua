local r, stands = guard()
if not r then return { stands } end
if r.state ~= arg.state then return { "superseded", r.state, r.revision } end
rebase(arg.identity, arg.base)
return standing(r)
