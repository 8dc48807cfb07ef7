-- Removes some of the jobs that ended before a time, so that others get their turn in between.
-- ARGV: prefix, time in us, limit.
local old = redis.call('ZRANGEBYSCORE', P .. 'ended', '-inf', '(' .. ARGV[2], 'LIMIT', 0, ARGV[3])
for _, id in ipairs(old) do
  redis.call('DEL', P .. 'job:' .. id)
  redis.call('ZREM', P .. 'jobs', id)
  redis.call('ZREM', P .. 'ended', id)
end
return {'ok', #old}
