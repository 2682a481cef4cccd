//! Live cameras that have more than their reader wants: the newest entry alone is transferred, and how many it has
//! overtaken is counted where they lie.
//!
//! A short script does it for many streams at once: Redis knows how far the group is behind (`lag`), so the skip costs
//! the same however much is skipped. (Of a group that has read nothing yet, what it would have read by now is asked of the
//! stream, once.) Where it does not know (before 7.0, or after deletions) the script reads on behalf
//! of the group, in bounded steps, and gives out the last entry only.

use omma_frame::Arrival;

use super::entries::{Entry, EntryReader};
use super::rhythm::{Pace, Rhythm};
use super::stream::{Cursor, Stream};
use crate::redis::link::{Commands, Head, Replies, ReplyError};

/// Entries that one call may read over for a stream whose lag is not known.
const STEPS: &[u8] = b"1000";

/// Gives for each stream that had something: its place, how many entries nobody else will see, and the newest. A stream
/// that fails gives its place and what was wrong.
const SKIP: &[u8] = b"
local out = {}
for place, key in ipairs(KEYS) do
  local groups = redis.pcall('XINFO', 'GROUPS', key)
  local lag, read = nil, nil
  if groups.err then
    out[#out + 1] = {place, string.find(groups.err, 'no such key', 1, true) and 'NOGROUP' or groups.err}
  else
    for _, fields in ipairs(groups) do
      local group = {}
      for at = 1, #fields, 2 do group[fields[at]] = fields[at + 1] end
      if group['name'] == ARGV[1] then lag, read = group['lag'] or -1, group['entries-read'] end
    end
    if lag == nil then
      out[#out + 1] = {place, 'NOGROUP'}
    elseif lag ~= 0 and lag ~= -1 then
      local newest = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)
      if newest[1] then
        local added = read and read + lag
        if not added then
          local stream = redis.call('XINFO', 'STREAM', key)
          for at = 1, #stream, 2 do
            if stream[at] == 'entries-added' then added = stream[at + 1] end
          end
        end
        redis.call('XGROUP', 'SETID', key, ARGV[1], newest[1][1], 'ENTRIESREAD', added)
        out[#out + 1] = {place, lag, newest[1]}
      end
    elseif lag ~= 0 then
      local count, last = 0, nil
      repeat
        local got = redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', 100, 'NOACK', 'STREAMS', key, '>')
        local entries = got and got[1] and got[1][2] or {}
        count = count + #entries
        last = entries[#entries] or last
      until #entries < 100 or count >= tonumber(ARGV[3])
      if last then out[#out + 1] = {place, count, last} end
    end
  end
end
return out";

/// A camera that is so little behind is read like any other again.
const CAUGHT_UP: usize = 2;

/// Adds the call for streams of one place. `streams` is not empty.
pub(super) fn ask(commands: &mut Commands, group: &[u8], consumer: &[u8], streams: &[&Stream]) {
    let Some(first) = streams.first() else { return };
    commands.begin(first.place, 3 + streams.len() + 3).arg(b"EVAL").arg(SKIP).number(streams.len() as u64);
    for stream in streams {
        commands.arg(&stream.key);
    }
    commands.arg(group).arg(consumer).arg(STEPS);
}

/// What became of one stream of the call.
pub(super) enum Skipped {
    /// Its newest entry, with the entries before it as overtaken.
    Frame(Box<Arrival>),
    Failed(String),
}

/// Reads the answer: by place in the call what became of those streams that had something.
pub(super) fn hear(
    replies: &mut Replies,
    reader: &mut EntryReader,
    streams: &mut [Stream],
    rhythms: &mut [Rhythm],
    asked: &[u32],
    pace: Pace,
    take: &mut dyn FnMut(u32, Skipped),
) -> Result<(), ReplyError> {
    let odd = |found: Head| Err(ReplyError::Protocol(format!("{found:?} in answer to a script")));
    let count = match replies.head()? {
        Head::Array(count) => count,
        other => return odd(other),
    };
    let mut quiet = vec![true; asked.len()];
    for _ in 0..count {
        let pieces = match replies.head()? {
            Head::Array(pieces @ (2 | 3)) => pieces,
            other => return odd(other),
        };
        let place = match replies.head()? {
            Head::Int(place) => usize::try_from(place - 1).ok().filter(|&place| place < asked.len()),
            other => return odd(other),
        };
        let Some(place) = place else { return odd(Head::Nil) };
        quiet[place] = false;
        let position = asked[place];
        let stream = &mut streams[position as usize];
        if pieces == 2 {
            let text = match replies.head()? {
                Head::Bulk(length) => replies.short(length)?.map(|text| String::from_utf8_lossy(text).into_owned()),
                other => return odd(other),
            };
            take(position, Skipped::Failed(text.unwrap_or_default()));
            continue;
        }
        let overtaking = match replies.head()? {
            Head::Int(lag) => usize::try_from(lag).unwrap_or(1),
            other => return odd(other),
        };
        if let Some(Entry::Frame(id, mut arrival)) = reader.entry(replies, stream.camera)? {
            // Entries that were trimmed before they could be read count too: they were overtaken all the same.
            arrival.overtaken = overtaking.saturating_sub(1) as u64;
            stream.last = stream.last.max(id);
            stream.read_to_end = Some(pace.now);
            stream.is_well();
            let rhythm = &mut rhythms[position as usize];
            rhythm.came(id.0);
            rhythm.found(pace);
            if overtaking <= CAUGHT_UP {
                stream.cursor = Cursor::New;
            }
            take(position, Skipped::Frame(Box::new(arrival)));
        }
    }
    for (&position, _) in asked.iter().zip(&quiet).filter(|(_, quiet)| **quiet) {
        streams[position as usize].cursor = Cursor::New;
        streams[position as usize].read_to_end = Some(pace.now);
        rhythms[position as usize].missed(pace);
    }
    Ok(())
}
