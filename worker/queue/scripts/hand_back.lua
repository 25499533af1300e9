-- Not the scan's fault: the attempt is not counted. ARGV: ns, id, attempt
if not holds(ARGV[2], ARGV[3]) then return 'lost' end
redis.call('HINCRBY', scan_key(ARGV[2]), 'tries', -1)
wait_again(ARGV[2], now_ms())
return 'queued'
