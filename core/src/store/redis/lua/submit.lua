-- A job, its lines, its records, and the claim if it may begin at once.
-- ARGV: prefix, id, body, command, queue, subjects, refuse, worker or '', lease ms, now, writes.
local id, body, command, queue, text = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local refuse, worker, lease, now = ARGV[7], ARGV[8], ARGV[9], ARGV[10]
local job = P .. 'job:' .. id
if redis.call('EXISTS', job) == 1 then return {'known'} end
local subjects = subjects_of(text)
if refuse == '1' then
  for _, subject in ipairs(subjects) do
    local front = redis.call('LINDEX', P .. 'line:' .. subject, 0)
    if front then return {'busy', subject, front} end
  end
end
local versions, refused = check_writes(11)
if not versions then return refused end

local number = redis.call('INCR', P .. 'number')
redis.call('ZADD', P .. 'jobs', number, id)
redis.call('ZADD', P .. 'open', number, id)
for _, subject in ipairs(subjects) do
  redis.call('RPUSH', P .. 'line:' .. subject, id)
end
redis.call('HSET', job, 'body', body, 'command', command, 'queue', queue, 'subjects', text,
  'state', 'queued', 'epoch', '0')
local reply = {'queued'}
if first_in_all(id, subjects) then
  if worker ~= '' then
    -- Never read by '>': the entry exists so that XAUTOCLAIM finds it if this worker dies.
    local stream = P .. 'direct:' .. queue
    local entry = redis.call('XADD', stream, '*', 'job', id)
    own(stream, entry, worker, lease)
    redis.call('HSET', job, 'state', 'running', 'epoch', '1', 'worker', worker, 'started', now,
      'stream', stream, 'entry', entry)
    reply = {'claimed', 1}
  else
    make_ready(id)
  end
end
event('job', id)
apply_writes(11, versions)
return reply
