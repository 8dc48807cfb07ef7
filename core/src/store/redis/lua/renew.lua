-- ARGV: prefix, id, epoch, worker, lease ms.
local id, worker = ARGV[2], ARGV[4]
if not holds(id, ARGV[3], worker) then return {'lost'} end
local stream, entry = unpack(redis.call('HMGET', P .. 'job:' .. id, 'stream', 'entry'))
own(stream, entry, worker, ARGV[5])
return {'ok'}
