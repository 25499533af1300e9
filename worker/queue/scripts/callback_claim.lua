-- Take callbacks that are due: each is this courier's until now + lease_ms, when it is due again by itself.
-- No owner gets more than its share at a time; what is over waits, and a slow owner's is put off, out of the others' way.
-- ARGV: ns, lease_ms, how many, an owner's share, {owner, how many it has under way here, 1 if slow}...
-- Returns {ms until the next is due or -1, {event, fence, tries, owner, url, type, body}...}
local now, wanted, share = now_ms(), tonumber(ARGV[3]), tonumber(ARGV[4])
local under_way, slow = {}, {}
for i = 5, #ARGV, 3 do under_way[ARGV[i]], slow[ARGV[i]] = tonumber(ARGV[i + 1]), ARGV[i + 2] == '1' end
local taken = {}
for _, event in ipairs(redis.call('ZRANGEBYSCORE', key('callbacks'), '-inf', now, 'LIMIT', 0, 64)) do
  if #taken == wanted then break end
  local k = key('callback', event)
  local r = redis.call('HMGET', k, 'owner', 'url', 'type', 'body')
  if not (r[1] and r[2] and r[3] and r[4]) then
    redis.call('ZREM', key('callbacks'), event)
  elseif (under_way[r[1]] or 0) >= share then
    if slow[r[1]] then redis.call('ZADD', key('callbacks'), now + 1000, event) end
  else
    under_way[r[1]] = (under_way[r[1]] or 0) + 1
    redis.call('HSET', k, 'state', 'sending')
    local fence, tries = redis.call('HINCRBY', k, 'fence', 1), redis.call('HINCRBY', k, 'tries', 1)
    redis.call('ZADD', key('callbacks'), now + tonumber(ARGV[2]), event)
    taken[#taken + 1] = {event, fence, tries, r[1], r[2], r[3], r[4]}
  end
end
local first = redis.call('ZRANGE', key('callbacks'), 0, 0, 'WITHSCORES')
table.insert(taken, 1, first[2] and math.max(tonumber(first[2]) - now, 0) or -1)
return taken
