//! Entries that were delivered again and again and never settled: whoever takes them fails, so nobody is given them any
//! more. They are settled as `poisoned` and copied to the dead-letter stream before they are acknowledged.

use std::sync::Arc;
use std::time::Instant;

use omma_frame::{DropReason, Payload, Token, Unreadable};
use redis::Value;

use super::read::Again;
use super::stream::EntryId;
use super::worker::{Reply, Worker};
use crate::redis::link::{Answer, Head, Place, Replies, ReplyError, slot_of};

/// The dead-letter stream is for people to look at, not a store.
const LETTERS_MAX: u64 = 10_000;
/// Letters written in one turn.
const BURIED_MAX: usize = 64;

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

    /// Copies poisoned entries that were settled to the dead-letter stream; then they may be acknowledged.
    pub(super) fn bury(&mut self, reply: &mut Reply, now: Instant) {
        if self.dead.is_empty() {
            return;
        }
        let count = self.dead.len().min(BURIED_MAX);
        let dead: Vec<(u32, EntryId)> = self.dead[..count].to_vec();
        self.commands.clear();
        for &(position, id) in &dead {
            let stream = &self.streams[position as usize];
            self.commands.begin(stream.place, 4).arg(b"XRANGE").arg(&stream.key).entry_id(id).entry_id(id);
        }
        let mut bodies: Vec<Option<Fields>> = vec![None; count];
        let mut failed = None;
        self.link.exchange(&self.commands, &mut |number, answer| {
            match answer {
                Answer::Reply(replies) => bodies[number] = Some(raw_fields(replies)?),
                Answer::Refused(_) => bodies[number] = Some(Vec::new()),
                Answer::Lost(error) => failed = Some(error.clone()),
            }
            Ok(())
        });
        self.commands.clear();
        let letter = self.options.dead_letter.as_bytes();
        for ((position, id), fields) in dead.iter().zip(&bodies) {
            let stream = &self.streams[*position as usize];
            let fields = fields.as_deref().unwrap_or_default();
            self.commands.begin(Place::Slot(slot_of(letter)), 6 + 6 + 2 * fields.len());
            self.commands.arg(b"XADD").arg(letter).arg(b"MAXLEN").arg(b"~").number(LETTERS_MAX).arg(b"*");
            self.commands.arg(b"stream").arg(&stream.key).arg(b"entry").entry_id(*id);
            self.commands.arg(b"reason").arg(DropReason::Poisoned.name().as_bytes());
            for (name, value) in fields {
                self.commands.arg(&[b"field.", &name[..]].concat());
                self.commands.arg(value.as_deref().unwrap_or(b"(too large to be copied)"));
            }
        }
        let mut buried: Vec<usize> = Vec::new();
        let mut refused = None;
        if failed.is_none() {
            self.link.exchange(&self.commands, &mut |number, answer| {
                match answer {
                    Answer::Reply(replies) => {
                        replies.skip_piece()?;
                        buried.push(number);
                    }
                    Answer::Refused(text) => refused = Some(crate::redis::link::LinkError::of_refusal(text)),
                    Answer::Lost(error) => failed = Some(error.clone()),
                }
                Ok(())
            });
        }
        for &number in buried.iter().rev() {
            let (position, id) = self.dead.remove(number);
            self.streams[position as usize].settled(id);
            self.acknowledge(position, id);
        }
        if let Some(error) = failed.or(refused) {
            self.fail(&error, now, reply);
        }
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
    for _ in 0..pieces / 2 {
        let name = match replies.head()? {
            Head::Bulk(length) => replies.short(length)?.map(<[u8]>::to_vec).unwrap_or_default(),
            other => return odd(other),
        };
        let value = match replies.head()? {
            Head::Bulk(length) => replies.long(length)?,
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
