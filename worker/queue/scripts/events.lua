-- Events of a watch behind the number `after`, the oldest first. ARGV: ns, id, after, limit
-- Returns {how many there ever were, how many of them are kept, event...}
local list = key('events', ARGV[2])
local count, kept = tonumber(redis.call('HGET', scan_key(ARGV[2]), 'events') or 0), redis.call('LLEN', list)
local from = math.max(tonumber(ARGV[3]) + 1 - (count - kept), 0)
local limit = tonumber(ARGV[4])
local found = limit > 0 and from < kept and redis.call('LRANGE', list, from, from + limit - 1) or {}
table.insert(found, 1, kept)
table.insert(found, 1, count)
return found
