-- ARGV: prefix, id, epoch, worker, entry.
local id, entry = ARGV[2], ARGV[5]
if not holds(id, ARGV[3], ARGV[4]) then return {'lost'} end
local journal = P .. 'journal:' .. id
-- The same entry again is the same call, sent again because its answer was lost.
if redis.call('LINDEX', journal, -1) ~= entry then
  redis.call('RPUSH', journal, entry)
end
return {'ok'}
