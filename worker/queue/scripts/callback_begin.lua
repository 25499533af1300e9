-- Count a try, now that it is about to be sent; refused where another courier has taken the callback since. Run twice, it counts once.
-- ARGV: ns, event, fence, tries. Returns the time (ms), or 0
local k = key('callback', ARGV[2])
if redis.call('HGET', k, 'fence') ~= ARGV[3] then return 0 end
redis.call('HSET', k, 'tries', ARGV[4])
return now_ms()
