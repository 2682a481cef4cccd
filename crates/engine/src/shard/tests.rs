//! A shard as a specification: what it admits, counts and refuses, and how much room it gives.

use std::time::Duration;

use bytes::Bytes;
use omma_frame::{CameraId, Payload, Token};
use proptest::prelude::*;

use super::*;
use crate::cameras::{CameraPlan, Cameras};

const CAMERA: CameraIndex = CameraIndex(0);

fn shards(delivery: Delivery) -> (Shards, Arc<Ledger>) {
    let id = CameraId::new("cam").unwrap_or_else(|error| panic!("{error}"));
    let plan = CameraPlan {
        id,
        delivery,
        model: 0,
        route: 0,
        entry_ids: false,
        waiting_frames_max: 1,
        in_flight_frames_max: 4,
    };
    let cameras = Cameras::new(32);
    cameras.add([plan]);
    let ledger = Arc::new(Ledger::default());
    let mut shards = Shards::new(Arc::clone(&ledger), 1000, 3);
    shards.own(&cameras.snapshot()[0]);
    (shards, ledger)
}

fn arrival(sequence: Option<u64>, bytes: usize) -> Arrival {
    let payload = Payload::Encoded(Bytes::from(vec![1; bytes]));
    Arrival {
        camera: CAMERA,
        sequence,
        captured_at: None,
        payload,
        token: Token(9, 9),
        overtaken: 0,
        redelivered: false,
        name: None,
    }
}

fn free() -> Pressure {
    Pressure { model_full: vec![false], model_bytes_full: vec![false], route_frames_max: vec![100] }
}

#[test]
fn sequences_gaps_duplicates_and_restarts() {
    // (what arrives) -> (its sequence or why not, frames lost upstream so far)
    let table: [(Option<u64>, Result<u64, DropReason>, u64); 9] = [
        (Some(100), Ok(100), 0), // the first frame only tells where the camera stands
        (Some(101), Ok(101), 0),
        (Some(105), Ok(105), 3),
        (Some(105), Err(DropReason::Duplicate), 3),
        (Some(104), Err(DropReason::Duplicate), 3),
        (None, Ok(106), 3),  // a producer that does not count is counted
        (Some(0), Ok(0), 3), // the camera counts anew
        (Some(1), Ok(1), 3),
        (Some(5000), Ok(5000), 5001),
    ];
    let (mut shards, ledger) = shards(Delivery::Every);
    for (row, (sequence, expected, lost)) in table.into_iter().enumerate() {
        let found = match shards.admit(arrival(sequence, 1), Mono(1), UnixNanos(1)) {
            Ok(admitted) => Ok(admitted.frame.sequence),
            Err(Some(Settlement { fate: Fate::Dropped(reason), .. })) => Err(reason),
            Err(other) => panic!("row {row}: {other:?}"),
        };
        assert_eq!(found, expected, "row {row}");
        let counts = ledger.camera(CAMERA);
        assert_eq!(counts.lost_upstream, lost, "row {row}");
        assert!(counts.balanced(), "row {row}: {counts:?}");
    }
}

#[test]
fn what_another_process_has_read_in_between_is_neither_lost_nor_a_duplicate() {
    let (mut shards, ledger) = shards(Delivery::Every);
    for resumed_at in [100, 500, 450] {
        shards.resume(CAMERA);
        for sequence in resumed_at..resumed_at + 3 {
            assert!(shards.admit(arrival(Some(sequence), 1), Mono(1), UnixNanos(1)).is_ok(), "{sequence}");
        }
    }
    assert!(shards.admit(arrival(Some(451), 1), Mono(1), UnixNanos(1)).is_err(), "a duplicate");
    assert_eq!(ledger.camera(CAMERA).lost_upstream, 0);
}

#[test]
fn what_is_redelivered_is_admitted_whatever_its_number_and_the_count_stands_where_it_stood() {
    let (mut shards, ledger) = shards(Delivery::Every);
    let mut admit = |sequence, redelivered| {
        let admitted = shards.admit(Arrival { redelivered, ..arrival(sequence, 1) }, Mono(1), UnixNanos(1));
        admitted.map(|admitted| admitted.frame.sequence).ok()
    };
    assert_eq!(admit(Some(5000), false), Some(5000));
    // Just below, far below, where a count begins, and ahead of one that began anew since.
    for redelivered in [4999, 4000, 10, 0, 7000] {
        assert_eq!(admit(Some(redelivered), true), Some(redelivered));
    }
    assert_eq!(admit(Some(5000), false), None, "a duplicate all the same");
    assert_eq!(admit(Some(5001), false), Some(5001));
    // Of a producer that does not count, it is counted like any other.
    assert_eq!((admit(None, true), admit(None, false)), (Some(5002), Some(5003)));
    let counts = ledger.camera(CAMERA);
    assert_eq!((counts.received, counts.in_flight, counts.lost_upstream), (10, 9, 0));
    assert!(counts.balanced(), "{counts:?}");
}

#[test]
fn frames_that_a_source_left_unread_are_received_and_overtaken_not_lost() {
    // (sequence, left unread before it) -> (received, overtaken, lost upstream) so far
    let table: [(Option<u64>, u64, (u64, u64, u64)); 5] = [
        (Some(10), 4, (5, 4, 0)),
        (Some(13), 2, (8, 6, 0)),   // the two that are missing are those that were left
        (Some(20), 2, (11, 8, 4)),  // of six that are missing, two were left
        (Some(21), 3, (15, 11, 4)), // more left than missing: the producer's count is its own
        (None, 1, (17, 12, 4)),
    ];
    let (mut shards, ledger) = shards(Delivery::Latest { age_max: Duration::from_secs(1) });
    for (row, (sequence, overtaken, expected)) in table.into_iter().enumerate() {
        let admitted = shards.admit(Arrival { overtaken, ..arrival(sequence, 1) }, Mono(1), UnixNanos(1));
        assert!(admitted.is_ok(), "row {row}");
        let counts = ledger.camera(CAMERA);
        let found = (counts.received, counts.dropped(DropReason::Overtaken), counts.lost_upstream);
        assert_eq!(found, expected, "row {row}");
        assert!(counts.balanced(), "row {row}: {counts:?}");
    }
}

#[test]
fn payloads_that_cannot_be_pictures_go_no_further() {
    let table = [(0, DropReason::PayloadEmpty), (1001, DropReason::PayloadTooLarge)];
    let (mut shards, ledger) = shards(Delivery::Every);
    for (bytes, reason) in table {
        let refused = shards.admit(arrival(None, bytes), Mono(1), UnixNanos(1)).err().flatten();
        assert_eq!(refused.map(|settlement| settlement.fate), Some(Fate::Dropped(reason)));
        assert_eq!(ledger.camera(CAMERA).dropped(reason), 1);
    }
    assert_eq!((shards.in_flight(), ledger.camera(CAMERA).balanced()), (0, true));
}

#[test]
fn a_camera_of_another_reader_is_not_counted_here() {
    let (mut shards, ledger) = shards(Delivery::Every);
    let stranger = Arrival { camera: CameraIndex(7), ..arrival(None, 1) };
    assert_eq!(shards.admit(stranger, Mono(1), UnixNanos(1)).err(), Some(None));
    assert_eq!(ledger.total().received, 0);
}

#[test]
fn latest_frames_expire_and_have_a_bounded_wait_every_frame_stays() {
    let latest = Delivery::Latest { age_max: Duration::from_nanos(50) };
    for (delivery, expires, room) in [(latest, Some(Mono(60)), Some(1)), (Delivery::Every, None, None)] {
        let (mut shards, _) = shards(delivery);
        let admitted = shards.admit(arrival(None, 1), Mono(10), UnixNanos(77));
        let found = admitted.map(|a| (a.expires, a.room, a.frame.captured_at)).ok();
        assert_eq!(found, Some((expires, room, UnixNanos(77))));
    }
}

#[test]
fn room_ends_where_frames_could_not_be_kept() {
    let (mut every, _) = shards(Delivery::Every);
    assert_eq!(every.room(CAMERA, &free()), 3, "one read's worth");
    for _ in 0..2 {
        assert!(every.admit(arrival(None, 1), Mono(1), UnixNanos(1)).is_ok());
    }
    assert_eq!(every.room(CAMERA, &free()), 2, "four may be in flight, two are");
    let model_full = Pressure { model_full: vec![true], ..free() };
    assert_eq!(every.room(CAMERA, &model_full), 0);
    let route_full = Pressure { route_frames_max: vec![2], ..free() };
    assert_eq!(every.room(CAMERA, &route_full), 0);
    let bytes_full = Pressure { model_bytes_full: vec![true], ..free() };
    assert_eq!(every.room(CAMERA, &bytes_full), 0);
    let (latest, _) = shards(Delivery::Latest { age_max: Duration::from_secs(1) });
    assert_eq!(latest.room(CAMERA, &model_full), 3, "live cameras are always read: the newest frame wins");
    assert_eq!(latest.room(CAMERA, &bytes_full), 0, "but for memory");
    assert_eq!(latest.room(CameraIndex(5), &free()), 0);
}

proptest! {
    /// Whatever arrives and however it is settled, the ledger balances after each step.
    #[test]
    fn the_ledger_law_holds_after_every_step(
        steps in prop::collection::vec((prop::option::of(0..30u64), 0..3usize, any::<bool>(), 0..DropReason::ALL.len()), 1..200)
    ) {
        let (mut shards, ledger) = shards(Delivery::Every);
        let mut in_flight = Vec::new();
        for (sequence, size, settle, reason) in steps {
            match shards.admit(arrival(sequence, size * 600), Mono(1), UnixNanos(1)) {
                Ok(admitted) => in_flight.push(admitted.frame),
                Err(settled) => prop_assert!(settled.is_some()),
            }
            if settle && let Some(frame) = in_flight.pop() {
                    let reason = DropReason::ALL[reason];
                    let fate = if reason == DropReason::Shutdown { Fate::Published } else { Fate::Dropped(reason) };
                    shards.settle(&Settlement { camera: CAMERA, sequence: frame.sequence, token: frame.token, fate });
            }
            let counts = ledger.camera(CAMERA);
            prop_assert!(counts.balanced(), "{:?}", counts);
            prop_assert_eq!(counts.in_flight, in_flight.len() as u64);
            prop_assert_eq!(shards.in_flight(), in_flight.len());
        }
    }
}
