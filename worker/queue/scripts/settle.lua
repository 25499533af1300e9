-- What is known of these bytes: ARGV: ns, id, attempt, sha256, cache_key, follow_ms, keep_s
-- Returns {'cached', report}, {'follow', leader}, {'lead'} or {'lost'}.
local id, cache_key = ARGV[2], ARGV[5]
if not holds(id, ARGV[3]) then return {'lost'} end
redis.call('HSET', scan_key(id), 'sha256', ARGV[4], 'cache_key', cache_key)
local known = redis.call('GET', key('result', cache_key))
if known then
  local r = redis.call('HMGET', scan_key(known), 'state', 'report')
  if r[1] == 'completed' then return {'cached', r[2]} end
end
local lead = redis.call('GET', key('lead', cache_key))
if lead and lead ~= id then
  local r = redis.call('HMGET', scan_key(lead), 'state', 'leader')
  if (r[1] == 'queued' or r[1] == 'running') and (not r[2] or r[2] == '') then
    redis.call('HSET', scan_key(id), 'leader', lead)
    redis.call('HINCRBY', scan_key(id), 'tries', -1)
    wait_again(id, 0)
    redis.call('ZADD', key('waiting'), now_ms() + tonumber(ARGV[6]), id)
    redis.call('SADD', key('followers', lead), id)
    redis.call('EXPIRE', key('followers', lead), ARGV[7])
    return {'follow', lead}
  end
end
redis.call('SET', key('lead', cache_key), id, 'EX', ARGV[7])
return {'lead'}
