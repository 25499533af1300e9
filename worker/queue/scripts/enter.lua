-- ARGV: ns, id, attempt, stage, progress
if not holds(ARGV[2], ARGV[3]) then return 'lost' end
redis.call('HSET', scan_key(ARGV[2]), 'stage', ARGV[4], 'progress', ARGV[5])
if redis.call('HGET', scan_key(ARGV[2]), 'cancel') == '1' then return 'cancel' end
return 'held'
