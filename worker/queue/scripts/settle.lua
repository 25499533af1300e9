-- What is known of these bytes. ARGV: ns, id, attempt, sha256, cache_key, follow_ms, keep_s, anew (1|0: drop a stored result),
-- waits (0: what would follow is told so and goes on running)
-- Returns {'cached', report}, {'follow', leader or '' if it was cancelled instead, scans to ring...}, {'lead'} or {'lost'}.
local id, cache_key = ARGV[2], ARGV[5]
local k = scan_key(id)
if not holds(id, ARGV[3]) then return {'lost'} end
local r = redis.call('HMGET', k, 'cache_key', 'priority', 'cancel', 'leader')
if r[1] and r[1] ~= '' and r[1] ~= cache_key and redis.call('GET', key('lead', r[1])) == id then
  redis.call('DEL', key('lead', r[1]))  -- other bytes than at the last attempt
end
redis.call('HSET', k, 'sha256', ARGV[4], 'cache_key', cache_key)
if ARGV[8] == '1' then redis.call('DEL', key('result', cache_key)) end
local known = redis.call('GET', key('result', cache_key))
if known then
  local its = redis.call('HMGET', scan_key(known), 'state', 'report')
  if its[1] == 'completed' then return {'cached', its[2]} end
end
local lead = redis.call('GET', key('lead', cache_key))
if lead and lead ~= id then
  local l = redis.call('HMGET', scan_key(lead), 'state', 'leader', 'cache_key', 'priority')
  local leads = l[3] == cache_key and (not l[2] or l[2] == '')
  if leads and may_follow(r[2], l[1], l[4]) then
    if r[3] == '1' then
      return {'follow', '', unpack(finalise(id, 'cancelled', ARGV[7], {ended_by = ARGV[3]}))}
    end
    if ARGV[9] == '0' then return {'follow', lead} end
    redis.call('HSET', k, 'leader', lead)
    redis.call('HINCRBY', k, 'tries', -1)
    wait_again(id, 0)
    redis.call('ZADD', key('waiting'), now_ms() + tonumber(ARGV[6]), id)
    redis.call('ZADD', queued_key(id), '+inf', id)
    redis.call('SADD', key('followers', lead), id)
    redis.call('EXPIRE', key('followers', lead), ARGV[7])
    return {'follow', lead}
  end
end
if r[4] and r[4] ~= '' then  -- what it was to take over could not be: from now on others may follow it
  redis.call('SREM', key('followers', r[4]), id)
  redis.call('HSET', k, 'leader', '')
end
redis.call('SET', key('lead', cache_key), id, 'EX', ARGV[7])
return {'lead'}
