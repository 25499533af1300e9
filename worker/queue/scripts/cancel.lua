-- ARGV: ns, id, keep_s. Returns {state, scans to ring...} as it is now; a running one ends at its next progress,
-- or 3 s after its next renewal. A watch that waits for its next slice waits for a worker that writes its report.
local state = redis.call('HGET', scan_key(ARGV[2]), 'state')
if not state then return {'gone'} end
if state == 'queued' and has_cursor(ARGV[2]) then
  redis.call('HSET', scan_key(ARGV[2]), 'cancel', 1, 'not_before_ms', 0)
  redis.call('ZADD', key('waiting'), 'XX', now_ms(), ARGV[2])
  return {'queued', ARGV[2]}
end
if state == 'queued' then
  local rung = finalise(ARGV[2], 'cancelled', ARGV[3], {})
  table.insert(rung, 1, 'cancelled')
  return rung
end
if state == 'running' then redis.call('HSET', scan_key(ARGV[2]), 'cancel', 1) end
return {state}
