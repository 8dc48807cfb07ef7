-- All writes or none. ARGV: prefix, writes.
local versions, refused = check_writes(2)
if not versions then return refused end
apply_writes(2, versions)
return {'ok', versions}
