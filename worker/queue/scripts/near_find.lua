-- The scans of an owner that have most of these bands: {id, phash, finished_ms} each, those with the most first, the newest first
-- among equals. Scans that are gone are left out. ARGV: ns, owner, ages, most of them, bands...
local owner, ages, most = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local newest = tonumber(redis.call('HGET', key('near', owner), 'age') or -1)
local hits, order, found = {}, {}, {}
for age = newest, math.max(0, newest - ages + 1), -1 do
  for i = 5, #ARGV do
    local number, high, low = string.byte(ARGV[i], 1, 3)
    local ids = redis.call('HGET', key('near', owner, age, number .. string.format('%02x', high)), string.char(low)) or ''
    for at = #ids - 15, 1, -16 do
      local raw = string.sub(ids, at, at + 15)
      if not hits[raw] then
        hits[raw] = 0
        found[#found + 1] = raw
        order[raw] = #found
      end
      hits[raw] = hits[raw] + 1
    end
  end
end
table.sort(found, function(a, b)
  if hits[a] ~= hits[b] then return hits[a] > hits[b] end
  return order[a] < order[b]
end)
local told = {}
for i = 1, math.min(#found, 4 * most) do
  local id = string.gsub(found[i], '.', function(byte) return string.format('%02x', string.byte(byte)) end)
  local r = redis.call('HMGET', scan_key(id), 'state', 'owner', 'phash', 'finished_ms')
  if r[1] == 'completed' and r[2] == owner and r[3] then
    told[#told + 1] = {id, r[3], r[4]}
    if #told == most then break end
  end
end
return told
