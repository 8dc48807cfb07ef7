-- ARGV: prefix, id, state, error or '', left behind, command or '', result or '', ended,
-- ended in us, writes.
local id, state = ARGV[2], ARGV[3]
local job = P .. 'job:' .. id
local now = redis.call('HGET', job, 'state')
if not now then return {'missing'} end
if now ~= 'queued' then return {'other'} end
local versions, refused = check_writes(10)
if not versions then return refused end

redis.call('HSET', job, 'state', state, 'left_behind', ARGV[5], 'ended', ARGV[8])
if state == 'cancelled' then redis.call('HSET', job, 'cancel_requested', '1') end
if ARGV[4] ~= '' then redis.call('HSET', job, 'error', ARGV[4]) end
if ARGV[6] ~= '' then redis.call('HSET', job, 'command', ARGV[6]) end
if ARGV[7] ~= '' then redis.call('HSET', job, 'result', ARGV[7]) end
leave(id, ARGV[9])
apply_writes(10, versions)
event('job', id)
return {'ended'}
