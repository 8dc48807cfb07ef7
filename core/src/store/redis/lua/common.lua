-- Shared by all scripts. ARGV[1] is always the key prefix. Keys are computed here rather than passed in KEYS,
-- because which ones are touched follows from what is stored; Redis Cluster is refused for that reason.
local P = ARGV[1]
local GROUP = 'gateways'
-- An entry's idle time is set so that it reaches this (a day, in ms) exactly when the lease ends. Thus one
-- fixed XAUTOCLAIM threshold finds what has run out, whatever lease each claim asked for.
local HORIZON = 86400000
local CHANGES_KEPT = 65536

-- Tells every gateway that something changed; readers fetch the value themselves, so that no secret stays
-- behind in the stream. Ids count up by one: a reader that sees a hole knows that it missed something.
local function event(kind, key)
  local number = redis.call('INCR', P .. 'event')
  redis.call('XADD', P .. 'changes', 'MAXLEN', '~', CHANGES_KEPT, number .. '-0', 'kind', kind, 'key', key)
end

-- Writes come as five arguments each, to the end of ARGV: kind, key, expect (any, absent or a version),
-- 1 for a value or 0 for a removal, value. Returns the new versions, or nil and the reply that refuses.
local function check_writes(from)
  local versions = {}
  for i = from, #ARGV, 5 do
    local kind, key, expect = ARGV[i], ARGV[i + 1], ARGV[i + 2]
    local stored = redis.call('HGET', P .. 'rec:' .. kind, key)
    local version = stored and string.match(stored, '^(%d+):')
    if not (expect == 'any' or (expect == 'absent' and not version) or expect == version) then
      return nil, {'conflict', kind, key}
    end
    versions[#versions + 1] = ARGV[i + 3] == '1' and (tonumber(version) or 0) + 1 or 0
  end
  return versions
end

local function apply_writes(from, versions)
  local n = 0
  for i = from, #ARGV, 5 do
    local kind, key = ARGV[i], ARGV[i + 1]
    n = n + 1
    if ARGV[i + 3] == '1' then
      local stored = string.format('%d:', versions[n]) .. ARGV[i + 4]
      redis.call('HSET', P .. 'rec:' .. kind, key, stored)
    else
      redis.call('HDEL', P .. 'rec:' .. kind, key)
    end
    event(kind, key)
  end
end

local function in_group(call)
  local result = redis.pcall(unpack(call.command))
  if type(result) == 'table' and result.err then
    if not string.find(result.err, 'NOGROUP', 1, true) then
      error(result.err)
    end
    redis.call('XGROUP', 'CREATE', call.stream, GROUP, '0', 'MKSTREAM')
    result = redis.call(unpack(call.command))
  end
  return result
end

-- Makes worker the owner of a stream entry until the lease (ms) ends.
local function own(stream, entry, worker, lease)
  local idle = math.max(0, HORIZON - tonumber(lease))
  in_group({stream = stream, command = {
    'XCLAIM', stream, GROUP, worker, '0', entry, 'IDLE', string.format('%d', idle), 'FORCE', 'JUSTID'}})
end

local function subjects_of(text)
  local subjects = {}
  for subject in string.gmatch(text, '[^\n]+') do
    subjects[#subjects + 1] = subject
  end
  return subjects
end

local function first_in_all(id, subjects)
  for _, subject in ipairs(subjects) do
    if redis.call('LINDEX', P .. 'line:' .. subject, 0) ~= id then
      return false
    end
  end
  return true
end

-- Puts a job into the ready stream of its backend and command version, and wakes one gateway.
local function make_ready(id)
  local job = P .. 'job:' .. id
  local queue = redis.call('HGET', job, 'queue')
  local stream = P .. 'ready:' .. queue
  local entry = redis.call('XADD', stream, '*', 'job', id)
  redis.call('HSET', job, 'stream', stream, 'entry', entry)
  redis.call('RPUSH', P .. 'bell:' .. queue, '1')
  redis.call('LTRIM', P .. 'bell:' .. queue, -64, -1)
end

-- Takes an ended job out of everything that concerns unfinished ones only.
local function leave(id, ended)
  local job = P .. 'job:' .. id
  local text, stream, entry = unpack(redis.call('HMGET', job, 'subjects', 'stream', 'entry'))
  if entry then
    redis.pcall('XACK', stream, GROUP, entry)
    redis.call('XDEL', stream, entry)
    redis.call('HDEL', job, 'stream', 'entry')
  end
  redis.call('ZREM', P .. 'open', id)
  redis.call('ZADD', P .. 'ended', ended, id)
  redis.call('DEL', P .. 'journal:' .. id)
  local subjects = subjects_of(text)
  for _, subject in ipairs(subjects) do
    redis.call('LREM', P .. 'line:' .. subject, 1, id)
  end
  for _, subject in ipairs(subjects) do
    local front = redis.call('LINDEX', P .. 'line:' .. subject, 0)
    if front then
      local of, has = unpack(redis.call('HMGET', P .. 'job:' .. front, 'subjects', 'entry'))
      if not has and first_in_all(front, subjects_of(of)) then
        make_ready(front)
      end
    end
  end
end

-- Whether the claim is the latest of its job.
local function holds(id, epoch, worker)
  local state, e, w = unpack(redis.call('HMGET', P .. 'job:' .. id, 'state', 'epoch', 'worker'))
  return state == 'running' and e == epoch and w == worker
end
