-- Crops that a slice of a watch has kept. ARGV: ns, id, attempt, names...
-- Returns 'held', or 'lost': nothing would remove what is noted after the watch's end.
if not holds(ARGV[2], ARGV[3]) then return 'lost' end
for i = 4, #ARGV do redis.call('SADD', key('crops', ARGV[2]), ARGV[i]) end
return 'held'
