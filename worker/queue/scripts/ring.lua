-- Doorbells as RQ keeps its jobs: a hash, and the id at the end of the queue's list.
-- ARGV: the set of RQ's queues, the queue's list, RQ's prefix of jobs, ttl_s, a job's data before its id, and after it,
--       how many names and values of further fields, those, ids...
local queue, prefix, ttl, before, after, count = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7])
local hash = {'HSET', '', 'data', ''}
for i = 8, 7 + count do hash[#hash + 1] = ARGV[i] end
redis.call('SADD', ARGV[1], queue)
for i = 8 + count, #ARGV do
  hash[2], hash[4] = prefix .. ARGV[i], before .. ARGV[i] .. after
  redis.call(unpack(hash))
  redis.call('EXPIRE', hash[2], ttl)
  redis.call('RPUSH', queue, ARGV[i])
end
