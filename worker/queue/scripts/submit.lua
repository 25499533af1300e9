-- ARGV: ns, id, owner, priority, request, external_id, callback_url, idempotency (hash or ''), body hash, retry_of,
--       ring_after_ms, idempotency_s, max_backlog, max_open
local id, owner, idempotency, hash = ARGV[2], ARGV[3], ARGV[8], ARGV[9]
if redis.call('EXISTS', scan_key(id)) == 1 then return {'again', id} end
if ARGV[10] ~= '' and redis.call('EXISTS', scan_key(ARGV[10])) == 0 then return {'gone', ARGV[10]} end
local purged = redis.call('HGET', scan_key(ARGV[10]), 'purged') or ''
if string.find(purged, id, 1, true) then return {'known', id} end  -- it was there, and its callback's id is used up
local remembered = key('idempotency', owner, idempotency)
if idempotency ~= '' then
  local old = redis.call('GET', remembered)
  if old then
    local its_hash, its_id = string.match(old, '^(%S+) (%S+)$')
    if redis.call('EXISTS', scan_key(its_id)) == 1 then return {its_hash == hash and 'known' or 'conflict', its_id} end
  end
end
if redis.call('ZCARD', key('waiting')) >= tonumber(ARGV[13]) then return {'full', 'backlog'} end
if tonumber(redis.call('HGET', key('open'), owner) or 0) >= tonumber(ARGV[14]) then return {'full', 'owner'} end
local now = now_ms()
redis.call('HSET', scan_key(id), 'id', id, 'owner', owner, 'priority', ARGV[4], 'request', ARGV[5], 'external_id', ARGV[6],
  'callback_url', ARGV[7], 'retry_of', ARGV[10], 'state', 'queued', 'attempt', 0, 'tries', 0, 'created_ms', now,
  'not_before_ms', 0, 'progress', 0, 'dead', 0, 'idempotency', idempotency)
redis.call('ZADD', key('waiting'), now + tonumber(ARGV[11]), id)
redis.call('ZADD', key('queued', ARGV[4]), now, id)
redis.call('ZADD', key('index', owner), now, id)
redis.call('ZADD', key('index'), now, id)
redis.call('HINCRBY', key('open'), owner, 1)
if idempotency ~= '' then redis.call('SET', remembered, hash .. ' ' .. id, 'EX', ARGV[12]) end
return {'new', id}
