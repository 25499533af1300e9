-- Forget a scan that has ended, and what hangs on it. Waiting and running ones are never touched.
-- ARGV: ns, id, owner or '', states, ended before (ms or inf), only dead letters (1|0), really (1|0: only say what would be), a name
-- for this asking (sent again because the answer was lost, it is answered as it was), ages of the index of near media
-- Returns 'purged', 'kept', or 'gone': Redis has forgotten it by itself, and only lists named it still.
-- The scan that it was made again of knows the id as used up.
local id, really, told = ARGV[2], ARGV[7] == '1', key('purging', ARGV[8])
local k = scan_key(id)
local r = redis.call('HMGET', k, 'state', 'owner', 'finished_ms', 'dead', 'cache_key', 'idempotency', 'retry_of', 'phash', 'near_age')
local state, owner = r[1], r[2] or ARGV[3]

-- The scan's places in the index of near media (see near_add.lua): from them its hash could be put together again.
local function leave_near(phash, its_age, ages)
  local newest = tonumber(its_age or redis.call('HGET', key('near', owner), 'age') or -1)
  local oldest = its_age and newest or math.max(0, newest - ages + 1)  -- records of before do not tell their age
  local raw = string.gsub(id, '..', function(two) return string.char(tonumber(two, 16)) end)
  for hash in string.gmatch(phash, string.rep('%x', 16)) do
    for number = 0, 3 do
      local high, low = string.match(hash, '(%x%x)(%x%x)', 13 - 4 * number)
      local field = string.char(tonumber(low, 16))
      for age = oldest, newest do
        local posting = key('near', owner, age, number .. high)
        local ids = redis.call('HGET', posting, field) or ''
        if string.find(ids, raw, 1, true) then
          local left = {}
          for at = 1, #ids, 16 do
            local one = string.sub(ids, at, at + 15)
            if one ~= raw then left[#left + 1] = one end
          end
          if #left == 0 then redis.call('HDEL', posting, field) else redis.call('HSET', posting, field, table.concat(left)) end
        end
      end
    end
  end
end

local final = state == 'completed' or state == 'failed' or state == 'cancelled'
if state and not (final and string.find(' ' .. ARGV[4] .. ' ', ' ' .. state .. ' ', 1, true)
    and (ARGV[3] == '' or ARGV[3] == owner) and tonumber(r[3]) < tonumber(ARGV[5]) and (ARGV[6] == '0' or r[4] == '1')) then
  return 'kept'
end
if not really then return state and 'purged' or 'gone' end
redis.call('ZREM', key('index'), id)
redis.call('ZREM', key('index', owner), id)
redis.call('ZREM', key('dead'), id)
if not state then return redis.call('SISMEMBER', told, id) == 1 and 'purged' or 'gone' end
local callbacks = {'evt_' .. id}
for number = 0, tonumber(redis.call('HGET', k, 'events') or 0) - 1 do
  callbacks[#callbacks + 1] = 'evt_' .. id .. '_' .. number
end
redis.call('DEL', k, key('followers', id), key('cursor', id), key('crops', id), key('events', id))
leave_near(r[8] or '', r[9], tonumber(ARGV[9]))  -- behind the first deletion: a full Redis lets a script write only then
local first = scan_key(r[7] or '')
if redis.call('EXISTS', first) == 1 then
  redis.call('HSET', first, 'purged', (redis.call('HGET', first, 'purged') or '') .. id .. ' ')
end
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
redis.call('SADD', told, id)
redis.call('EXPIRE', told, 600)
return 'purged'
