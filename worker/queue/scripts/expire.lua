-- A lease has run out. ARGV: ns, id, lease as seen (ms), error, max_attempts, keep_s
-- Returns {'again', id}, {'dead'|'cancelled', scans to ring...} or {'held'}.
local id = ARGV[2]
local lease = redis.call('ZSCORE', key('leases'), id)
if not lease or tonumber(lease) ~= tonumber(ARGV[3]) then return {'held'} end
local k = scan_key(id)
local r = redis.call('HMGET', k, 'state', 'cancel', 'tries')
if r[1] ~= 'running' then
  redis.call('ZREM', key('leases'), id)
  return {'held'}
end
local status, how, dead = 'failed', 'dead', 1
local is_unwanted = r[2] == '1'
if is_unwanted then status, how, dead = 'cancelled', 'cancelled', 0 end
if (not is_unwanted or has_cursor(id)) and (number(r[3]) or math.huge) < tonumber(ARGV[5]) then
  redis.call('HSET', k, 'error', ARGV[4])
  wait_again(id, now_ms())
  return {'again', id}
end
local rung = finalise(id, status, ARGV[6], {error = ARGV[4], dead = dead})
table.insert(rung, 1, how)
return rung
