-- A window of a watch is over: its cursor and its events, once. An attempt that ends after a window is as good as the first.
-- ARGV: ns, id, attempt, window, cursor, progress, events kept, {number, kind, event, data of its callback or ''}...
-- Returns 'held', 'cancel', 'lost', or 'gap' where window or events are not the next ones: then nothing is written.
local id, window = ARGV[2], tonumber(ARGV[4])
local k = scan_key(id)
if not holds(id, ARGV[3]) then return 'lost' end
local r = redis.call('HMGET', k, 'windows', 'events', 'cancel', 'callback_url', 'owner')
local windows, events = tonumber(r[1] or 0), tonumber(r[2] or 0)
local told = r[3] == '1' and 'cancel' or 'held'
if window < windows then return told end  -- its answer was lost, and it was sent again
if window > windows then return 'gap' end
for i = 8, #ARGV, 4 do
  if tonumber(ARGV[i]) ~= events + (i - 8) / 4 then return 'gap' end
end
local now = now_ms()
for i = 8, #ARGV, 4 do
  redis.call('RPUSH', key('events', id), ARGV[i + 2])
  if ARGV[i + 3] ~= '' and r[4] and r[4] ~= '' then
    local kind = 'scan.' .. ARGV[i + 1]
    -- Put together as text: decoded and encoded again, an empty list would become an object.
    local body = '{"type":"' .. kind .. '","timestamp":"' .. iso(now) .. '","data":' .. ARGV[i + 3] .. '}'
    owe('evt_' .. id .. '_' .. ARGV[i], id, r[5], r[4], kind, body, now)
  end
  events = events + 1
end
redis.call('LTRIM', key('events', id), -tonumber(ARGV[7]), -1)
redis.call('SET', key('cursor', id), ARGV[5])
redis.call('HDEL', k, 'passed_on', 'no_room')
redis.call('HSET', k, 'windows', window + 1, 'events', events, 'progress', ARGV[6], 'stage', 'watch', 'tries', 1)
return told
