-- Dead callbacks of an owner ('': of anybody) are due again, their tries at nought; how many of these were. ARGV: ns, owner, event...
local count = 0
for i = 3, #ARGV do
  local event, k = ARGV[i], key('callback', ARGV[i])
  local r = redis.call('HMGET', k, 'state', 'owner')
  if r[1] == 'dead' and (ARGV[2] == '' or r[2] == ARGV[2]) then
    redis.call('PERSIST', k)
    redis.call('ZREM', key('callbacks', 'dead'), event)
    redis.call('HSET', k, 'state', 'waiting', 'tries', 0)
    redis.call('ZADD', key('callbacks'), now_ms(), event)
    count = count + 1
  end
end
return count
