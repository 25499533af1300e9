-- Drop from a list of scans, oldest first, what Redis has forgotten by itself.
-- ARGV: ns, list, from which place on, so many are looked at, only those listed before (ms)
-- Returns {how many were looked at, how many of them were dropped}.
local name, first = key(ARGV[2]), tonumber(ARGV[3])
local looked_at, gone = 0, {}
local found = redis.call('ZRANGE', name, first, first + tonumber(ARGV[4]) - 1, 'WITHSCORES')
for i = 1, #found, 2 do
  if tonumber(found[i + 1]) >= tonumber(ARGV[5]) then break end
  looked_at = looked_at + 1
  if redis.call('EXISTS', scan_key(found[i])) == 0 then gone[#gone + 1] = found[i] end
end
if #gone > 0 then redis.call('ZREM', name, unpack(gone)) end
return {looked_at, #gone}
