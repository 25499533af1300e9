-- Put entries of the audit log into their owners' lists; none where another reader has done so since.
-- ARGV: ns, up to which entry all were in lists ('': none), {owner, entry}... in the log's order
if (redis.call('GET', key('decided')) or '') ~= ARGV[2] then return 0 end
for i = 3, #ARGV, 2 do redis.call('RPUSH', key('decided', ARGV[i]), ARGV[i + 1]) end
redis.call('SET', key('decided'), ARGV[#ARGV])
return 1
