//! The bounded way between a feeder and those who run its batches.

use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use omma_frame::Mono;
use parking_lot::Mutex;

use super::overlap::{Next, Overlap};
use crate::batch::Seat;
use crate::infer::prepare::Prepared;
use crate::infer::work::Destination;

/// How long an instance sleeps before it looks whether the engine has stopped.
const SLEEP: Duration = Duration::from_millis(100);

/// Batches that are prepared or run, and how many more may be.
///
/// Batches with direct requests have a lane of their own, which instances look at first, and one place in front: they do
/// not wait behind what was prepared of the cameras before they came.
pub(super) struct Feed {
    out: Mutex<Out>,
    batches_max: usize,
    /// Batches out at the same time beyond which one more only waits: the instances, or the requests worth having.
    useful: usize,
    /// Whether there is a place in front, as instances have; a server takes requests in their order.
    front: bool,
    direct: Receiver<Prepared>,
    ready: Receiver<Prepared>,
    /// Gone once the feeder has ended: what is ready then is all that will ever be.
    lanes: Mutex<Option<Lanes>>,
}

struct Lanes {
    direct: Sender<Prepared>,
    ready: Sender<Prepared>,
}

struct Out {
    batches: usize,
    /// When the last batch came back.
    returned_at: Mono,
    /// Of requests to a server: when the next one is worth sending although it is busy.
    overlap: Option<Overlap>,
    free: Vec<Prepared>,
}

impl Feed {
    /// Instances have one batch each, one more prepared, and together one place in front.
    pub(super) fn to_instances(instances: usize) -> Self {
        Self::new(instances * 2, instances, true)
    }

    /// Requests fill the configured buffer.
    pub(super) fn to_requests(batches_max: usize, useful: usize) -> Self {
        Self::new(batches_max, useful, false)
    }

    fn new(batches_max: usize, useful: usize, front: bool) -> Self {
        let batches_max = batches_max.max(1);
        let useful = useful.clamp(1, batches_max);
        let overlap = (!front).then(|| Overlap::new(useful));
        // Never full: no more batches exist than either has room for.
        let lane = || crossbeam_channel::bounded(batches_max + usize::from(front));
        let ((to_direct, direct), (to_ready, ready)) = (lane(), lane());
        Self {
            out: Mutex::new(Out { batches: 0, returned_at: Mono(0), overlap, free: Vec::new() }),
            batches_max,
            useful,
            front,
            direct,
            ready,
            lanes: Mutex::new(Some(Lanes { direct: to_direct, ready: to_ready })),
        }
    }

    /// The next prepared batch for an instance; `None` when there will be none, or the engine has stopped.
    pub(super) fn next(&self, stopped: impl Fn() -> bool) -> Option<Prepared> {
        loop {
            if let Some(prepared) = self.take_ready().next() {
                return Some(prepared);
            }
            crossbeam_channel::select! {
                recv(self.direct) -> prepared => match prepared {
                    Ok(prepared) => return Some(prepared),
                    // Both lanes end together, and what is left in either has to be run.
                    Err(_) => return self.take_ready().next(),
                },
                recv(self.ready) -> prepared => match prepared {
                    Ok(prepared) => return Some(prepared),
                    Err(_) => return self.take_ready().next(),
                },
                default(SLEEP) => if stopped() {
                    return None;
                },
            }
        }
    }

    /// A batch has come back; its buffer, if it is not lost, is used again. The desk is to be woken after it.
    pub(super) fn release(&self, prepared: Option<Prepared>, now: Mono) {
        let mut out = self.out.lock();
        out.batches = out.batches.saturating_sub(1);
        out.returned_at = now;
        out.free.extend(prepared);
    }

    /// A request with so many frames leaves.
    pub(super) fn sent(&self, at: Mono, frames: usize) {
        if let Some(overlap) = &mut self.out.lock().overlap {
            overlap.sent(at, frames);
        }
    }

    /// The request that left at that time has been answered, or given up. Before its batch is released.
    pub(super) fn ended(&self, at: Mono, now: Mono, well: bool) {
        if let Some(overlap) = &mut self.out.lock().overlap {
            overlap.ended(at, now, well);
        }
    }

    /// What one more batch would find, if at most `requests_max` are worth having. Only the feeder begins batches, so what
    /// it finds stays true until it does.
    pub(super) fn seat(&self, requests_max: usize) -> Seat {
        let out = self.out.lock();
        let most = self.batches_max.min(requests_max);
        if out.batches > most || out.batches == most && !self.front {
            Seat::None
        } else if out.batches == most {
            Seat::Direct
        } else if out.batches >= self.useful {
            let next = out.overlap.as_ref().and_then(Overlap::next);
            next.map_or(Seat::Ahead, |Next { at, back }| Seat::Soon { at, back })
        } else {
            Seat::Idle(out.returned_at)
        }
    }

    /// Begins a batch that found a place, in a buffer that is free or in a new one.
    pub(super) fn begin(&self, new: impl FnOnce() -> Prepared) -> Prepared {
        let free = {
            let mut out = self.out.lock();
            out.batches += 1;
            out.free.pop()
        };
        free.unwrap_or_else(new)
    }

    /// Nothing was left of a batch that was begun.
    pub(super) fn withdraw(&self, prepared: Prepared) {
        let mut out = self.out.lock();
        out.batches -= 1;
        out.free.push(prepared);
    }

    /// Prepared batches that no instance has taken yet, those with direct requests first; whoever takes them settles them.
    pub(super) fn take_ready(&self) -> impl Iterator<Item = Prepared> + '_ {
        std::iter::from_fn(|| self.direct.try_recv().or_else(|_| self.ready.try_recv()).ok())
    }

    /// Whether a prepared batch waits for an instance.
    pub(super) fn has_ready(&self) -> bool {
        !self.direct.is_empty() || !self.ready.is_empty()
    }

    /// Batches that are out now.
    pub(super) fn out(&self) -> usize {
        self.out.lock().batches
    }

    /// No batch will be handed over any more; instances leave once they have run what is ready.
    pub(super) fn end(&self) {
        self.lanes.lock().take();
    }

    /// `Some`: the instances take no more.
    pub(super) fn hand_over(&self, prepared: Prepared) -> Option<Prepared> {
        match &*self.lanes.lock() {
            Some(lanes) => {
                let direct = prepared.pendings.iter().any(|pending| matches!(pending.to, Destination::Caller(_)));
                let lane = if direct { &lanes.direct } else { &lanes.ready };
                lane.try_send(prepared).err().map(crossbeam_channel::TrySendError::into_inner)
            }
            None => Some(prepared),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::infer::backend::Origin;
    use crate::infer::work::{Caller, NO_CAMERA, Pending, Work};
    use omma_frame::{CameraIndex, Frame, FrameResult, Payload, ServedBy, Token, UnixNanos};

    struct Somebody;

    impl Caller for Somebody {
        fn waits(&self) -> bool {
            true
        }

        fn answer(self: Box<Self>, _: FrameResult) {}
    }

    fn pending(camera: CameraIndex) -> Pending {
        let payload = Payload::Encoded(bytes::Bytes::new());
        let work = if camera == NO_CAMERA {
            let input = crate::infer::work::Input::Picture(payload);
            Work::Direct { input, received_at: Mono(0), caller: Box::new(Somebody) }
        } else {
            let (captured_at, received_at) = (UnixNanos::default(), Mono(0));
            Work::Frame(Frame {
                camera,
                sequence: 0,
                token: Token::default(),
                captured_at,
                received_at,
                payload,
                name: None,
            })
        };
        work.begin(0, Mono(0), ServedBy::default()).1
    }

    /// A batch of items of these cameras.
    fn batch(feed: &Feed, cameras: &[CameraIndex]) -> Prepared {
        let mut prepared = feed.begin(|| Prepared::new(cameras.len(), 1, None));
        prepared.pendings.extend(cameras.iter().map(|camera| pending(*camera)));
        prepared.origins.extend(cameras.iter().map(|camera| Origin { camera: *camera, sequence: 0 }));
        prepared
    }

    fn cameras(prepared: &Prepared) -> Vec<CameraIndex> {
        prepared.origins.iter().map(|origin| origin.camera).collect()
    }

    #[test]
    fn a_batch_finds_an_instance_then_a_place_ahead_then_the_one_in_front() {
        let many = usize::MAX;
        // The batches out at a time, and what one more would find.
        let table: [(Feed, usize, &[Seat]); 4] = [
            (Feed::to_instances(1), many, &[Seat::Idle(Mono(0)), Seat::Ahead, Seat::Direct, Seat::None]),
            (
                Feed::to_instances(2),
                many,
                &[Seat::Idle(Mono(0)), Seat::Idle(Mono(0)), Seat::Ahead, Seat::Ahead, Seat::Direct, Seat::None],
            ),
            (Feed::to_requests(3, 1), many, &[Seat::Idle(Mono(0)), Seat::Ahead, Seat::Ahead, Seat::None]),
            (Feed::to_requests(3, 1), 2, &[Seat::Idle(Mono(0)), Seat::Ahead, Seat::None]),
        ];
        for (row, (feed, requests_max, seats)) in table.into_iter().enumerate() {
            for (out, seat) in seats.iter().enumerate() {
                assert_eq!((feed.seat(requests_max), feed.out()), (*seat, out), "row {row}");
                let _ = feed.begin(|| Prepared::new(1, 1, None));
            }
        }
    }

    #[test]
    fn what_comes_back_makes_room_and_says_since_when() {
        let feed = Feed::to_instances(1);
        let prepared = feed.begin(|| Prepared::new(1, 1, None));
        feed.withdraw(prepared);
        assert_eq!(feed.seat(9), Seat::Idle(Mono(0)), "nothing was run");
        let prepared = feed.begin(|| panic!("the buffer is used again"));
        feed.release(Some(prepared), Mono(7));
        assert_eq!(feed.seat(9), Seat::Idle(Mono(7)));
    }

    #[test]
    fn batches_with_direct_requests_are_run_before_what_was_prepared_earlier() {
        let feed = Feed::to_instances(2);
        let (one, two, three) = (CameraIndex(1), CameraIndex(2), CameraIndex(3));
        for items in [&[one][..], &[two], &[NO_CAMERA, three], &[NO_CAMERA]] {
            let prepared = batch(&feed, items);
            assert!(feed.hand_over(prepared).is_none());
        }
        feed.end();
        let late = batch(&feed, &[one]);
        assert!(feed.hand_over(late).is_some(), "it has ended");
        let order: Vec<_> = std::iter::from_fn(|| feed.next(|| true)).map(|prepared| cameras(&prepared)).collect();
        assert_eq!(order, [vec![NO_CAMERA, three], vec![NO_CAMERA], vec![one], vec![two]]);
    }
}
