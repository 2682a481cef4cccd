//! Where a camera's own count stands: which number should come next, how many never came, and whether one that was there
//! before is a repetition or the beginning of a new count.
//!
//! Pure. A producer repeats itself when it did not hear that its frame was taken: the same numbers, taken at the same time.
//! One that began anew goes on from wherever its first frame that came stands. A repetition that is let in costs one
//! inference too many; a new count that is taken for repetitions costs the camera's sight, so doubt ends soon.

use omma_frame::{Arrival, UnixNanos};

/// A number that lies further behind the expected one is none that was repeated.
const REPEATED_WITHIN: u64 = 1024;
/// So many numbers in a row that have been there before, each above the last, are a new count.
const ANEW_AFTER: u32 = 3;

/// One camera's count.
#[derive(Debug, Default)]
pub(super) struct Count {
    /// Zero: nothing has come yet.
    next: u64,
    /// The next frame only tells where the count stands.
    resumed: bool,
    /// When the frame before was taken, if its producer said so.
    captured_at: Option<UnixNanos>,
    /// The last of those in a row that have been there before, and how many.
    again: (u64, u32),
}

/// The camera has delivered this number before.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Duplicate(pub u64);

impl Count {
    /// Others have counted in between: the next frame tells where the count stands, like the first.
    pub fn resume(&mut self) {
        self.resumed = true;
    }

    /// A frame's number, and how many before it never came.
    ///
    /// # Errors
    /// It has been there before.
    pub fn place(&mut self, arrival: &Arrival) -> Result<(u64, u64), Duplicate> {
        let Some(sequence) = arrival.sequence else {
            let counted = self.next;
            self.next = counted.wrapping_add(1);
            return Ok((counted, 0));
        };
        if arrival.redelivered {
            return Ok((sequence, 0));
        }
        let tells = std::mem::take(&mut self.resumed) || self.next == 0;
        let lost = match sequence.checked_sub(self.next) {
            Some(missing) if !tells => missing.saturating_sub(arrival.overtaken),
            None if !tells && !self.is_anew(sequence, arrival.captured_at) => return Err(Duplicate(sequence)),
            _ => 0,
        };
        (self.next, self.captured_at, self.again) = (sequence.wrapping_add(1), arrival.captured_at, (0, 0));
        Ok((sequence, lost))
    }

    /// Whether a number below the expected one begins a new count.
    fn is_anew(&mut self, sequence: u64, captured_at: Option<UnixNanos>) -> bool {
        let (last, count) = self.again;
        self.again = (sequence, if sequence > last { count + 1 } else { 1 });
        // Who repeats a frame says that it was taken when it was.
        let taken_later = self.captured_at.is_some() && captured_at > self.captured_at;
        sequence == 0 || self.next - sequence > REPEATED_WITHIN || taken_later || self.again.1 >= ANEW_AFTER
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use omma_frame::{CameraIndex, Payload, Token};

    use super::*;

    /// A frame of this number, taken at this time.
    fn frame(sequence: u64, taken: Option<u64>) -> Arrival {
        Arrival {
            camera: CameraIndex(0),
            sequence: Some(sequence),
            captured_at: taken.map(UnixNanos),
            payload: Payload::Encoded(Bytes::from_static(b"x")),
            token: Token(0, 0),
            overtaken: 0,
            redelivered: false,
            name: None,
        }
    }

    /// Those let in of frames that come in this order, and how many were missed between them.
    fn let_in(frames: impl IntoIterator<Item = (u64, Option<u64>)>) -> (Vec<u64>, u64) {
        let mut count = Count::default();
        let places = frames.into_iter().filter_map(|(sequence, taken)| count.place(&frame(sequence, taken)).ok());
        places.fold((Vec::new(), 0), |(mut all, sum), (sequence, lost)| {
            all.push(sequence);
            (all, sum + lost)
        })
    }

    #[test]
    fn a_camera_that_says_when_its_frames_were_taken_begins_anew_without_losing_one() {
        // Its frame 0 never came, or it counts from 1, or its count is short.
        for first in [1, 2, 499] {
            let frames = (0..=500).chain(first..first + 20).enumerate();
            let (all, lost) = let_in(frames.map(|(at, sequence)| (sequence, Some(at as u64))));
            assert_eq!((all.len(), lost), (501 + 20, 0), "{first}");
        }
        let wrapping = (0..5000_u64).map(|at| (1 + at % 999, Some(at)));
        assert_eq!(let_in(wrapping).0.len(), 5000);
    }

    #[test]
    fn a_camera_that_does_not_say_it_begins_anew_with_the_third_frame() {
        let (all, lost) = let_in((0..=500).chain(1..=600).map(|sequence| (sequence, None)));
        assert_eq!((&all[500..503], all.len(), lost), (&[500, 3, 4][..], 501 + 598, 0));
        // Some of them are overtaken.
        assert_eq!(let_in([500, 7, 20, 21, 30].map(|sequence| (sequence, None))).0, [500, 21, 30]);
        // Its clock was set back: what it says of the time is no help.
        let set_back = (0..=500).map(|at| (at, Some(9000 + at))).chain((1..=600).map(|at| (at, Some(at))));
        assert_eq!(let_in(set_back).0.len(), 501 + 598);
    }

    #[test]
    fn what_is_repeated_is_a_duplicate() {
        let repeated = |frames: &[(u64, Option<u64>)]| let_in(frames.iter().copied());
        // One or two that were sent again, one again and again, and older ones in no order.
        assert_eq!(repeated(&[(10, None), (11, None), (10, None), (11, None), (12, None)]), (vec![10, 11, 12], 0));
        assert_eq!(repeated(&[(10, None), (10, None), (10, None), (10, None), (11, None)]), (vec![10, 11], 0));
        assert_eq!(repeated(&[(10, None), (9, None), (8, None), (7, None), (11, None)]), (vec![10, 11], 0));
        assert_eq!(repeated(&[(10, Some(5)), (11, Some(6)), (11, Some(6)), (12, Some(7))]), (vec![10, 11, 12], 0));
        // Those between the repetitions are the camera's: they are not in a row.
        let mixed = [(10, None), (8, None), (11, None), (9, None), (12, None), (10, None), (13, None)];
        assert_eq!(repeated(&mixed), (vec![10, 11, 12, 13], 0));
    }
}
