-- Make ``queued:QUEUE`` what ``waiting`` says, where workers of a version without it, or a restored Redis, have let it drift, and
-- where what one follows waits, or is of other bytes now: it is due, and nobody else says so before it is claimed.
-- ARGV: ns, so many of the oldest of each queue are looked at, waiting scans that may be missing from it...
-- Returns how many were added or dropped.
local changed = 0
for i = 3, #ARGV do
  local id = ARGV[i]
  local r = redis.call('HMGET', scan_key(id), 'state', 'created_ms', 'not_before_ms', 'leader', 'cache_key')
  if r[1] == 'queued' then
    local queue, follows = queue_of(id), false
    if r[4] and r[4] ~= '' then
      local leader = redis.call('HMGET', scan_key(r[4]), 'state', 'cache_key', 'priority')
      follows = leader[2] == r[5] and may_follow(queue, leader[1], leader[3])
    end
    local name, due = key('queued', queue), math.max(number(r[2]) or 0, number(r[3]) or 0)
    local at = redis.call('ZSCORE', name, id)
    if not at or (at == 'inf' and not follows) then
      redis.call('ZADD', name, follows and '+inf' or at and now_ms() or due, id)
      changed = changed + 1
    end
  end
end
for _, queue in ipairs({'live', 'batch', 'low', 'watch'}) do
  for _, id in ipairs(redis.call('ZRANGE', key('queued', queue), 0, tonumber(ARGV[2]) - 1)) do
    if not redis.call('ZSCORE', key('waiting'), id) then changed = changed + redis.call('ZREM', key('queued', queue), id) end
  end
end
return changed
