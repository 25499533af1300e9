-- ARGV: ns, id, attempt, status, report, summary, error, keep_s, cache_s
-- Returns {'finished', scans to ring...}, {'lost'}; told twice by one attempt, the second changes nothing.
local id, attempt, status = ARGV[2], ARGV[3], ARGV[4]
local k = scan_key(id)
if not holds(id, attempt) then
  if redis.call('HGET', k, 'ended_by') == attempt then return {'finished'} end
  return {'lost'}
end
local cache_key = redis.call('HGET', k, 'cache_key')
-- Only who led stores its result for others: one that was taken over does not make it younger.
if status == 'completed' and cache_key and cache_key ~= '' and tonumber(ARGV[9]) > 0
  and redis.call('GET', key('lead', cache_key)) == id then
  redis.call('SET', key('result', cache_key), id, 'EX', ARGV[9])
end
local rung = finalise(id, status, ARGV[8], {report = ARGV[5], summary = ARGV[6], error = ARGV[7], ended_by = attempt})
table.insert(rung, 1, 'finished')
return rung
