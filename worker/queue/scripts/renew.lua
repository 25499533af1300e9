-- ARGV: ns, id, attempt, lease_ms, worker
-- A Redis that has lost what it answered last (a failover, a power cut) gives the number of an attempt out once more.
if not holds(ARGV[2], ARGV[3]) or redis.call('HGET', scan_key(ARGV[2]), 'worker') ~= ARGV[5] then return 'lost' end
redis.call('ZADD', key('leases'), now_ms() + tonumber(ARGV[4]), ARGV[2])
if redis.call('HGET', scan_key(ARGV[2]), 'cancel') == '1' then return 'cancel' end
return 'held'
