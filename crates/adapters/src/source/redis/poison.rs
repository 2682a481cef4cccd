//! Entries that were delivered again and again and never settled: whoever takes them fails, so nobody is given them any
//! more. They are settled as `poisoned` and copied to the dead-letter stream before they are acknowledged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use omma_frame::{DropReason, Payload, Token, Unreadable};
use redis::Value;

use super::read::Again;
use super::stream::EntryId;
use super::worker::{Reply, Worker};
use crate::redis::link::{Answer, Commands, Head, LinkError, Place, Replies, ReplyError, slot_of};

/// The dead-letter stream is for people to look at, not a store: with usual pictures some hundred megabytes.
const LETTERS_MAX: u64 = 1000;
/// Letters written in one turn, and how much of them is held meanwhile: so many bytes and one entry more.
const BURIED_MAX: usize = 64;
const BODIES_BYTES_MAX: usize = 8 << 20;
/// What is copied of one entry.
const BODY_BYTES_MAX: usize = 32 << 20;
const BODY_FIELDS_MAX: usize = 256;
/// The first pause after letters that could not be written; it doubles up to a minute.
const BURY_AGAIN: Duration = Duration::from_secs(1);

/// The fields of an entry as they are; `None` in the place of a value that is too large to be copied.
type Fields = Vec<(Vec<u8>, Option<Vec<u8>>)>;

impl Worker {
    /// Looks how often entries that have come again were delivered before, and takes the pictures out of the poisoned.
    pub(super) fn find_poison(&mut self, again: &[Again], now: Instant, reply: &mut Reply) {
        self.commands.clear();
        for Again { position, first, last, count } in again {
            let stream = &self.streams[*position as usize];
            self.commands.begin(stream.place, 7).arg(b"XPENDING").arg(&stream.key);
            self.commands.arg(self.options.group.as_bytes()).entry_id(*first).entry_id(*last).number(*count as u64);
            self.commands.arg(self.options.consumer.as_bytes());
        }
        let mut poisoned: Vec<(u32, EntryId, i64)> = Vec::new();
        let deliveries_max = i64::from(self.options.deliveries_max);
        let mut failed = None;
        self.link.exchange(&self.commands, &mut |number, answer| {
            match answer {
                Answer::Reply(replies) => {
                    let delivered = deliveries(&replies.value()?);
                    let too_often = delivered.into_iter().filter(|(_, count)| *count > deliveries_max);
                    poisoned.extend(too_often.map(|(id, count)| (again[number].position, id, count)));
                }
                // They are tried once more, and looked at if they come again.
                Answer::Refused(_) => {}
                Answer::Lost(error) => failed = Some(error.clone()),
            }
            Ok(())
        });
        if let Some(error) = failed
            && !self.link.is_cluster()
        {
            self.fail(&error, now, reply);
        }
        for (position, id, count) in poisoned {
            let found = reply
                .arrivals
                .iter_mut()
                .find(|(other, arrival)| *other == position && arrival.token == Token(id.0, id.1));
            if let Some((_, arrival)) = found {
                let message =
                    format!("delivered {count} times and never settled, expected at most {deliveries_max} times");
                arrival.payload = Payload::Unreadable(Arc::new(Unreadable { reason: DropReason::Poisoned, message }));
            }
        }
    }

    /// Copies poisoned entries that were settled to the dead-letter stream; then they may be acknowledged. One that cannot
    /// be copied stays pending, and is nobody else's trouble: it is tried again after a pause that grows.
    pub(super) fn bury(&mut self, reply: &mut Reply, now: Instant) {
        if self.dead.is_empty() || now < self.bury_at {
            return;
        }
        let dead: Vec<(u32, EntryId)> = self.dead[..self.dead.len().min(BURIED_MAX)].to_vec();
        let mut failed = None;
        let bodies = self.bodies(&dead, &mut failed);
        self.commands.clear();
        let letter = self.options.dead_letter.as_bytes();
        let mut letters: Vec<usize> = Vec::new();
        for (number, fields) in bodies.iter().enumerate().filter_map(|(number, body)| Some((number, body.as_ref()?))) {
            let (position, id) = dead[number];
            let stream = &self.streams[position as usize];
            self.commands.begin(Place::Slot(slot_of(letter)), 6 + 6 + 2 * fields.len());
            self.commands.arg(b"XADD").arg(letter).arg(b"MAXLEN").arg(b"~").number(LETTERS_MAX).arg(b"*");
            self.commands.arg(b"stream").arg(&stream.key).arg(b"entry").entry_id(id);
            self.commands.arg(b"reason").arg(DropReason::Poisoned.name().as_bytes());
            for (name, value) in fields {
                self.commands.arg(&[b"field.", &name[..]].concat());
                self.commands.arg(value.as_deref().unwrap_or(b"(too large to be copied)"));
            }
            letters.push(number);
        }
        drop(bodies);
        let mut buried: Vec<usize> = Vec::new();
        self.link.exchange(&self.commands, &mut |letter, answer| {
            match answer {
                Answer::Reply(replies) => {
                    replies.skip_piece()?;
                    buried.push(letters[letter]);
                }
                Answer::Refused(text) => failed = Some(LinkError::of_refusal(text)),
                Answer::Lost(error) => failed = Some(error.clone()),
            }
            Ok(())
        });
        // The next one's letters are as small again.
        self.commands = Commands::default();
        for &number in buried.iter().rev() {
            let (position, id) = self.dead.remove(number);
            self.streams[position as usize].settled(id);
            self.acknowledge(position, id);
        }
        match failed {
            None => self.burials_failed = 0,
            Some(error) => {
                let pause = BURY_AGAIN.saturating_mul(1 << self.burials_failed.min(6));
                self.burials_failed = self.burials_failed.saturating_add(1);
                self.bury_at = now + pause;
                let waiting = self.dead.len();
                let message = format!(
                    "{waiting} poisoned entries stay pending until they can be copied to {}: {}",
                    self.options.dead_letter, error.message
                );
                self.say(None, &message, pause, reply);
                // Others shall have their turn before it.
                self.dead.rotate_left(dead.len() - buried.len());
            }
        }
    }

    /// What is in the entries, as far as it may be held at once; `None` in the place of one whose turn comes later.
    fn bodies(&mut self, dead: &[(u32, EntryId)], failed: &mut Option<LinkError>) -> Vec<Option<Fields>> {
        self.commands.clear();
        for &(position, id) in dead {
            let stream = &self.streams[position as usize];
            self.commands.begin(stream.place, 4).arg(b"XRANGE").arg(&stream.key).entry_id(id).entry_id(id);
        }
        let mut bodies: Vec<Option<Fields>> = vec![None; dead.len()];
        let mut held = 0;
        self.link.exchange(&self.commands, &mut |number, answer| {
            match answer {
                Answer::Reply(replies) if held >= BODIES_BYTES_MAX => replies.skip_piece()?,
                Answer::Reply(replies) => {
                    let fields = raw_fields(replies)?;
                    let bytes =
                        |(name, value): &(Vec<u8>, Option<Vec<u8>>)| name.len() + value.as_ref().map_or(0, Vec::len);
                    held += fields.iter().map(bytes).sum::<usize>();
                    bodies[number] = Some(fields);
                }
                Answer::Refused(text) => *failed = Some(LinkError::of_refusal(text)),
                Answer::Lost(error) => *failed = Some(error.clone()),
            }
            Ok(())
        });
        bodies
    }

    /// Takes back the delivery that Redis counted of entries which were given back untried, at the end or because their
    /// lease was lost: only whoever fails of an entry shall bring it nearer to being poison. What cannot be said here
    /// counts, as a crash does.
    pub(super) fn undo_deliveries(&mut self) {
        let untried: Vec<(u32, EntryId)> = self.untried.drain(..).collect();
        let mut by_stream: BTreeMap<u32, Vec<EntryId>> = BTreeMap::new();
        for (position, id) in untried {
            by_stream.entry(position).or_default().push(id);
        }
        let (group, consumer) = (self.options.group.as_bytes(), self.options.consumer.as_bytes());
        self.commands.clear();
        for (&position, ids) in &mut by_stream {
            ids.sort_unstable();
            let stream = &self.streams[position as usize];
            self.commands.begin(stream.place, 7).arg(b"XPENDING").arg(&stream.key).arg(group);
            // Between them lie others at most that are still in flight.
            let most = ids.len() + stream.in_flight.len();
            self.commands.entry_id(ids[0]).entry_id(ids[ids.len() - 1]).number(most as u64).arg(consumer);
        }
        let asked: Vec<(u32, Vec<EntryId>)> = by_stream.into_iter().collect();
        let mut counts: BTreeMap<(u32, i64), Vec<EntryId>> = BTreeMap::new();
        self.link.exchange(&self.commands, &mut |number, answer| {
            if let Answer::Reply(replies) = answer {
                let (position, ids) = &asked[number];
                for (id, count) in deliveries(&replies.value()?) {
                    if count > 0 && ids.binary_search(&id).is_ok() {
                        counts.entry((*position, count)).or_default().push(id);
                    }
                }
            }
            Ok(())
        });
        self.commands.clear();
        for ((position, count), ids) in counts {
            let stream = &self.streams[position as usize];
            self.commands.begin(stream.place, 8 + ids.len()).arg(b"XCLAIM").arg(&stream.key).arg(group).arg(consumer);
            self.commands.number(0);
            ids.iter().for_each(|id| {
                self.commands.entry_id(*id);
            });
            self.commands.arg(b"RETRYCOUNT").number(u64::try_from(count - 1).unwrap_or(0)).arg(b"JUSTID");
        }
        self.link.exchange(&self.commands, &mut |_, answer| match answer {
            Answer::Reply(replies) => replies.skip_piece(),
            Answer::Refused(_) | Answer::Lost(_) => Ok(()),
        });
        self.commands.clear();
    }
}

/// By entry how often it was delivered: `XPENDING` with a range.
fn deliveries(list: &Value) -> Vec<(EntryId, i64)> {
    let Value::Array(items) = list else { return Vec::new() };
    let read = |item: &Value| {
        let Value::Array(parts) = item else { return None };
        let [Value::BulkString(id), _, _, Value::Int(count)] = &parts[..] else { return None };
        Some((super::entries::entry_id(id)?, *count))
    };
    items.iter().filter_map(read).collect()
}

/// The fields of the first entry of a list; none if there is none.
fn raw_fields(replies: &mut Replies) -> Result<Fields, ReplyError> {
    let odd = |found: Head| Err(ReplyError::Protocol(format!("{found:?} in answer to XRANGE")));
    match replies.head()? {
        Head::Array(0) => return Ok(Vec::new()),
        Head::Array(1) => {}
        other => return odd(other),
    }
    match replies.head()? {
        Head::Array(2) => replies.skip_piece()?,
        other => return odd(other),
    }
    let pieces = match replies.head()? {
        Head::Array(pieces) => pieces,
        other => return odd(other),
    };
    let mut fields = Vec::new();
    let mut room = BODY_BYTES_MAX;
    for _ in 0..pieces / 2 {
        if fields.len() == BODY_FIELDS_MAX {
            replies.skip_piece()?;
            replies.skip_piece()?;
            continue;
        }
        let name = match replies.head()? {
            Head::Bulk(length) => replies.short(length)?.map(<[u8]>::to_vec).unwrap_or_default(),
            other => return odd(other),
        };
        let value = match replies.head()? {
            Head::Bulk(length) if length > room => {
                replies.skip(length)?;
                None
            }
            Head::Bulk(length) => {
                room -= length;
                replies.long(length)?
            }
            other => return odd(other),
        };
        fields.push((name, value));
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deliveries_are_read_by_entry() {
        let text = |text: &str| Value::BulkString(text.into());
        let item = |id: &str, count| Value::Array(vec![text(id), text("me"), Value::Int(7), Value::Int(count)]);
        let list = Value::Array(vec![item("1-2", 3), item("garbage", 4), Value::Nil, item("5-0", 9)]);
        assert_eq!(deliveries(&list), [((1, 2), 3), ((5, 0), 9)]);
        assert_eq!(deliveries(&Value::Nil), []);
    }
}
