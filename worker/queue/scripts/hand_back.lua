-- Not the scan's fault: the attempt is not counted. ARGV: ns, id, attempt, keep_s, wait_ms
-- Returns {'queued', scans to ring...}, {'cancelled', scans to ring...} or {'lost'}.
if not holds(ARGV[2], ARGV[3]) then return {'lost'} end
if redis.call('HGET', scan_key(ARGV[2]), 'cancel') == '1' and not has_cursor(ARGV[2]) then
  local rung = finalise(ARGV[2], 'cancelled', ARGV[4], {ended_by = ARGV[3]})
  table.insert(rung, 1, 'cancelled')
  return rung
end
redis.call('HINCRBY', scan_key(ARGV[2]), 'tries', -1)
redis.call('HINCRBY', scan_key(ARGV[2]), 'handed_back', 1)  -- since it was passed on last
wait_again(ARGV[2], now_ms() + tonumber(ARGV[5]))
if tonumber(ARGV[5]) == 0 then return {'queued', ARGV[2]} end
-- It may wait long: what follows it goes on without it.
local rung = release_followers(ARGV[2], 'queued', redis.call('HGET', scan_key(ARGV[2]), 'cache_key'), now_ms())
table.insert(rung, 1, 'queued')
return rung
