-- The next job of some queues: first what dead workers left, then what is new.
-- ARGV: prefix, worker, lease ms, now, queues.
local worker, lease, now = ARGV[2], ARGV[3], ARGV[4]

local function take(stream, entry, fields)
  local id = fields[2]
  local job = P .. 'job:' .. id
  local state = redis.call('HGET', job, 'state')
  if state ~= 'queued' and state ~= 'running' then
    redis.call('XACK', stream, GROUP, entry)
    redis.call('XDEL', stream, entry)
    return nil
  end
  own(stream, entry, worker, lease)
  redis.call('HINCRBY', job, 'epoch', 1)
  redis.call('HSET', job, 'state', 'running', 'worker', worker)
  redis.call('HSETNX', job, 'started', now)
  event('job', id)
  return {'claimed', id, redis.call('HGETALL', job), redis.call('LRANGE', P .. 'journal:' .. id, 0, -1)}
end

for i = 5, #ARGV do
  local queue = ARGV[i]
  -- Searching costs time in proportion to the running jobs: ten times a second is often enough for all
  -- gateways together.
  local sweep = P .. 'sweep:' .. queue
  if redis.call('SET', sweep, '1', 'NX', 'PX', 100) then
    for _, kind in ipairs({'direct:', 'ready:'}) do
      local stream, cursor = P .. kind .. queue, '0-0'
      repeat
        local found = in_group({stream = stream, command = {
          'XAUTOCLAIM', stream, GROUP, worker, HORIZON, cursor, 'COUNT', 1}})
        cursor = found[1]
        for _, row in ipairs(found[2]) do
          local claimed = row and row[2] and take(stream, row[1], row[2])
          if claimed then
            redis.call('DEL', sweep)
            return claimed
          end
        end
      until cursor == '0-0'
    end
  end
end

for i = 5, #ARGV do
  local stream = P .. 'ready:' .. ARGV[i]
  repeat
    local new = in_group({stream = stream, command = {
      'XREADGROUP', 'GROUP', GROUP, worker, 'COUNT', 1, 'STREAMS', stream, '>'}})
    if new then
      local row = new[1][2][1]
      local claimed = take(stream, row[1], row[2])
      if claimed then return claimed end
    end
  until not new
end
return {'none'}
