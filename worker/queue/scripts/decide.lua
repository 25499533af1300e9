-- A human's word on some bytes, or on a part of them: over every result of the owner's for it, into the log of all, and, if all
-- before it are there, into the list of the owner's; nothing where the word that holds is the same, said of the same scan, or where this is sent again
-- because its answer was lost: others may have had their say since.
-- ARGV: ns, owner, sha256, what is laid over results, with its scan, the log's entry, how many are kept of one content, a name for this word,
-- the part that it is about (none: the whole)
local owner, sha256 = ARGV[2], ARGV[3]
local holds, latest = key('override', owner, sha256, ARGV[8]), key('decisions', owner, sha256)
if not redis.call('SET', key('said', ARGV[7]), '', 'NX', 'EX', 600) then return false end
if redis.call('GET', holds) == ARGV[4] then return false end
redis.call('SET', holds, ARGV[4])
local last = redis.call('XREVRANGE', key('audit'), '+', '-', 'COUNT', 1)[1]
local is_whole = (last and last[1] or false) == redis.call('GET', key('decided'))
local number = redis.call('XADD', key('audit'), '*', 'decision', ARGV[5])
redis.call('XADD', latest, 'MAXLEN', ARGV[6], '*', 'decision', ARGV[5])
if is_whole then
  redis.call('RPUSH', key('decided', owner), number)
  redis.call('SET', key('decided'), number)
end
return number
