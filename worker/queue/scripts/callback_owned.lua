-- Those of these callbacks that are still there and the owner's ('': anybody's). ARGV: ns, owner, event...
local found = {}
for i = 3, #ARGV do
  local owner = redis.call('HGET', key('callback', ARGV[i]), 'owner')
  if owner and (ARGV[2] == '' or owner == ARGV[2]) then found[#found + 1] = ARGV[i] end
end
return found
