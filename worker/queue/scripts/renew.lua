-- ARGV: ns, id, attempt, lease_ms
if not holds(ARGV[2], ARGV[3]) then return 'lost' end
redis.call('ZADD', key('leases'), now_ms() + tonumber(ARGV[4]), ARGV[2])
if redis.call('HGET', scan_key(ARGV[2]), 'cancel') == '1' then return 'cancel' end
return 'held'
