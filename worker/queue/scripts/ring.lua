-- Doorbells as RQ keeps its jobs: a hash, and the id at an end of the queue's list.
-- ARGV: RPUSH or LPUSH, the set of RQ's queues, the queue's list, RQ's prefix of jobs, ttl_s, a job's data before its id, and
--       after it, how many names and values of further fields, those, ids...
local queue, prefix, ttl, before, after, count = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7], tonumber(ARGV[8])
local hash = {'HSET', '', 'data', ''}
for i = 9, 8 + count do hash[#hash + 1] = ARGV[i] end
redis.call('SADD', ARGV[2], queue)
for i = 9 + count, #ARGV do
  hash[2], hash[4] = prefix .. ARGV[i], before .. ARGV[i] .. after
  redis.call(unpack(hash))
  redis.call('EXPIRE', hash[2], ttl)
  redis.call(ARGV[1], queue, ARGV[i])
end
