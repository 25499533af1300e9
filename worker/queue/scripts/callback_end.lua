-- What came of a try; refused where another courier has taken the callback since.
-- The try counts, also one that failed before it was sent.
-- ARGV: ns, event, fence, outcome (delivered, again, dead), wait_ms, error, keep_s of the outcome, tries
local event, k = ARGV[2], key('callback', ARGV[2])
local r = redis.call('HMGET', k, 'fence', 'state')
if r[1] ~= ARGV[3] then return 'lost' end
if r[2] ~= 'sending' then return 'ended' end
local now = now_ms()
redis.call('HSET', k, 'last_error', ARGV[6], 'tries', ARGV[8])
if ARGV[4] == 'again' then
  redis.call('HSET', k, 'state', 'waiting')
  redis.call('ZADD', key('callbacks'), now + tonumber(ARGV[5]), event)
  return 'ended'
end
redis.call('HSET', k, 'state', ARGV[4], 'ended_ms', now)
redis.call('ZREM', key('callbacks'), event)
redis.call('EXPIRE', k, ARGV[7])
if ARGV[4] == 'dead' then redis.call('ZADD', key('callbacks', 'dead'), now, event) end
return 'ended'
