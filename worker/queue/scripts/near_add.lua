-- Make a completed scan's media findable, once. ARGV: ns, id, owner, phash, keep_s, ages, most of one age, bands...
-- A band is three bytes: its number, and 16 bits. Its posting, the newest scans that have it, lies in a hash by the first two bytes,
-- in the field of the third: small hashes, which Redis packs. Ids are 16 bytes each, the newest last.
-- An age ends after its share of keep_s, or when it is full; the one that is then too old is dropped whole.
local id, owner, keep_s, ages, most = ARGV[2], ARGV[3], tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local POSTED = 24
local k = scan_key(id)
if redis.call('HGET', k, 'state') ~= 'completed' then return 0 end
if redis.call('HSETNX', k, 'phash', ARGV[4]) == 0 then return 0 end
local now, state = now_ms(), key('near', owner)
local s = redis.call('HMGET', state, 'age', 'began_ms', 'count')
local age, began, count = tonumber(s[1] or 0), tonumber(s[2] or now), tonumber(s[3] or 0)
if count >= most or now - began >= keep_s * 1000 / ages then
  age, began, count = age + 1, now, 0
  for number = 0, 3 do
    local old = {}
    for byte = 0, 255 do old[#old + 1] = key('near', owner, age - ages, number .. string.format('%02x', byte)) end
    redis.call('UNLINK', unpack(old))
  end
end
redis.call('HSET', k, 'near_age', age)
redis.call('HSET', state, 'age', age, 'began_ms', began, 'count', count + 1)
redis.call('EXPIRE', state, keep_s)
local raw = string.gsub(id, '..', function(two) return string.char(tonumber(two, 16)) end)
for i = 8, #ARGV do
  local number, high, low = string.byte(ARGV[i], 1, 3)
  local posting = key('near', owner, age, number .. string.format('%02x', high))
  local field = string.char(low)
  local ids = (redis.call('HGET', posting, field) or '') .. raw
  redis.call('HSET', posting, field, string.sub(ids, -16 * POSTED))
  redis.call('EXPIRE', posting, keep_s)
end
return 1
