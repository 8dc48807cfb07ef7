-- ARGV: prefix, id, epoch, worker, percent.
local id = ARGV[2]
if not holds(id, ARGV[3], ARGV[4]) then return {'lost'} end
redis.call('HSET', P .. 'job:' .. id, 'progress', ARGV[5])
event('job', id)
return {'ok'}
