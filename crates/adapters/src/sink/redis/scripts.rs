//! What runs inside the server, where looking and writing must be one step. Sent whole each time: a kilobyte beside a
//! batch of results, and nothing to do when a server has forgotten its scripts.

/// Appends the results of one shard, each camera's only above the last id that it has shown.
///
/// KEYS: stream, last ids by camera. ARGV: entries to keep (0: all), values of an entry, the entry's field names; then
/// for each result: camera, id (40 digits, or empty if it has none), values.
///
/// Ids are compared as texts of one length: Lua's numbers do not hold 64 bits.
pub(super) const APPEND: &str = r"
local keep, width = ARGV[1], tonumber(ARGV[2])
local last, written = {}, 0
for at = 3 + width, #ARGV, 2 + width do
  local camera, id = ARGV[at], ARGV[at + 1]
  local fresh = true
  if id ~= '' then
    local before = last[camera] or redis.call('HGET', KEYS[2], camera) or ''
    fresh = id > before
    last[camera] = fresh and id or before
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
    redis.call(unpack(entry))
    written = written + 1
  end
end
for camera, id in pairs(last) do
  redis.call('HSET', KEYS[2], camera, id)
end
return written
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
