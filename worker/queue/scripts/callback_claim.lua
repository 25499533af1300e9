-- Take callbacks that are due: each is this courier's until now + lease_ms, when it is due again by itself.
-- No owner gets more than its share at a time, nor does one receiver of an owner's, a host, more than its own; receivers that
-- have none under way come first, so that of many that hang none has all hands again as soon as a try ends. Where the whole look
-- is full and has not enough of these, what is over is put off, each a little more than the one before, so that the next look sees
-- others' and the owner itself is never without one that is due.
-- On the way, what Redis has forgotten of the oldest dead ones leaves their list, so that nobody counts it.
-- ARGV: ns, lease_ms, how many, an owner's share, a receiver's share, {owner or receiver, how many it has under way here}...
-- Returns {ms until another look is worth it or -1, {event, fence, the how manieth try, owner, url, type, body, ms since it was owed,
-- receiver}...}
local LOOK, APART_MS, FORGOTTEN = 256, 10, 64
local now, wanted, share, receivers = now_ms(), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local under_way, taken, later, over = {}, {}, {}, {}
for _, event in ipairs(redis.call('ZRANGE', key('callbacks', 'dead'), 0, FORGOTTEN - 1)) do
  if redis.call('EXISTS', key('callback', event)) == 0 then redis.call('ZREM', key('callbacks', 'dead'), event) end
end
for i = 6, #ARGV, 2 do under_way[ARGV[i]] = tonumber(ARGV[i + 1]) end
local due = redis.call('ZRANGEBYSCORE', key('callbacks'), '-inf', now, 'LIMIT', 0, LOOK)
local function take(event, owner, receiver)
  local k = key('callback', event)
  local r = redis.call('HMGET', k, 'url', 'type', 'body', 'tries', 'created_ms')
  if not (r[1] and r[2] and r[3]) then
    redis.call('ZREM', key('callbacks'), event)
    return
  end
  for _, name in ipairs({owner, receiver}) do under_way[name] = (under_way[name] or 0) + 1 end
  redis.call('HSET', k, 'state', 'sending')
  local fence = redis.call('HINCRBY', k, 'fence', 1)
  redis.call('ZADD', key('callbacks'), now + tonumber(ARGV[2]), event)
  taken[#taken + 1] = {event, fence, (tonumber(r[4]) or 0) + 1, owner, r[1], r[2], r[3], now - (tonumber(r[5]) or now), receiver}
end
for _, event in ipairs(due) do
  if #taken == wanted then break end
  local r = redis.call('HMGET', key('callback', event), 'owner', 'url')
  local receiver = (r[1] or '') .. ' ' .. string.lower(string.match(r[2] or '', '^[^/]*//([^/?#]*)') or '')
  if not (r[1] and r[2]) then
    redis.call('ZREM', key('callbacks'), event)
  elseif (under_way[r[1]] or 0) < share and (under_way[receiver] or 0) == 0 then
    take(event, r[1], receiver)
  else
    later[#later + 1] = {event, r[1], receiver}
  end
end
local hides_others = #due == LOOK and #taken < wanted
for _, one in ipairs(later) do
  local event, owner, receiver = unpack(one)
  if #taken < wanted and (under_way[owner] or 0) < share and (under_way[receiver] or 0) < receivers then
    take(event, owner, receiver)
  else
    over[#over + 1] = event
  end
end
if hides_others then
  for i, event in ipairs(over) do redis.call('ZADD', key('callbacks'), now + i * APART_MS, event) end
  table.insert(taken, 1, APART_MS)
  return taken
end
local first = redis.call('ZRANGE', key('callbacks'), 0, 0, 'WITHSCORES')
table.insert(taken, 1, first[2] and math.max(tonumber(first[2]) - now, 0) or -1)
return taken
