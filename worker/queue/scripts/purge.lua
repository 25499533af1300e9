-- Forget a scan that has ended, and what hangs on it. Waiting and running ones are never touched.
-- ARGV: ns, id, owner or '', states, ended before (ms or inf), only dead letters (1|0), really (1|0: only say what would be), a name
-- for this asking: sent again because the answer was lost, it is answered as it was.
-- Returns 'purged', 'kept' or 'gone'. The scan that it was made again of knows the id as used up.
local id, really, told = ARGV[2], ARGV[7] == '1', key('purging', ARGV[8])
local k = scan_key(id)
local r = redis.call('HMGET', k, 'state', 'owner', 'finished_ms', 'dead', 'cache_key', 'idempotency', 'retry_of')
local state, owner = r[1], r[2] or ARGV[3]
local final = state == 'completed' or state == 'failed' or state == 'cancelled'
if state and not (final and string.find(' ' .. ARGV[4] .. ' ', ' ' .. state .. ' ', 1, true)
    and (ARGV[3] == '' or ARGV[3] == owner) and tonumber(r[3]) < tonumber(ARGV[5]) and (ARGV[6] == '0' or r[4] == '1')) then
  return 'kept'
end
if really then
  local callbacks = {'evt_' .. id}
  for number = 0, tonumber(redis.call('HGET', k, 'events') or 0) - 1 do
    callbacks[#callbacks + 1] = 'evt_' .. id .. '_' .. number
  end
  redis.call('DEL', k, key('followers', id), key('cursor', id), key('crops', id), key('events', id))
  local first = scan_key(r[7] or '')
  if redis.call('EXISTS', first) == 1 then
    redis.call('HSET', first, 'purged', (redis.call('HGET', first, 'purged') or '') .. id .. ' ')
  end
  redis.call('ZREM', key('index'), id)
  redis.call('ZREM', key('index', owner), id)
  redis.call('ZREM', key('dead'), id)
  for _, pointer in ipairs({'result', 'lead'}) do
    local name = key(pointer, r[5] or '')
    if redis.call('GET', name) == id then redis.call('DEL', name) end
  end
  local remembered = key('idempotency', owner, r[6] or '')
  local old = redis.call('GET', remembered)
  if old and string.match(old, '%S+$') == id then redis.call('DEL', remembered) end
  for _, event in ipairs(callbacks) do
    local sent = redis.call('HGET', key('callback', event), 'state')
    if sent == 'delivered' or sent == 'dead' then
      redis.call('DEL', key('callback', event))
      redis.call('ZREM', key('callbacks', 'dead'), event)
    end
  end
  if state then
    redis.call('SADD', told, id)
    redis.call('EXPIRE', told, 600)
  end
end
return (state or redis.call('SISMEMBER', told, id) == 1) and 'purged' or 'gone'
