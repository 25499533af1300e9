-- Take callbacks that are due: each is this courier's until now + lease_ms, when it is due again by itself.
-- ARGV: ns, lease_ms, how many, owners that have enough under way here...
-- Returns {ms until the next is due or -1, {event, fence, tries, owner, url, type, body}...}
local now, wanted = now_ms(), tonumber(ARGV[3])
local busy = {}
for i = 4, #ARGV do busy[ARGV[i]] = true end
local taken = {}
for _, event in ipairs(redis.call('ZRANGEBYSCORE', key('callbacks'), '-inf', now, 'LIMIT', 0, 64)) do
  if #taken == wanted then break end
  local k = key('callback', event)
  local r = redis.call('HMGET', k, 'owner', 'url', 'type', 'body')
  if not r[1] then
    redis.call('ZREM', key('callbacks'), event)
  elseif busy[r[1]] then
    redis.call('ZADD', key('callbacks'), now + 1000, event)
  else
    redis.call('HSET', k, 'state', 'sending')
    local fence, tries = redis.call('HINCRBY', k, 'fence', 1), redis.call('HINCRBY', k, 'tries', 1)
    redis.call('ZADD', key('callbacks'), now + tonumber(ARGV[2]), event)
    taken[#taken + 1] = {event, fence, tries, r[1], r[2], r[3], r[4]}
  end
end
local first = redis.call('ZRANGE', key('callbacks'), 0, 0, 'WITHSCORES')
table.insert(taken, 1, first[2] and math.max(tonumber(first[2]) - now, 0) or -1)
return taken
