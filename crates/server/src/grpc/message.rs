//! The one message of a call, gathered from the pieces in which it comes. Pure: whoever has the pieces brings them.
//!
//! Memory is bounded by the bytes that have come: large pieces are kept where they lie, small ones are joined, because a
//! piece of one byte would cost its reference, which is tens of bytes, too.

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use omma_protocol::wire::ModelInferRequest;
use prost::Message as _;
use tonic::Status;

use super::weigh::weigh;

/// In front of each message: whether it is compressed, and its length.
pub(super) const PREFIX_BYTES: usize = 5;
/// A smaller piece is copied to its neighbours.
const PIECE_BYTES_MIN: usize = 4 << 10;
/// Small pieces are joined up to this size, so that no message is moved as it grows.
const JOINED_BYTES: usize = 64 << 10;

/// A message on its way.
pub struct Message {
    /// Its bytes may be no more.
    most: usize,
    /// As its prefix says, once that is here.
    length: Option<usize>,
    pieces: Pieces,
}

impl Message {
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { most, length: None, pieces: Pieces::default() }
    }

    /// Takes the next piece.
    ///
    /// # Errors
    /// The message is compressed or too large, or more follows it.
    pub fn add(&mut self, piece: Bytes) -> Result<(), Status> {
        let Self { most, length, pieces } = self;
        pieces.add(piece);
        if length.is_none() && pieces.remaining() >= PREFIX_BYTES {
            let (compressed, bytes) = (pieces.get_u8(), pieces.get_u32() as usize);
            if compressed != 0 {
                return Err(Status::unimplemented("a compressed message, expected a plain one"));
            }
            if bytes > *most {
                return Err(Status::out_of_range(format!("a message of {bytes} bytes, expected at most {most}")));
            }
            *length = Some(bytes);
        }
        if length.is_some_and(|length| pieces.remaining() > length) {
            return Err(Status::invalid_argument("more than one message"));
        }
        Ok(())
    }

    /// The message, of which all pieces have come. `take` is told how many bytes it takes beside them.
    ///
    /// # Errors
    /// They are not all, or no request, or it may not take so much.
    pub fn finish(mut self, take: impl FnOnce(usize) -> Result<(), Status>) -> Result<ModelInferRequest, Status> {
        if self.length != Some(self.pieces.remaining()) {
            return Err(Status::invalid_argument("the message ended early"));
        }
        take(weigh(&mut self.pieces.clone())?)?;
        ModelInferRequest::decode(&mut self.pieces)
            .map_err(|error| Status::invalid_argument(format!("the message is no request for inference: {error}")))
    }
}

/// Bytes in pieces. What lies within one of them is taken out of it without a copy.
#[derive(Default, Clone)]
struct Pieces {
    pieces: VecDeque<Bytes>,
    /// Behind them: small pieces, joined.
    joined: BytesMut,
    remaining: usize,
}

impl Pieces {
    fn add(&mut self, piece: Bytes) {
        self.remaining += piece.len();
        if piece.len() < PIECE_BYTES_MIN {
            self.joined.extend_from_slice(&piece);
            if self.joined.len() >= JOINED_BYTES {
                self.pieces.push_back(std::mem::take(&mut self.joined).freeze());
            }
            return;
        }
        if !self.joined.is_empty() {
            self.pieces.push_back(std::mem::take(&mut self.joined).freeze());
        }
        self.pieces.push_back(piece);
    }
}

impl Buf for Pieces {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&self.joined, |piece| piece)
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.remaining, "no further than to the end");
        self.remaining -= count;
        while let Some(first) = self.pieces.front_mut() {
            if count < first.len() {
                first.advance(count);
                return;
            }
            count -= first.len();
            self.pieces.pop_front();
        }
        self.joined.advance(count);
    }

    fn copy_to_bytes(&mut self, count: usize) -> Bytes {
        let first = self.pieces.front().map_or(self.joined.len(), Bytes::len);
        if count > first {
            let mut gathered = BytesMut::with_capacity(count);
            gathered.put(self.take(count));
            return gathered.freeze();
        }
        let part = match self.pieces.front_mut() {
            Some(first) => first.split_to(count),
            None => self.joined.split_to(count).freeze(),
        };
        self.remaining -= count;
        self.pieces.pop_front_if(|first| first.is_empty());
        part
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> ModelInferRequest {
        ModelInferRequest {
            model_name: "m".into(),
            id: "7".into(),
            raw_input_contents: vec![
                Bytes::from(vec![1; 300]),
                Bytes::new(),
                Bytes::from(vec![2; 200_000]),
                Bytes::from(vec![3; 5]),
            ],
            ..ModelInferRequest::default()
        }
    }

    fn whole() -> Bytes {
        let message = request().encode_to_vec();
        let length = u32::try_from(message.len()).expect("small");
        [&[0], &length.to_be_bytes()[..], &message].concat().into()
    }

    #[test]
    fn a_message_is_the_same_in_whatever_pieces_it_comes() {
        let whole = whole();
        // In turn, so that small and large ones follow one another.
        for sizes in [&[1][..], &[2], &[7], &[100], &[5000], &[1, 5000], &[4096, 3, 4095], &[usize::MAX]] {
            let (mut message, mut rest) = (Message::new(whole.len()), whole.clone());
            for &size in sizes.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                message.add(rest.split_to(size.min(rest.len()))).expect("taken");
            }
            assert_eq!(message.finish(|_| Ok(())).expect("read"), request(), "pieces of {sizes:?}");
        }
    }

    #[test]
    fn a_message_in_small_pieces_costs_little_more_than_its_bytes() {
        let mut pieces = Pieces::default();
        let bytes = 1 << 20;
        (0..bytes).for_each(|_| pieces.add(Bytes::from_static(b"x")));
        assert!(pieces.pieces.len() <= bytes / JOINED_BYTES, "{} pieces", pieces.pieces.len());
        assert_eq!(pieces.remaining(), bytes);
    }

    #[test]
    fn a_large_piece_is_kept_where_it_lies() {
        let piece = Bytes::from(vec![1; PIECE_BYTES_MIN]);
        let mut pieces = Pieces::default();
        pieces.add(Bytes::from_static(b"small"));
        pieces.add(piece.clone());
        assert_eq!(pieces.copy_to_bytes(5), "small");
        assert_eq!(pieces.copy_to_bytes(100).as_ptr(), piece.as_ptr());
    }

    #[test]
    fn what_is_no_message_says_why() {
        for (pieces, expected) in [
            (&[&b""[..]][..], "the message ended early"),
            (&[b"\0\0\0", b"\0"], "the message ended early"),
            (&[b"\0\0\0\0\x02", b"x"], "the message ended early"),
            (&[b"\x01\0\0\0\x02"], "a compressed message, expected a plain one"),
            (&[b"\0\0\0\0\x65"], "a message of 101 bytes, expected at most 100"),
            (&[b"\0\0\0\0\x01xy"], "more than one message"),
            (&[b"\0\0\0\0\x01", b"\xff"], "the message is no request for inference"),
        ] {
            let mut message = Message::new(100);
            let taken = pieces.iter().try_for_each(|piece| message.add(Bytes::from_static(piece)));
            let status = taken.and_then(|()| message.finish(|_| Ok(()))).expect_err(expected);
            assert!(status.message().starts_with(expected), "{status}");
        }
    }
}
