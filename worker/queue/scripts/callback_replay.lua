-- A dead callback is due again, its tries at nought. ARGV: ns, event
local event, k = ARGV[2], key('callback', ARGV[2])
if redis.call('HGET', k, 'state') ~= 'dead' then return 0 end
redis.call('PERSIST', k)
redis.call('ZREM', key('callbacks', 'dead'), event)
redis.call('HSET', k, 'state', 'waiting', 'tries', 0)
redis.call('ZADD', key('callbacks'), now_ms(), event)
return 1
