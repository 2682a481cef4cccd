//! Entries of streams as they come off the connection, read into arrivals without anything in between.

use bytes::Bytes;
use omma_frame::{Arrival, CameraIndex, Token};
use omma_ring::{CompatRings, Rings, RingsOptions};

use super::stream::EntryId;
use crate::redis::link::{Head, Replies, ReplyError};
use crate::redis::wire::{Draft, Reference, Want, Wire};

/// Fields of one entry; further ones are not looked at.
const FIELDS_MAX: usize = 256;

/// What entries are read with.
pub(super) struct EntryReader {
    pub wire: Wire,
    pub payload_bytes_max: usize,
    pub rings: Rings,
    compat_rings: CompatRings,
    draft: Draft,
}

/// An entry of a stream.
pub(super) enum Entry {
    Frame(EntryId, Arrival),
    /// It is pending, but its body was trimmed or deleted.
    Gone(EntryId),
}

impl EntryReader {
    pub fn new(wire: Wire, payload_bytes_max: usize, rings: &RingsOptions) -> Self {
        Self {
            wire,
            payload_bytes_max,
            rings: Rings::new(rings.clone()),
            compat_rings: CompatRings::new(rings.clone()),
            draft: Draft::default(),
        }
    }

    /// Lets go of shared memory that is of no use any more.
    pub fn refresh_rings(&mut self) {
        self.rings.refresh();
        self.compat_rings.refresh();
    }

    /// The entries of one stream; returns how many there were.
    pub fn entries(
        &mut self,
        replies: &mut Replies,
        camera: CameraIndex,
        take: &mut dyn FnMut(Entry),
    ) -> Result<usize, ReplyError> {
        let count = match replies.head()? {
            Head::Array(count) => count,
            Head::Nil => 0,
            other => return Err(unexpected(other, "a list of entries")),
        };
        for _ in 0..count {
            if let Some(entry) = self.entry(replies, camera)? {
                take(entry);
            }
        }
        Ok(count)
    }

    /// One entry; `None`: Redis said nil in its place.
    pub fn entry(&mut self, replies: &mut Replies, camera: CameraIndex) -> Result<Option<Entry>, ReplyError> {
        match replies.head()? {
            Head::Array(2) => {}
            Head::Nil => return Ok(None),
            other => return Err(unexpected(other, "an entry")),
        }
        let id = match replies.head()? {
            Head::Bulk(length) => replies.short(length)?.and_then(entry_id),
            other => return Err(unexpected(other, "an entry's id")),
        };
        let id = id.ok_or_else(|| ReplyError::Protocol("an entry's id that is none".to_owned()))?;
        let pieces = match replies.head()? {
            Head::Array(pieces) => pieces,
            Head::Nil => return Ok(Some(Entry::Gone(id))),
            other => return Err(unexpected(other, "an entry's fields")),
        };
        self.draft.begin(self.wire);
        for pair in 0..pieces / 2 {
            if pair < FIELDS_MAX {
                self.field(replies)?;
            } else {
                replies.skip_piece()?;
                replies.skip_piece()?;
            }
        }
        if pieces % 2 == 1 {
            replies.skip_piece()?;
        }
        let (rings, compat_rings) = (&mut self.rings, &mut self.compat_rings);
        let message = self.draft.finish(Some(&mut |reference| match reference {
            Reference::Own { segment, generation, byte_len } => rings.handle(segment, generation, byte_len),
            Reference::Compat { segment, frame_index, size } => compat_rings.handle(segment, frame_index, size),
        }));
        let arrival = Arrival {
            camera,
            sequence: message.sequence,
            captured_at: message.captured_at,
            payload: message.payload,
            token: Token(id.0, id.1),
            overtaken: 0,
            redelivered: false,
            name: message.name,
        };
        Ok(Some(Entry::Frame(id, arrival)))
    }

    fn field(&mut self, replies: &mut Replies) -> Result<(), ReplyError> {
        let want = match replies.head()? {
            Head::Bulk(length) => replies.short(length)?.map_or(Want::Nothing, |name| self.draft.want(name)),
            other => return Err(unexpected(other, "a field's name")),
        };
        let length = match replies.head()? {
            Head::Bulk(length) => length,
            other => return Err(unexpected(other, "a field's value")),
        };
        match want {
            Want::Nothing => replies.skip(length),
            Want::Short(key) => {
                match replies.short(length)? {
                    Some(value) => self.draft.short(key, value),
                    None => self.draft.overlong(key, length),
                }
                Ok(())
            }
            Want::Payload if length > self.payload_bytes_max => {
                self.draft.payload_too_large(length, self.payload_bytes_max);
                replies.skip(length)
            }
            Want::Payload => {
                if let Some(bytes) = replies.long(length)? {
                    self.draft.payload(Bytes::from(bytes));
                }
                Ok(())
            }
        }
    }
}

fn unexpected(found: Head, expected: &str) -> ReplyError {
    ReplyError::Protocol(format!("{found:?} in the place of {expected}"))
}

/// `1700000000000-7`.
pub(super) fn entry_id(text: &[u8]) -> Option<EntryId> {
    let text = std::str::from_utf8(text).ok()?;
    let (ms, seq) = text.split_once('-')?;
    let number = |digits: &str| digits.parse().ok().filter(|_| !digits.starts_with('+'));
    Some((number(ms)?, number(seq)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_ids() {
        let table = [
            ("1700000000000-7", Some((1_700_000_000_000, 7))),
            ("0-0", Some((0, 0))),
            ("18446744073709551615-18446744073709551615", Some((u64::MAX, u64::MAX))),
            ("1", None),
            ("-1", None),
            ("1-", None),
            ("+1-1", None),
            ("18446744073709551616-0", None),
            ("a-b", None),
        ];
        table.iter().for_each(|(text, expected)| assert_eq!(entry_id(text.as_bytes()), *expected, "{text}"));
    }
}
