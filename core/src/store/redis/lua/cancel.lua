-- ARGV: prefix, id, now, now in us.
local id = ARGV[2]
local job = P .. 'job:' .. id
local state = redis.call('HGET', job, 'state')
if not state then return {'missing'} end
if state == 'queued' then
  redis.call('HSET', job, 'state', 'cancelled', 'cancel_requested', '1', 'ended', ARGV[3])
  leave(id, ARGV[4])
  event('job', id)
elseif state == 'running' then
  redis.call('HSET', job, 'cancel_requested', '1')
  event('job', id)
end
return {'ok'}
