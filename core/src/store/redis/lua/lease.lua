-- ARGV: prefix, name, holder, ttl ms.
local key = P .. 'lease:' .. ARGV[2]
local holder = redis.call('GET', key)
if holder and holder ~= ARGV[3] then return {'ok', 0} end
redis.call('SET', key, ARGV[3], 'PX', ARGV[4])
return {'ok', 1}
