-- ARGV: ns, id, attempt, error, retryable (1|0), max_attempts, keep_s, backoff_ms, backoff_max_ms, jitter (0.5 to 1), wait_ms
-- Returns {'again'}, {'failed', scans to ring...}, {'dead', ...}, {'cancelled', ...}, {'ended'} or {'lost'}.
local id, attempt = ARGV[2], ARGV[3]
local k = scan_key(id)
if not holds(id, attempt) then
  local e = redis.call('HMGET', k, 'ended_by', 'state', 'error', 'dead')
  if e[1] ~= attempt then return {'lost'} end
  -- Told the same again, for the answer to the first time was lost: the same answer. Else the attempt had ended in its own way,
  -- and its process died before its parent heard of that: what is told now is news of no scan.
  if e[3] ~= ARGV[4] or e[2] == 'completed' then return {'ended'} end
  return {e[4] == '1' and 'dead' or e[2]}
end
local r = redis.call('HMGET', k, 'cancel', 'tries')
local status, how, dead = 'failed', 'failed', 0
local is_unwanted = r[1] == '1'
-- A watch that has begun ends with its report, also where it is to end: by another attempt.
if ARGV[5] == '1' and (not is_unwanted or has_cursor(id)) and (number(r[2]) or math.huge) < tonumber(ARGV[6]) then
  redis.call('HSET', k, 'error', ARGV[4])
  local longest = tonumber(ARGV[9])
  local delay = math.min(longest, tonumber(ARGV[8]) * 2 ^ math.min(tonumber(r[2]) - 1, 30)) * tonumber(ARGV[10])
  wait_again(id, now_ms() + math.floor(math.max(delay, math.min(longest, tonumber(ARGV[11])))))
  return {'again'}
end
if is_unwanted then
  status, how = 'cancelled', 'cancelled'
elseif ARGV[5] == '1' then
  how, dead = 'dead', 1
end
local rung = finalise(id, status, ARGV[7], {error = ARGV[4], dead = dead, ended_by = attempt})
table.insert(rung, 1, how)
return rung
