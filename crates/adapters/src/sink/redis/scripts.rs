//! What runs inside the server, where looking and writing must be one step. Sent whole each time: a kilobyte beside a
//! batch of results, and nothing to do when a server has forgotten its scripts.

/// Appends the results of one shard, each once.
///
/// KEYS: stream, what is remembered beside it. ARGV: entries to keep (0: all), values of an entry, the entry's field
/// names; then for each result: camera, id (empty if it has none), values.
///
/// Of each camera the last 1,024 ids that were written are remembered, as a list whose last is the highest. What is above
/// that is new; of what is not, only a look into the list can tell what comes again from what comes late. An id is
/// remembered before its result is written, and forgotten if that is refused: whoever may do only one of the two does
/// neither. The lists' names begin with the second key's, so that they lie in the stream's slot of a cluster.
///
/// Ids are compared as texts: Lua's numbers do not hold 64 bits.
pub(super) const APPEND: &str = r"
local keep, width = ARGV[1], tonumber(ARGV[2])
local function above(one, other)
  local a, b = string.match(one, '^%d+'), string.match(other, '^%d+')
  if a == b then
    a, b = string.match(one, '%d+$'), string.match(other, '%d+$')
  end
  return #a > #b or (#a == #b and a > b)
end
local lists = {}
for at = 3 + width, #ARGV, 2 + width do
  local id, list, fresh, late = ARGV[at + 1], KEYS[2] .. ':' .. ARGV[at], true, false
  if id ~= '' then
    local last = redis.call('LINDEX', list, -1)
    if not last or above(id, last) then
      redis.call('RPUSH', list, id)
    elseif id ~= last and not redis.call('LPOS', list, id, 'RANK', -1) then
      late = last
      redis.call('RPUSH', list, last)
      redis.call('LSET', list, -2, id)
    else
      fresh = false
    end
    lists[list] = true
  end
  if fresh then
    local entry = {'XADD', KEYS[1]}
    if keep ~= '0' then
      entry[3], entry[4], entry[5] = 'MAXLEN', '~', keep
    end
    entry[#entry + 1] = '*'
    for n = 1, width do
      entry[#entry + 1] = ARGV[2 + n]
      entry[#entry + 1] = ARGV[at + 1 + n]
    end
    local said = redis.pcall(unpack(entry))
    if said.err then
      if id ~= '' then
        redis.call('RPOP', list)
      end
      if late then
        redis.call('LSET', list, -1, late)
      end
      return said
    end
  end
end
for list in pairs(lists) do
  if redis.call('LLEN', list) > 1100 then
    redis.call('LTRIM', list, -1024, -1)
  end
  redis.call('PEXPIRE', list, 604800000)
end
return 1
";

/// Appends a result behind later ones of its camera, once. Its own id is below the stream's last, so it gets the
/// smallest that is above, and `entry` tells its own.
///
/// KEYS: stream, ids that came late. ARGV: id, its milliseconds, entries to keep (0: all), then names and values.
pub(super) const APPEND_LATE: &str = r"
if redis.call('ZADD', KEYS[2], 'NX', ARGV[2], ARGV[1]) == 0 then
  return 0
end
redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -10001)
redis.call('PEXPIRE', KEYS[2], 86400000)
local info, last = redis.call('XINFO', 'STREAM', KEYS[1]), '0-0'
for at = 1, #info, 2 do
  if info[at] == 'last-generated-id' then
    last = info[at + 1]
  end
end
local ms, seq = string.match(last, '^(%d+)-(%d+)$')
local entry = {'XADD', KEYS[1]}
if ARGV[3] ~= '0' then
  entry[3], entry[4], entry[5] = 'MAXLEN', '~', ARGV[3]
end
entry[#entry + 1] = ms .. '-' .. string.format('%.0f', tonumber(seq) + 1)
for at = 4, #ARGV do
  entry[#entry + 1] = ARGV[at]
end
entry[#entry + 1] = 'entry'
entry[#entry + 1] = ARGV[1]
redis.call(unpack(entry))
return 1
";
