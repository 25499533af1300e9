-- Take callbacks that are due: each is this courier's until now + lease_ms, when it is due again by itself.
-- No owner gets more than its share at a time, nor does one receiver of an owner's, a host, more than its own. Where what is over
-- fills the whole look and hands stay free, it is put off, each a little more than the one before, so that the next look sees
-- others' and the owner itself is never without one that is due.
-- On the way, what Redis has forgotten of the oldest dead ones leaves their list, so that nobody counts it.
-- ARGV: ns, lease_ms, how many, an owner's share, a receiver's share, {owner or receiver, how many it has under way here}...
-- Returns {ms until another look is worth it or -1, {event, fence, the how manieth try, owner, url, type, body, ms since it was owed,
-- receiver}...}
local LOOK, APART_MS, FORGOTTEN = 256, 10, 64
local now, wanted, share, receivers = now_ms(), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local under_way, taken, over = {}, {}, {}
for _, event in ipairs(redis.call('ZRANGE', key('callbacks', 'dead'), 0, FORGOTTEN - 1)) do
  if redis.call('EXISTS', key('callback', event)) == 0 then redis.call('ZREM', key('callbacks', 'dead'), event) end
end
for i = 6, #ARGV, 2 do under_way[ARGV[i]] = tonumber(ARGV[i + 1]) end
local due = redis.call('ZRANGEBYSCORE', key('callbacks'), '-inf', now, 'LIMIT', 0, LOOK)
for _, event in ipairs(due) do
  if #taken == wanted then break end
  local k = key('callback', event)
  local r = redis.call('HMGET', k, 'owner', 'url', 'type', 'body', 'tries', 'created_ms')
  local receiver = (r[1] or '') .. ' ' .. string.lower(string.match(r[2] or '', '^[^/]*//([^/?#]*)') or '')
  if not (r[1] and r[2] and r[3] and r[4]) then
    redis.call('ZREM', key('callbacks'), event)
  elseif (under_way[r[1]] or 0) >= share or (under_way[receiver] or 0) >= receivers then
    over[#over + 1] = event
  else
    for _, name in ipairs({r[1], receiver}) do under_way[name] = (under_way[name] or 0) + 1 end
    redis.call('HSET', k, 'state', 'sending')
    local fence = redis.call('HINCRBY', k, 'fence', 1)
    redis.call('ZADD', key('callbacks'), now + tonumber(ARGV[2]), event)
    taken[#taken + 1] = {event, fence, (tonumber(r[5]) or 0) + 1, r[1], r[2], r[3], r[4], now - (tonumber(r[6]) or now),
      receiver}
  end
end
if #due == LOOK and #taken < wanted then
  for i, event in ipairs(over) do redis.call('ZADD', key('callbacks'), now + i * APART_MS, event) end
  table.insert(taken, 1, APART_MS)
  return taken
end
local first = redis.call('ZRANGE', key('callbacks'), 0, 0, 'WITHSCORES')
table.insert(taken, 1, first[2] and math.max(tonumber(first[2]) - now, 0) or -1)
return taken
