//! Groups and their pending lists: made where they are missing, taken over where their consumers are gone, looked at from
//! time to time.

use std::time::{Duration, Instant};

use redis::Value;

use super::stream::{Cursor, FIRST};
use super::worker::{Reply, Worker};
use crate::redis::link::{Answer, LinkError, Retry};

/// Groups seen to in one turn.
const OPENED_MAX: usize = 2048;
/// Entries of another consumer taken over by one call; more by the next look.
const CLAIMED: u64 = 1000;
/// Each stream's pending list is looked at about this often.
const LOOK_EACH: Duration = Duration::from_secs(10);
/// Looks are spread over that time.
const LOOK_PAUSE: Duration = Duration::from_millis(250);

impl Worker {
    /// Sees to the groups of streams that are owned and closed.
    pub(super) fn open(&mut self, now: Instant, reply: &mut Reply) {
        if !self.closed {
            return;
        }
        let (mut wanted, mut waiting): (Vec<u32>, bool) = (Vec::new(), false);
        'shards: for shard in 0..self.by_shard.len() {
            if !self.leases.holds(shard as u32, now) {
                continue;
            }
            for &position in &self.by_shard[shard] {
                let stream = &self.streams[position as usize];
                let Cursor::Closed(from) = stream.cursor else { continue };
                // What is in flight would be read again: a frame must not be on its way twice.
                if stream.is_away(now) || (from == FIRST && !stream.is_drained()) || wanted.len() >= OPENED_MAX {
                    waiting = true;
                    if wanted.len() >= OPENED_MAX {
                        break 'shards;
                    }
                    continue;
                }
                wanted.push(position);
            }
        }
        self.closed = waiting;
        if wanted.is_empty() {
            return;
        }
        let keeps_pending = self.keeps_pending();
        self.commands.clear();
        for &position in &wanted {
            self.put_group(position);
            if keeps_pending {
                self.put_claim(position);
            }
        }
        let each = if keeps_pending { 2 } else { 1 };
        let mut made: Vec<(u32, Result<bool, String>)> = Vec::new();
        let mut failed: Option<LinkError> = None;
        self.link.exchange(&self.commands, &mut |number, answer| {
            let (position, claim) = (wanted[number / each], number % each == 1);
            match answer {
                Answer::Reply(replies) => {
                    replies.skip_piece()?;
                    if !claim {
                        made.push((position, Ok(true)));
                    }
                }
                Answer::Refused(text) if claim => {
                    // A stream that is none was refused before; a server without the command says so here.
                    if text.contains("unknown command") {
                        failed =
                            Some(LinkError::of_refusal(&format!("{text}; expected Redis 6.2 or newer, or Valkey")));
                    }
                }
                Answer::Refused(text) if text.starts_with("BUSYGROUP") => made.push((position, Ok(false))),
                Answer::Refused(text) => made.push((position, Err(text.to_owned()))),
                Answer::Lost(error) => failed = Some(error.clone()),
            }
            Ok(())
        });
        self.closed |= made.len() < wanted.len();
        for (position, outcome) in made {
            let stream = &mut self.streams[position as usize];
            let Cursor::Closed(from) = stream.cursor else { continue };
            self.rhythms[position as usize].at_once(now);
            match outcome {
                Ok(_) if !keeps_pending => stream.cursor = Cursor::Skip,
                // Nothing is pending in a group that has just been made. What is in flight is of the one before.
                Ok(true) if stream.in_flight.is_empty() => stream.cursor = Cursor::New,
                Ok(true) => {
                    stream.cursor = Cursor::Closed(FIRST);
                    self.closed = true;
                }
                Ok(false) => stream.cursor = Cursor::History(from),
                Err(text) if stream.found && is_gone(&text) => {
                    stream.cursor = Cursor::Gone;
                    self.discovery.gone.insert(stream.key.clone(), position);
                }
                Err(text) => {
                    let error = LinkError::of_refusal(&text);
                    self.closed = true;
                    let lasting = error.retry == Retry::Never || text.starts_with("NOPERM");
                    if lasting {
                        let (camera, pause) = (stream.camera, stream.leave_alone(now));
                        let key = String::from_utf8_lossy(&stream.key).into_owned();
                        self.say(Some(camera), &format!("stream {key}: {}", error.message), pause, reply);
                    } else {
                        failed = Some(error);
                    }
                }
            }
        }
        reply.more = true;
        if let Some(error) = failed {
            if self.link.is_cluster() {
                for &position in &wanted {
                    if matches!(self.streams[position as usize].cursor, Cursor::Closed(_)) {
                        self.streams[position as usize].leave_alone(now);
                    }
                }
                self.say(None, &error.message, Duration::from_millis(250), reply);
            } else {
                self.fail(&error, now, reply);
            }
        }
    }

    fn put_group(&mut self, position: u32) {
        let stream = &self.streams[position as usize];
        // A group that vanished while it was read is made anew from the start, so that nothing is passed over.
        let start: &[u8] = if self.options.from_start || stream.last != FIRST { b"0" } else { b"$" };
        let group = self.options.group.as_bytes();
        let create: [&[u8]; 6] = [b"XGROUP", b"CREATE", &stream.key, group, start, b"MKSTREAM"];
        // A camera that was found and whose stream is gone is one that has left: it is not made for ever.
        self.commands.push(stream.place, if stream.found { &create[..5] } else { &create });
    }

    /// What consumers of other names have left is ours: the shard is.
    fn put_claim(&mut self, position: u32) {
        let stream = &self.streams[position as usize];
        let idle = u64::try_from(self.options.claim_idle.as_millis()).unwrap_or(u64::MAX);
        self.commands.begin(stream.place, 9).arg(b"XAUTOCLAIM").arg(&stream.key);
        self.commands.arg(self.options.group.as_bytes()).arg(self.options.consumer.as_bytes());
        self.commands.number(idle).arg(b"0-0").arg(b"COUNT").number(CLAIMED).arg(b"JUSTID");
    }

    /// Compares some streams' pending lists with what is known of them.
    pub(super) fn look(&mut self, now: Instant, reply: &mut Reply) {
        if !self.keeps_pending() || now < self.next_look || self.streams.is_empty() {
            return;
        }
        self.next_look = now + LOOK_PAUSE;
        let turns = (LOOK_EACH.as_millis() / LOOK_PAUSE.as_millis()) as usize;
        let count = self.streams.len().div_ceil(turns);
        let mut looked: Vec<u32> = Vec::new();
        self.commands.clear();
        for _ in 0..count {
            let position = self.next_stream_looked % self.streams.len();
            self.next_stream_looked = position + 1;
            let stream = &mut self.streams[position];
            let recent = now.saturating_duration_since(stream.looked) < LOOK_EACH / 2;
            if stream.cursor != Cursor::New || recent || !self.leases.holds(stream.shard, now) {
                continue;
            }
            stream.looked = now;
            let group = self.options.group.as_bytes();
            self.commands.push(stream.place, &[b"XPENDING", &stream.key, group]);
            looked.push(position as u32);
        }
        let mut pending: Vec<(u32, Value)> = Vec::new();
        let mut failed = None;
        self.link.exchange(&self.commands, &mut |number, answer| {
            match answer {
                Answer::Reply(replies) => pending.push((looked[number], replies.value()?)),
                // The read that follows finds out.
                Answer::Refused(_) => {}
                Answer::Lost(error) => failed = Some(error.clone()),
            }
            Ok(())
        });
        self.commands.clear();
        for (position, value) in pending {
            let stream = &self.streams[position as usize];
            let (own, others) = counts(&value, self.options.consumer.as_bytes());
            if own > (stream.in_flight.len() + stream.acks.len()) as u64 {
                self.reopen(position);
            } else if others > 0 {
                self.put_claim(position);
            }
        }
        self.link.exchange(&self.commands, &mut |_, answer| match answer {
            Answer::Reply(replies) => replies.skip_piece(),
            // The next look tries again.
            Answer::Refused(_) | Answer::Lost(_) => Ok(()),
        });
        if let Some(error) = failed
            && !self.link.is_cluster()
        {
            self.fail(&error, now, reply);
        }
    }
}

/// Whether a group was not made because there is no stream.
fn is_gone(refusal: &str) -> bool {
    refusal.contains("requires the key to exist")
}

/// Entries pending with this consumer, and with all others.
fn counts(summary: &Value, consumer: &[u8]) -> (u64, u64) {
    let Value::Array(parts) = summary else { return (0, 0) };
    let Some(Value::Array(consumers)) = parts.get(3) else { return (0, 0) };
    let mut sums = (0, 0);
    for entry in consumers {
        let Value::Array(entry) = entry else { continue };
        let [Value::BulkString(name), Value::BulkString(count)] = &entry[..] else { continue };
        let count = std::str::from_utf8(count).ok().and_then(|count| count.parse::<u64>().ok()).unwrap_or_default();
        if name == consumer {
            sums.0 += count;
        } else {
            sums.1 += count;
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pending_entries_are_counted_by_owner() {
        let text = |text: &str| Value::BulkString(text.into());
        let consumer = |name: &str, count: &str| Value::Array(vec![text(name), text(count)]);
        let summary = |consumers: Value| Value::Array(vec![Value::Int(9), text("1-0"), text("9-0"), consumers]);
        let table = [
            (summary(Value::Nil), (0, 0)),
            (summary(Value::Array(vec![consumer("me", "4"), consumer("a", "3"), consumer("b", "2")])), (4, 5)),
            (summary(Value::Array(vec![consumer("me", "x"), Value::Int(1)])), (0, 0)),
            (Value::Nil, (0, 0)),
        ];
        table.iter().for_each(|(value, expected)| assert_eq!(counts(value, b"me"), *expected, "{value:?}"));
    }
}
