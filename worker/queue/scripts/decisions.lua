-- Those of these entries of the audit log that are still there, as JSON. ARGV: ns, entry...
local found = {}
for i = 2, #ARGV do
  local entry = redis.call('XRANGE', key('audit'), ARGV[i], ARGV[i])[1]
  if entry then found[#found + 1] = entry[2][2] end
end
return found
