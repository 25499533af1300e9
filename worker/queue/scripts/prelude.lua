-- What every script begins with. ARGV[1] is the namespace; times are milliseconds of Redis's own clock.
local ns = ARGV[1]

local function key(...) return ns .. ':' .. table.concat({...}, ':') end
local function scan_key(id) return key('scan', id) end

local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- A number in a record; nil where there is none that can be reckoned with.
local function number(text)
  local n = tonumber(text or 0)
  return n and n > -1e15 and n < 1e15 and n or nil
end

-- Whether Redis can add to it.
local function is_count(text)
  local n = number(text)
  return n and string.format('%d', n) == (text or '0')
end

-- The attempt that the caller holds is the one that runs: the fence of every write.
local function holds(id, fence)
  local r = redis.call('HMGET', scan_key(id), 'state', 'attempt')
  return r[1] == 'running' and r[2] == fence
end

-- Whether a scan may wait for the result of another that is in this state: one that waits for its next attempt is followed only by
-- what is not more urgent, for it may wait long.
local RANK = {live = 3, batch = 2, low = 1}
local function may_follow(queue, its_state, its_queue)
  return its_state == 'running' or (its_state == 'queued' and (RANK[its_queue] or 0) >= (RANK[queue] or 0))
end

-- RFC 3339 in UTC (days to civil date after Howard Hinnant's algorithm).
local function iso(ms)
  local s = math.floor(ms / 1000)
  local z = math.floor(s / 86400) + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  local day = doy - math.floor((153 * mp + 2) / 5) + 1
  return string.format('%04d-%02d-%02dT%02d:%02d:%02d.%03dZ', year, month, day,
    math.floor(s / 3600) % 24, math.floor(s / 60) % 60, s % 60, ms % 1000)
end

local function or_null(value)
  if value == nil or value == false or value == '' then return cjson.null end
  return value
end

-- What was stored as JSON. An error in a script undoes nothing of what it has written: what cannot be read is told as nothing.
local function decoded(text)
  if not text or text == '' then return {} end
  local is_good, value = pcall(cjson.decode, text)
  return is_good and type(value) == 'table' and value or {}
end

-- A callback that is owed from now on. One of that id that is still there is overwritten, and whoever holds it has lost it.
local function owe(event, id, owner, url, kind, body, now)
  local k = key('callback', event)
  redis.call('HSET', k, 'scan', id, 'owner', owner, 'url', url, 'type', kind,
    'body', body, 'created_ms', now, 'tries', 0, 'state', 'waiting', 'last_error', '')
  redis.call('HINCRBY', k, 'fence', 1)
  redis.call('PERSIST', k)
  redis.call('ZADD', key('callbacks'), now, event)
end

-- A watch that has finished a window ends with a report, also when it is cancelled: some worker is to write it.
local function has_cursor(id) return redis.call('EXISTS', key('cursor', id)) == 1 end

-- The human's word that holds for a result: of the part that alone was scanned, if there is one, or else of the whole file.
local function override_of(r, summary)
  if not r.sha256 or r.sha256 == '' then return {} end
  local start_s, end_s, told = summary.start_s, summary.end_s, false
  if type(start_s) == 'number' and type(end_s) == 'number' then
    told = redis.call('GET', key('override', r.owner, r.sha256, string.format('%.3f-%.3f', start_s, end_s)))
  end
  return decoded(told or redis.call('GET', key('override', r.owner, r.sha256)))
end

-- One callback for each final state; its id follows from the scan's, so it can never be doubled.
local function call_back(id, status, r, now)
  local summary = decoded(r.summary)
  local decided_by, verdict = 'model', summary.verdict
  local decision = override_of(r, summary)
  if decision.verdict and status == 'completed' then decided_by, verdict = 'human', decision.verdict end
  local data = {
    id = id, retry_of = or_null(r.retry_of), external_id = or_null(r.external_id), status = status, dead = r.dead == '1',
    verdict = or_null(verdict), score = or_null(summary.score), calibrated = summary.calibrated == true,
    start_s = or_null(summary.start_s), end_s = or_null(summary.end_s), decided_by = decided_by,
    error = status == 'failed' and next(decoded(r.error)) and decoded(r.error) or cjson.null,
  }
  local event, told = 'evt_' .. id, {type = 'scan.' .. status, timestamp = iso(now), data = data}
  local is_good, body = pcall(cjson.encode, told)
  if not is_good then  -- a number that JSON does not have
    for _, name in ipairs({'verdict', 'score', 'start_s', 'end_s', 'error'}) do data[name] = cjson.null end
    body = cjson.encode(told)
  end
  owe(event, id, r.owner, r.callback_url, 'scan.' .. status, body, now)
end

-- The queue that a record names, or where that is none (somebody altered it) the one that its request does.
local function queue_of(id)
  local r = redis.call('HMGET', scan_key(id), 'priority', 'request')
  if r[1] == 'watch' or RANK[r[1]] then return r[1] end
  local request = decoded(r[2])
  return request.kind == 'watch' and 'watch' or RANK[request.priority or ''] and request.priority or 'low'
end

-- What waits in each queue, by when it was or will be due (never, while it follows another): a view of ``waiting``, changed with it,
-- that can be counted cheaply.
local function queued_key(id) return key('queued', queue_of(id)) end

-- Those of these scans that still follow this one, as {id, rank, created, queue}: the most urgent first, of equals the oldest.
local function followers_of(id, members)
  local found = {}
  for _, follower in ipairs(members) do
    local f = redis.call('HMGET', scan_key(follower), 'state', 'leader', 'priority', 'created_ms')
    if f[1] == 'queued' and f[2] == id then found[#found + 1] = {follower, RANK[f[3]] or 0, number(f[4]) or 0, f[3]} end
  end
  table.sort(found, function(a, b)
    if a[2] ~= b[2] then return a[2] > b[2] end
    if a[3] ~= b[3] then return a[3] < b[3] end
    return a[1] < b[1]
  end)
  return found
end

-- Due from now on: a scan that followed another.
local function follow_no_more(id, queue, now)
  redis.call('ZADD', key('waiting'), 'XX', now, id)
  redis.call('ZADD', RANK[queue] and key('queued', queue) or queued_key(id), 'XX', now, id)
end

-- Followers of a scan that ended, or waits long (hand_back.lua): after a completed one all take over its result; else the first
-- becomes the leader.
local function release_followers(id, status, cache_key, now)
  local members = redis.call('SMEMBERS', key('followers', id))
  redis.call('DEL', key('followers', id))
  local rung = {}
  for _, found in ipairs(followers_of(id, members)) do
    local follower = found[1]
    if status == 'completed' then
      follow_no_more(follower, found[4], now)
      rung[#rung + 1] = follower
    elseif #rung == 0 then
      redis.call('HSET', scan_key(follower), 'leader', '')
      follow_no_more(follower, found[4], now)
      rung[1] = follower
    else
      redis.call('HSET', scan_key(follower), 'leader', rung[1])
      redis.call('SADD', key('followers', rung[1]), follower)
    end
  end
  if cache_key and cache_key ~= '' and redis.call('GET', key('lead', cache_key)) == id then
    if status ~= 'completed' and rung[1] then
      redis.call('SET', key('lead', cache_key), rung[1], 'KEEPTTL')
    else
      redis.call('DEL', key('lead', cache_key))
    end
  end
  return rung
end

-- A scan's last change but for its forgetting. Returns the scans whose doorbells should ring now.
local function finalise(id, status, keep_s, fields)
  local now = now_ms()
  local k, queue = scan_key(id), queue_of(id)
  redis.call('HSET', k, 'state', status, 'finished_ms', now, 'stage', '', 'progress', 1)
  for name, value in pairs(fields) do redis.call('HSET', k, name, value) end
  redis.call('ZREM', key('leases'), id)
  redis.call('ZREM', key('waiting'), id)
  redis.call('ZREM', key('queued', queue), id)
  redis.call('EXPIRE', k, keep_s)
  if queue == 'watch' then
    redis.call('DEL', key('cursor', id), key('crops', id))
    redis.call('EXPIRE', key('events', id), keep_s)
  end
  local names = {'owner', 'callback_url', 'external_id', 'cache_key', 'sha256', 'summary', 'error', 'dead', 'leader', 'retry_of'}
  local values = redis.call('HMGET', k, unpack(names))
  local r = {}
  for i, name in ipairs(names) do r[name] = values[i] end
  redis.call('HINCRBY', key('open'), r.owner, -1)
  redis.call('HINCRBY', key('ended'), status, 1)
  if r.dead == '1' then redis.call('ZADD', key('dead'), now, id) end
  if r.leader and r.leader ~= '' then redis.call('SREM', key('followers', r.leader), id) end
  if r.callback_url and r.callback_url ~= '' then call_back(id, status, r, now) end
  return release_followers(id, status, r.cache_key, now)
end

-- Back into the queue, due at due_ms.
local function wait_again(id, due_ms)
  redis.call('HSET', scan_key(id), 'state', 'queued', 'not_before_ms', due_ms, 'stage', '', 'worker', '')
  redis.call('ZREM', key('leases'), id)
  redis.call('ZADD', key('waiting'), due_ms, id)
  redis.call('ZADD', queued_key(id), math.max(due_ms, now_ms()), id)
end
