//! Sources that fail, panic, deliver strangers' frames, repeat themselves, leave gaps, fall silent and return.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use omma_engine::cameras::{CameraPlan, Delivery};
use omma_engine::clock::{Clock, SystemClock};
use omma_engine::infer::backend::Device;
use omma_engine::source::{Arrival, Demand, Polled, Settlement, Source, SourceError};
use omma_frame::{CameraId, CameraIndex, DropReason, Mono, Payload, Token, UnixNanos, Unreadable};
use omma_testkit::doubles_backend::{Model, Turn};
use omma_testkit::doubles_picture::Picture;
use omma_testkit::engine_rig::{Rig, until, value};
use omma_testkit::source::ManualSource;
use parking_lot::Mutex;

use super::LATEST;

fn rig(cameras: usize, delivery: Delivery) -> Rig {
    Rig::new(cameras, delivery, Model::new(|_| Turn::Answer).blocking(Device::Cpu))
}

#[test]
fn a_source_that_fails_is_heard_and_goes_on() {
    let running = rig(2, Delivery::Every).start().expect("starts");
    for (camera, text) in [(Some(CameraIndex(1)), "connection refused"), (None, "broker gone")] {
        let retry_after = Some(Duration::from_secs(2));
        running.sources[0].fail(SourceError { source: "tcp://here".into(), camera, message: text.into(), retry_after });
    }
    running.push_all(0, 0..20);
    running.push_all(1, 0..20);
    running.wait_settled();
    let stopped = running.stop();
    assert_eq!(stopped.report.counts.published, 40);
    let text = "tcp://here: connection refused; trying again in 2.0 s";
    assert!(stopped.said("camera cam-1", text), "{:?}", stopped.messages);
    assert!(stopped.said("source tcp://here", "tcp://here: broker gone"), "{:?}", stopped.messages);
}

/// Panics at one call and hands all others to the manual source.
struct Panicking {
    inner: ManualSource,
    poll: Arc<AtomicBool>,
    settle: Arc<AtomicBool>,
}

impl Source for Panicking {
    fn poll(&mut self, demand: &dyn Demand, arrivals: &mut Vec<Arrival>) -> Result<Polled, SourceError> {
        assert!(!self.poll.load(Ordering::SeqCst), "told to panic in a poll");
        self.inner.poll(demand, arrivals)
    }

    fn settle(&mut self, settlements: &[Settlement]) -> Result<(), SourceError> {
        self.inner.settle(settlements)?;
        assert!(!self.settle.load(Ordering::SeqCst), "told to panic in a settlement");
        Ok(())
    }
}

#[test]
fn a_source_that_panics_is_given_up_and_the_others_go_on() {
    for (in_poll, text) in [(true, "told to panic in a poll"), (false, "told to panic in a settlement")] {
        let (poll, settle): (Arc<AtomicBool>, Arc<AtomicBool>) = Default::default();
        let mut rig = rig(8, Delivery::Every);
        rig.engine.readers = 2;
        let (poll_too, settle_too) = (Arc::clone(&poll), Arc::clone(&settle));
        let mut made = 0;
        rig.tamper = Box::new(move |inner| {
            made += 1;
            match made {
                1 => Box::new(Panicking { inner, poll: Arc::clone(&poll_too), settle: Arc::clone(&settle_too) }),
                _ => Box::new(inner),
            }
        });
        let running = rig.start().expect("starts");
        (0..8).for_each(|camera| running.push_all(camera, 0..5));
        running.wait_settled();
        if in_poll { &poll } else { &settle }.store(true, Ordering::SeqCst);
        (0..8).for_each(|camera| running.push_all(camera, 5..10));
        until("it is said", || running.said("source 0 of reader 0", text));
        until("the others are served", || running.sources[1].unread() == 0 && running.total().in_flight == 0);
        let stopped = running.stop();
        let whole = (0..8).filter(|&camera| stopped.sequences(0, camera).len() == 10).count();
        assert!((1..8).contains(&whole) || !in_poll, "{whole} cameras of the other source");
    }
}

#[test]
fn duplicates_are_dropped_by_name_and_gaps_are_counted() {
    let running = rig(2, Delivery::Every).start().expect("starts");
    for sequence in [10, 11, 11, 14, 10, 15, 20] {
        running.push(0, sequence, Picture::default());
    }
    running.push_all(1, 0..10);
    running.wait_settled();
    let counts = running.counts(0);
    assert_eq!((counts.published, counts.dropped(DropReason::Duplicate), counts.lost_upstream), (5, 2, 2 + 4));
    assert_eq!(running.counts(1).lost_upstream, 0);
    let stopped = running.stop();
    assert_eq!(stopped.sequences(0, 0), [10, 11, 14, 15, 20]);
}

#[test]
fn frames_that_a_source_comes_back_to_are_published_once_between_those_that_flow() {
    let running = rig(2, Delivery::Every).start().expect("starts");
    let again = |sequence: u64| {
        let picture = Picture { value: value(0, sequence), ..Picture::default() };
        running.sources[0].push_arrival(Arrival {
            camera: CameraIndex(0),
            sequence: Some(sequence),
            captured_at: None,
            payload: Payload::Encoded(picture.bytes()),
            token: Token(2009, 1 + sequence),
            overtaken: 0,
            redelivered: true,
            name: None,
        });
    };
    running.push_all(0, 2000..2010);
    // Another consumer has died with them: the camera's first, and some that lie within any window.
    (0..3).chain(1990..2000).for_each(again);
    running.push_all(0, 2010..2020);
    running.push_all(1, 0..20);
    until("all are settled", || running.total().received == 53 && running.total().in_flight == 0);
    let counts = running.counts(0);
    assert_eq!((counts.published, counts.dropped_total(), counts.lost_upstream), (33, 0, 0));
    let stopped = running.stop();
    let expected: Vec<u64> = (2000..2010).chain(0..3).chain(1990..2000).chain(2010..2020).collect();
    assert_eq!(stopped.sequences(0, 0), expected, "in the order in which they came");
    assert_eq!(stopped.sequences(0, 1), (0..20).collect::<Vec<_>>());
}

#[test]
fn a_camera_that_stops_and_returns_neither_waits_nor_makes_others_wait() {
    let running = rig(2, LATEST).start().expect("starts");
    running.push_all(0, 0..1);
    running.push_all(1, 0..1);
    running.wait_settled();
    for sequence in 1..50 {
        running.push_all(1, sequence..sequence + 1);
        running.wait_settled();
    }
    running.push_all(0, 300..301);
    running.wait_settled();
    assert_eq!(running.counts(0).lost_upstream, 299, "what it lost meanwhile is known");
    let stopped = running.stop();
    assert_eq!(stopped.sequences(0, 0), [0, 300]);
    assert_eq!(stopped.sequences(0, 1), (0..50).collect::<Vec<_>>());
}

/// The steady clock is the machine's; the wall clock says what the test says.
struct Jumping(SystemClock, Arc<AtomicU64>);

impl Clock for Jumping {
    fn mono(&self) -> Mono {
        self.0.mono()
    }

    fn unix(&self) -> UnixNanos {
        UnixNanos(self.1.load(Ordering::SeqCst))
    }
}

#[test]
fn a_wall_clock_that_jumps_drops_nothing() {
    let day = 86_400_000_000_000;
    let unix = Arc::new(AtomicU64::new(20_000 * day));
    let mut rig = rig(2, Delivery::Latest { age_max: Duration::from_secs(60) });
    rig.clock = Arc::new(Jumping(SystemClock::new(), Arc::clone(&unix)));
    let running = rig.start().expect("starts");
    let jumps = [20_000 * day, 30_000 * day, 0, 20_000 * day + 1, u64::MAX];
    for (sequence, now) in jumps.into_iter().enumerate() {
        unix.store(now, Ordering::SeqCst);
        (0..2).for_each(|camera| running.push_all(camera, sequence as u64..sequence as u64 + 1));
        running.wait_settled();
    }
    let stopped = running.stop();
    assert_eq!((stopped.report.counts.published, stopped.report.counts.dropped_total()), (10, 0));
    let labels: Vec<u64> =
        stopped.published[0].iter().filter(|r| r.camera.slot() == 0).map(|r| r.captured_at.0).collect();
    assert_eq!(labels, jumps, "labels say what the wall clock said");
}

/// Finds the cameras that a test puts into its list, or panics where it should.
struct Finding {
    inner: ManualSource,
    found: Arc<Mutex<Vec<CameraIndex>>>,
    panics: bool,
}

impl Source for Finding {
    fn poll(&mut self, demand: &dyn Demand, arrivals: &mut Vec<Arrival>) -> Result<Polled, SourceError> {
        self.inner.poll(demand, arrivals)
    }

    fn found(&mut self) -> Vec<CameraIndex> {
        assert!(!self.panics, "told to panic while it looks for cameras");
        std::mem::take(&mut *self.found.lock())
    }

    fn settle(&mut self, settlements: &[Settlement]) -> Result<(), SourceError> {
        self.inner.settle(settlements)
    }
}

#[test]
fn cameras_found_while_running_are_served_like_the_others() {
    for delivery in [Delivery::Every, LATEST] {
        let found = Arc::new(Mutex::new(Vec::new()));
        let mut rig = rig(1, delivery);
        let plan = CameraPlan { id: CameraId::new("found").expect("a camera id"), ..rig.cameras[0].clone() };
        let list = Arc::clone(&found);
        rig.tamper = Box::new(move |inner| Box::new(Finding { inner, found: Arc::clone(&list), panics: false }));
        let running = rig.start().expect("starts");
        let index = running.engine.shared().cameras.add([plan])[0];
        found.lock().push(index);
        for sequence in 0..20 {
            running.push(0, sequence, Picture::default());
            let picture = Picture { value: value(index.slot(), sequence), ..Picture::default() };
            running.sources[0].push(index, sequence, picture.bytes());
            until("both are settled", || {
                let ledger = &running.engine.shared().ledger;
                ledger.total().published == 2 * (sequence + 1) && ledger.total().in_flight == 0
            });
        }
        let stopped = running.stop();
        assert_eq!(stopped.sequences(0, index.slot()), (0..20).collect::<Vec<_>>(), "{delivery:?}");
        assert!(stopped.report.counts.balanced());
    }
}

#[test]
fn a_source_that_panics_while_it_looks_for_cameras_is_given_up() {
    let mut rig = rig(1, Delivery::Every);
    rig.tamper = Box::new(|inner| Box::new(Finding { inner, found: Arc::default(), panics: true }));
    let running = rig.start().expect("starts");
    until("it is said", || running.said("source 0 of reader 0", "told to panic while it looks for cameras"));
    assert!(running.stop().report.counts.balanced());
}

#[test]
fn what_came_in_a_pictures_place_is_dropped_by_name_in_its_cameras_order() {
    let mut rig = rig(1, Delivery::Every);
    rig.engine.error_results = true;
    let running = rig.start().expect("starts");
    for sequence in 0..9 {
        if sequence % 3 == 1 {
            let what = Unreadable { reason: DropReason::EntryUnreadable, message: "no field named data".into() };
            running.sources[0].push_arrival(Arrival {
                camera: CameraIndex(0),
                sequence: Some(sequence),
                captured_at: None,
                payload: Payload::Unreadable(Arc::new(what)),
                token: Token(sequence, 0),
                overtaken: 0,
                redelivered: false,
                name: None,
            });
        } else {
            running.push(0, sequence, Picture::default());
        }
    }
    until("all are settled", || running.total().received == 9 && running.total().in_flight == 0);
    let stopped = running.stop();
    assert_eq!(stopped.sequences(0, 0), (0..9).collect::<Vec<_>>(), "its error result keeps its place");
    assert_eq!(stopped.dropped(DropReason::EntryUnreadable), 3);
    assert!(stopped.report.counts.balanced());
}
