-- This worker cannot do the scan, another may: it waits for that, and the attempt is not counted; but not for ever.
-- ARGV: ns, id, attempt, error, wait_ms, longest_wait_ms, longest_ms, longest_unwanted_ms, keep_s, longest_without_room_ms, often.
-- Of the last two: for want of room for so long, and so often, and nothing else in between, is too long; 0: that is not why.
-- Returns {'queued'|'dead'|'cancelled', scans to ring...} or {'lost'}.
local id, attempt = ARGV[2], ARGV[3]
local k = scan_key(id)
if not holds(id, attempt) then return {'lost'} end
local r = redis.call('HMGET', k, 'cancel', 'passed_on', 'no_room', 'handed_back')
-- What was handed back in between (a post waits for its turn at a site) says nothing of who can do the scan.
local before = tonumber(attempt) - 1 - (number(r[4]) or 0)
local now, is_unwanted = now_ms(), r[1] == '1'
-- Since when it has been passed on by one attempt after the other, and by which one last.
local since, last = string.match(r[2] or '', '^(%d+) (%d+)$')
if tonumber(last) ~= before then since = now end
local is_too_big, without_room_ms = false, tonumber(ARGV[10])
if without_room_ms > 0 then
  local full_since, times, full_last = string.match(r[3] or '', '^(%d+) (%d+) (%d+)$')
  if tonumber(full_last) ~= before then full_since, times = now, 0 end
  redis.call('HSET', k, 'no_room', full_since .. ' ' .. times + 1 .. ' ' .. attempt)
  is_too_big = times + 1 >= tonumber(ARGV[11]) and now - tonumber(full_since) >= without_room_ms
end
if is_too_big or (is_unwanted and not has_cursor(id)) or now - tonumber(since) >= tonumber(ARGV[is_unwanted and 8 or 7]) then
  local status, how, dead = 'failed', 'dead', 1
  if is_unwanted then status, how, dead = 'cancelled', 'cancelled', 0 end
  local rung = finalise(id, status, ARGV[9], {error = ARGV[4], dead = dead, ended_by = attempt})
  table.insert(rung, 1, how)
  return rung
end
redis.call('HINCRBY', k, 'tries', -1)
redis.call('HSET', k, 'passed_on', since .. ' ' .. attempt, 'handed_back', 0)
-- The longer nobody could, the rarer: many such scans would keep the workers from those that they can do.
local wait_ms = math.floor(math.max(tonumber(ARGV[5]), (now - tonumber(since)) / 4))
wait_again(id, now + math.min(tonumber(ARGV[6]), wait_ms))
redis.call('ZADD', queued_key(id), since, id)  -- it is due: whoever watches the queue sees that nobody can
local rung = release_followers(id, 'queued', redis.call('HGET', k, 'cache_key'), now)  -- they go on without it
table.insert(rung, 1, 'queued')
return rung
