-- ARGV: ns, id, worker, lease_ms, follow_ms, keep_s
-- Returns {'claimed', attempt, report of the leader or ''} or why not.
local id = ARGV[2]
local k = scan_key(id)
local r = redis.call('HMGET', k, 'state', 'cancel', 'not_before_ms', 'leader')
if not r[1] then
  redis.call('ZREM', key('waiting'), id)
  return {'gone'}
end
if r[1] ~= 'queued' then return {r[1]} end
if r[2] == '1' then
  finalise(id, 'cancelled', ARGV[6], {})
  return {'cancelled'}
end
local now = now_ms()
if tonumber(r[3] or 0) > now then
  redis.call('ZADD', key('waiting'), r[3], id)
  return {'early'}
end
local adopted = ''
if r[4] and r[4] ~= '' then
  local leader = redis.call('HMGET', scan_key(r[4]), 'state', 'report')
  if leader[1] == 'completed' then
    adopted = leader[2]
  elseif leader[1] == 'queued' or leader[1] == 'running' then
    redis.call('ZADD', key('waiting'), now + tonumber(ARGV[5]), id)
    return {'following', r[4]}
  end
  redis.call('HSET', k, 'leader', '')
end
local attempt = redis.call('HINCRBY', k, 'attempt', 1)
redis.call('HINCRBY', k, 'tries', 1)
redis.call('HSETNX', k, 'started_ms', now)
redis.call('HSET', k, 'state', 'running', 'worker', ARGV[3], 'stage', 'start', 'claimed_ms', now)
redis.call('ZREM', key('waiting'), id)
redis.call('ZADD', key('leases'), now + tonumber(ARGV[4]), id)
return {'claimed', tostring(attempt), adopted}
