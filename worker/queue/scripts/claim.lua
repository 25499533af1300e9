-- ARGV: ns, id, worker, lease_ms, follow_ms, keep_s
-- Returns {'claimed', attempt, leader whose result is to be taken over or '', its queue}, or {why not, scans to ring...}; 'dead': its
-- record cannot be read, and it has ended by that.
local id, worker = ARGV[2], ARGV[3]
local k = scan_key(id)
local r = redis.call('HMGET', k, 'state', 'cancel', 'not_before_ms', 'leader', 'cache_key', 'worker', 'attempt', 'tries')
if not r[1] then
  redis.call('ZREM', key('waiting'), id)
  for _, queue in ipairs({'live', 'batch', 'low', 'watch'}) do redis.call('ZREM', key('queued', queue), id) end
  return {'gone'}
end
-- A worker does one scan at a time: one that claims what it holds never heard the answer to its first claim.
local again = r[1] == 'running' and r[6] == worker
if r[1] ~= 'queued' and not again then return {r[1]} end
if r[2] == '1' and not has_cursor(id) then
  local rung = finalise(id, 'cancelled', ARGV[6], {})
  table.insert(rung, 1, 'cancelled')
  return rung
end
local now, not_before = now_ms(), number(r[3])
if not (not_before and is_count(r[7]) and is_count(r[8])) then
  local error = {code = 'internal', message = 'its record cannot be read', retryable = true}
  local rung = finalise(id, 'failed', ARGV[6], {error = cjson.encode(error), dead = 1})
  table.insert(rung, 1, 'dead')
  return rung
end
if not again and not_before > now then
  redis.call('ZADD', key('waiting'), r[3], id)
  return {'early'}
end
local adopts, queue = '', queue_of(id)
if r[4] and r[4] ~= '' then
  local leader = redis.call('HMGET', scan_key(r[4]), 'state', 'cache_key', 'priority')
  local same = leader[2] and leader[2] == r[5]  -- a leader may have found other bytes at its second attempt
  if same and leader[1] == 'completed' then
    adopts = r[4]
  elseif same and not again and may_follow(queue, leader[1], leader[3]) then
    redis.call('ZADD', key('waiting'), now + tonumber(ARGV[5]), id)
    redis.call('ZADD', key('queued', queue), '+inf', id)
    return {'following'}
  else
    -- Nothing is lost with a leader that is less urgent and waits again: unless it runs again before this one knows its bytes, it
    -- will follow this one, and what follows it is released when it ends.
    redis.call('SREM', key('followers', r[4]), id)
    redis.call('HSET', k, 'leader', '')
  end
end
local attempt = redis.call('HINCRBY', k, 'attempt', 1)
if not again then redis.call('HINCRBY', k, 'tries', 1) end
redis.call('HSETNX', k, 'started_ms', now)
redis.call('HSET', k, 'state', 'running', 'worker', worker, 'stage', 'start', 'claimed_ms', now)
redis.call('ZREM', key('waiting'), id)
redis.call('ZREM', key('queued', queue), id)
redis.call('ZADD', key('leases'), now + tonumber(ARGV[4]), id)
return {'claimed', tostring(attempt), adopts, queue}
