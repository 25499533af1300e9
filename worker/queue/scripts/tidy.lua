-- Make ``queued:QUEUE`` what ``waiting`` says, where workers of a version without it, or a restored Redis, have let it drift.
-- ARGV: ns, so many of the oldest of each queue are looked at, waiting scans that may be missing from it...
-- Returns how many were added or dropped.
local changed = 0
for i = 3, #ARGV do
  local r = redis.call('HMGET', scan_key(ARGV[i]), 'state', 'created_ms', 'not_before_ms')
  if r[1] == 'queued' then
    changed = changed + redis.call('ZADD', queued_key(ARGV[i]), 'NX', math.max(number(r[2]) or 0, number(r[3]) or 0), ARGV[i])
  end
end
for _, queue in ipairs({'live', 'batch', 'low', 'watch'}) do
  for _, id in ipairs(redis.call('ZRANGE', key('queued', queue), 0, tonumber(ARGV[2]) - 1)) do
    if not redis.call('ZSCORE', key('waiting'), id) then changed = changed + redis.call('ZREM', key('queued', queue), id) end
  end
end
return changed
