-- ARGV: prefix, id, epoch, worker, state, error or '', left behind, command or '', result or '', ended,
-- ended in us, writes.
local id, epoch, worker, state = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local job = P .. 'job:' .. id
if not holds(id, epoch, worker) then
  local s, e, w = unpack(redis.call('HMGET', job, 'state', 'epoch', 'worker'))
  -- The answer to the same call was lost: its work is done.
  if s and s ~= 'queued' and s ~= 'running' and e == epoch and w == worker then return {'ok'} end
  return {'lost'}
end
local versions, refused = check_writes(12)
if not versions then return refused end

redis.call('HSET', job, 'state', state, 'left_behind', ARGV[7], 'ended', ARGV[10])
if ARGV[6] ~= '' then redis.call('HSET', job, 'error', ARGV[6]) end
if ARGV[8] ~= '' then redis.call('HSET', job, 'command', ARGV[8]) end
if ARGV[9] ~= '' then redis.call('HSET', job, 'result', ARGV[9]) end
if state == 'succeeded' then redis.call('HSET', job, 'progress', '100') end
leave(id, ARGV[11])
-- Whoever hears that the job has ended has heard before what that means for the records.
apply_writes(12, versions)
event('job', id)
return {'ok'}
