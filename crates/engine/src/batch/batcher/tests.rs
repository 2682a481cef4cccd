//! The batcher as a specification: closing, order, fairness, lanes, eviction, age; then properties over histories.

use proptest::prelude::*;

use super::*;

const MS: u64 = 1_000_000;

fn plan(size: usize, size_max: usize) -> BatchPlan {
    BatchPlan { size, size_max, timeout: Duration::from_millis(5), direct_share_percent: 75 }
}

fn at(ms: u64) -> Mono {
    Mono(ms * MS)
}

fn entry<T>(ms: u64, item: T) -> Entry<T> {
    Entry { arrived: at(ms), expires: None, bytes: 1, item }
}

/// Takes once; returns the decision and the items.
fn take(batcher: &mut Batcher<&'static str>, now: Mono, seat: Seat) -> (Take, Vec<&'static str>) {
    let (mut batch, mut expired) = (Vec::new(), Vec::new());
    let decision = batcher.take(now, seat, false, &mut batch, &mut expired);
    assert!(expired.is_empty());
    (decision, batch.into_iter().map(|taken| taken.item).collect())
}

fn filled(batcher: &mut Batcher<&'static str>, frames: &[(u32, u64, &'static str)]) {
    for (camera, ms, item) in frames {
        assert_eq!(batcher.push(CameraIndex(*camera), entry(*ms, *item), None), None);
    }
}

#[test]
fn a_batch_closes_when_full_overdue_or_an_instance_idles() {
    let busy = Seat::Ahead;
    let idle = Seat::Idle(at(0));
    let two = [(0, 10, "a"), (1, 11, "b")];
    let four = [(0, 10, "a"), (1, 10, "b"), (2, 10, "c"), (3, 10, "d")];
    // (frames waiting, service time in ms, now in ms, idle since) -> decision
    type Frames<'a> = &'a [(u32, u64, &'static str)];
    type Row<'a> = (Frames<'a>, u64, u64, Seat, Take);
    let table: [Row<'_>; 12] = [
        (&[], 0, 10, idle, Take::Empty),
        // Full: at once, even for a busy instance.
        (&four, 40, 10, busy, Take::Ready),
        // Not full and nobody idle: closing early would gain nothing, the batch would wait for the instance.
        (&two, 40, 11, busy, Take::WaitUntil(Mono(u64::MAX))),
        (&two, 40, 99, busy, Take::WaitUntil(Mono(u64::MAX))),
        // No place but for direct requests, or none at all: however full.
        (&four, 40, 99, Seat::Direct, Take::WaitUntil(Mono(u64::MAX))),
        (&four, 40, 99, Seat::None, Take::WaitUntil(Mono(u64::MAX))),
        (&[], 40, 99, Seat::None, Take::Empty),
        // Idle: the oldest frame has waited its 5 ms.
        (&two, 4000, 15, idle, Take::Ready),
        // Idle, and a batch costs nothing known: at once.
        (&two, 0, 11, idle, Take::Ready),
        // Idle, a batch takes 40 ms: a twentieth of it after the last arrival, 2 ms.
        (&two, 40, 11, idle, Take::WaitUntil(at(13))),
        (&two, 40, 13, idle, Take::Ready),
        // However long a batch takes, nobody waits longer than the timeout.
        (&two, 4000, 11, idle, Take::WaitUntil(at(15))),
    ];
    for (row, (frames, service_ms, now, seat, expected)) in table.into_iter().enumerate() {
        let mut batcher = Batcher::new(plan(4, 4), 8);
        filled(&mut batcher, frames);
        if service_ms > 0 {
            batcher.observe(Duration::from_millis(service_ms));
        }
        assert_eq!(take(&mut batcher, at(now), seat).0, expected, "row {row}");
    }
}

#[test]
fn an_instance_that_has_just_become_idle_lingers_for_those_who_come_back() {
    let mut batcher = Batcher::new(plan(16, 16), 8);
    batcher.observe(Duration::from_millis(20));
    filled(&mut batcher, &[(0, 10, "waited")]);
    // Idle since 12: the frame at 10 alone would go at 11, but whoever was in the last batch may return until 13.
    assert_eq!(take(&mut batcher, at(12), Seat::Idle(at(12))).0, Take::WaitUntil(at(13)));
    filled(&mut batcher, &[(1, 12, "returned")]);
    assert_eq!(take(&mut batcher, at(13), Seat::Idle(at(12))), (Take::Ready, vec!["waited", "returned"]));
}

/// Whether the batcher lingers with so many waiting frames, after 200 moments of which each `every`th brought company.
fn lingers(every: u64, waiting: u64) -> bool {
    let mut batcher: Batcher<u64> = Batcher::new(plan(16, 16), 8);
    batcher.observe(Duration::from_millis(20));
    let (mut batch, mut expired) = (Vec::new(), Vec::new());
    let mut seat = |batcher: &mut Batcher<u64>, now: u64| {
        batch.clear();
        batcher.take(at(now), Seat::Idle(at(1)), false, &mut batch, &mut expired)
    };
    for moment in 1..=200 {
        let now = moment * 100;
        assert_eq!(batcher.push(CameraIndex(0), entry(now, now), None), None);
        let _ = seat(&mut batcher, now);
        if moment % every == 0 {
            assert_eq!(batcher.push(CameraIndex(1), entry(now + 1, now), None), None);
            let _ = seat(&mut batcher, now + 1);
        }
        assert!(seat(&mut batcher, now + 50) != Take::WaitUntil(at(now + 51)), "no longer than the linger");
    }
    for camera in 0..waiting {
        assert_eq!(batcher.push(CameraIndex(camera as u32), entry(90_000, camera), None), None);
    }
    seat(&mut batcher, 90_000) != Take::Ready
}

#[test]
fn an_instance_lingers_where_company_comes_often_enough_to_be_worth_the_wait_of_those_who_are_there() {
    // (company in one of so many moments, frames that wait) -> whether it lingers, each for a twentieth of a batch
    let table = [(1, 1, true), (1, 8, true), (4, 1, true), (4, 8, false), (1000, 1, false), (1000, 8, false)];
    for (every, waiting, expected) in table {
        assert_eq!(lingers(every, waiting), expected, "company in one of {every}, {waiting} wait");
    }
}

/// What a batcher of batches that take 20 ms decides for a busy server, after 100 batches that left 1 ms before an answer
/// and of which each `every`th answer brought its caller back after half a millisecond.
fn decides_for_a_busy_server(every: u64, now: u64) -> Take {
    let mut batcher: Batcher<u64> = Batcher::new(plan(16, 16), 8);
    batcher.observe(Duration::from_millis(20));
    let (mut batch, mut expired) = (Vec::new(), Vec::new());
    for round in 1..=100 {
        let back = round * 100;
        assert_eq!(batcher.push(CameraIndex(0), entry(back - 50, round), None), None);
        let seat = Seat::Soon { at: at(back - 1), back: at(back) };
        let _ = batcher.take(at(back), seat, true, &mut batch, &mut expired);
        batch.clear();
        if round % every == 0 {
            let returned = Entry { arrived: Mono(at(back).0 + 500_000), ..entry(0, round) };
            assert_eq!(batcher.push(CameraIndex(0), returned, None), None);
            let _ = batcher.take(at(back + 2), Seat::Idle(at(back + 2)), true, &mut batch, &mut expired);
            batch.clear();
        }
    }
    assert_eq!(batcher.push(CameraIndex(0), entry(90_000, 0), None), None);
    batcher.take(at(now), Seat::Soon { at: at(90_010), back: at(90_011) }, false, &mut batch, &mut expired)
}

#[test]
fn a_batch_leaves_for_a_busy_server_a_little_before_it_is_free_unless_those_of_the_last_one_would_join_it() {
    // (callers come back after one answer of so many, now) -> decision for a server that should be sent the next at 90,010
    let table = [
        (1000, 90_000, Take::WaitUntil(at(90_010))),
        (1000, 90_010, Take::Ready),
        (1000, 90_020, Take::Ready),
        (1, 90_000, Take::WaitUntil(Mono(u64::MAX))),
        (1, 90_010, Take::WaitUntil(Mono(u64::MAX))),
        (2, 90_010, Take::WaitUntil(Mono(u64::MAX))),
    ];
    for (every, now, expected) in table {
        assert_eq!(decides_for_a_busy_server(every, now), expected, "company after one in {every}, at {now}");
    }
    // As long as nothing is known of company, it is waited for.
    let mut batcher = Batcher::new(plan(16, 16), 8);
    filled(&mut batcher, &[(0, 10, "a")]);
    let seat = Seat::Soon { at: at(10), back: at(11) };
    assert_eq!(take(&mut batcher, at(10), seat).0, Take::WaitUntil(Mono(u64::MAX)));
}

#[test]
fn a_wait_for_a_busy_instance_is_no_wait_for_company() {
    let mut batcher = Batcher::new(plan(16, 16), 8);
    batcher.observe(Duration::from_millis(20));
    filled(&mut batcher, &[(0, 10, "waited")]);
    // It has waited 90 ms for the instance; whoever comes back with the last batch still joins it.
    assert_eq!(take(&mut batcher, at(100), Seat::Idle(at(100))).0, Take::WaitUntil(at(101)));
}

#[test]
fn cameras_are_served_in_turn_and_each_in_its_order() {
    let mut batcher = Batcher::new(plan(4, 4), 8);
    filled(&mut batcher, &[(7, 1, "a1"), (7, 1, "a2"), (7, 1, "a3"), (7, 1, "a4"), (8, 2, "b1"), (9, 3, "c1")]);
    assert_eq!(take(&mut batcher, at(3), Seat::Ahead).1, ["a1", "b1", "c1", "a2"]);
    assert_eq!(take(&mut batcher, at(9), Seat::Idle(at(9))).1, ["a3", "a4"]);
}

/// A model hangs or all instances are busy, and a `latest` camera goes on for days.
#[test]
fn frames_that_are_overtaken_unseen_leave_no_trace() {
    let mut batcher = Batcher::new(plan(4, 4), 8);
    for ms in 0..100_000 {
        let evicted = batcher.push(CameraIndex(ms as u32 % 3), entry(ms, "frame"), Some(2));
        assert_eq!(evicted.is_some(), ms >= 6);
    }
    assert_eq!(batcher.waiting(), 6);
    assert!(batcher.oldest.len() <= 65, "{} arrivals are remembered of 6 that wait", batcher.oldest.len());
}

#[test]
fn ordinals_are_dense_over_what_leaves_in_a_batch() {
    let mut batcher: Batcher<u32> = Batcher::new(plan(8, 8), 8);
    let camera = CameraIndex(3);
    let stale = Entry { arrived: at(1), expires: Some(at(2)), bytes: 1, item: 1 };
    assert_eq!(batcher.push(camera, stale, Some(9)), None);
    for item in [2, 3] {
        assert_eq!(batcher.push(camera, entry(1, item), Some(9)), None);
    }
    let (mut batch, mut expired) = (Vec::new(), Vec::new());
    assert_eq!(batcher.take(at(10), Seat::Idle(at(0)), false, &mut batch, &mut expired), Take::Ready);
    assert_eq!(expired, [1], "too old: handed back, without a place in the order");
    assert_eq!(batch, [Taken { item: 2, ordinal: 0 }, Taken { item: 3, ordinal: 1 }]);
}

#[test]
fn beyond_its_room_a_camera_loses_its_own_oldest_frame() {
    let mut batcher = Batcher::new(plan(8, 8), 8);
    let (a, b) = (CameraIndex(0), CameraIndex(1));
    assert_eq!(batcher.push(b, entry(1, "b1"), Some(1)), None);
    assert_eq!(batcher.push(a, entry(1, "a1"), Some(2)), None);
    assert_eq!(batcher.push(a, entry(1, "a2"), Some(2)), None);
    assert_eq!(batcher.push(a, entry(1, "a3"), Some(2)), Some("a1"));
    assert_eq!(batcher.waiting(), 3);
    assert_eq!(take(&mut batcher, at(9), Seat::Idle(at(0))).1, ["b1", "a2", "a3"]);
}

#[test]
fn direct_requests_go_first_and_neither_lane_starves_the_other() {
    let mut batcher = Batcher::new(plan(4, 4), 100);
    for _ in 0..40 {
        assert_eq!(batcher.push(CameraIndex(0), entry(1, "stream"), None), None);
        assert_eq!(batcher.push_direct(entry(1, "direct")), Ok(()));
    }
    let mut counts = Vec::new();
    for _ in 0..10 {
        let batch = take(&mut batcher, at(9), Seat::Ahead).1;
        assert_eq!(batch[0], "direct");
        counts.push(batch.iter().filter(|item| **item == "direct").count());
    }
    assert_eq!(counts, [3; 10], "three of four: the configured 75%");
}

#[test]
fn the_place_in_front_is_taken_at_once_by_a_direct_request_and_filled_up_with_frames() {
    let mut batcher = Batcher::new(plan(4, 4), 8);
    batcher.observe(Duration::from_millis(4000));
    filled(&mut batcher, &[(0, 1, "a"), (1, 1, "b")]);
    assert_eq!(batcher.push_direct(entry(1, "direct")), Ok(()));
    assert_eq!(take(&mut batcher, at(1), Seat::None).0, Take::WaitUntil(Mono(u64::MAX)));
    assert_eq!(take(&mut batcher, at(1), Seat::Direct), (Take::Ready, vec!["direct", "a", "b"]));
}

#[test]
fn one_by_one_the_share_holds_over_batches() {
    let mut batcher = Batcher::new(plan(1, 1), 100);
    for _ in 0..40 {
        assert_eq!(batcher.push(CameraIndex(0), entry(1, "stream"), None), None);
        assert_eq!(batcher.push_direct(entry(1, "direct")), Ok(()));
    }
    let served: Vec<_> = (0..16).flat_map(|_| take(&mut batcher, at(9), Seat::Ahead).1).collect();
    assert_eq!(served.iter().filter(|item| **item == "direct").count(), 12);
    assert_eq!(served[0], "direct");
}

#[test]
fn a_full_direct_lane_refuses_and_gives_the_request_back() {
    let mut batcher = Batcher::new(plan(4, 4), 1);
    assert_eq!(batcher.push_direct(entry(1, "first")), Ok(()));
    assert_eq!(batcher.push_direct(entry(1, "second")), Err("second"));
}

#[test]
fn the_target_follows_the_depth_within_its_bounds() {
    let mut batcher: Batcher<usize> = Batcher::new(plan(4, 16), 8);
    let mut sizes = Vec::new();
    for item in 0..60 {
        assert_eq!(batcher.push(CameraIndex(item as u32 % 10), entry(1, item), None), None);
    }
    let (mut batch, mut expired) = (Vec::new(), Vec::new());
    while batcher.take(at(9), Seat::Idle(at(0)), false, &mut batch, &mut expired) == Take::Ready {
        sizes.push(batch.len());
        batch.clear();
    }
    assert_eq!(sizes, [8, 16, 16, 16, 4], "doubles while frames pile up, up to 16");
    assert_eq!(batcher.target(), 8, "and comes back");
}

/// What happens to a batcher in a random history.
#[derive(Debug, Clone)]
enum Step {
    Push { camera: u32, room: Option<u32>, expires_ms: Option<u64> },
    Direct,
    Take { idle: bool },
    Pass { ms: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..5u32, prop::option::of(1..4u32), prop::option::of(0..10u64))
            .prop_map(|(camera, room, expires_ms)| Step::Push { camera, room, expires_ms }),
        2 => Just(Step::Direct),
        3 => any::<bool>().prop_map(|idle| Step::Take { idle }),
        2 => (0..4u64).prop_map(|ms| Step::Pass { ms }),
    ]
}

proptest! {
    /// Whatever the history: nothing is lost, nothing comes twice, each camera's frames leave in order with dense
    /// ordinals, no batch exceeds its bound, and no frame that anybody asks for waits beyond the timeout.
    #[test]
    fn every_frame_leaves_exactly_once_and_in_order(
        steps in prop::collection::vec(step(), 1..200),
        size in 1..6usize,
        more in 0..6usize,
    ) {
        let size_max = size + more;
        let mut batcher: Batcher<(u32, u64)> = Batcher::new(plan(size, size_max), 4);
        let mut now = 1;
        let mut pushed = [0u64; 6];
        let mut left = vec![Vec::new(); 6];
        let mut next_ordinal = [0u64; 5];
        let mut last_batched = [None; 6];
        let mut flush = false;
        for step in steps.into_iter().map(Some).chain(std::iter::repeat_n(None, 200)) {
            match step.clone() {
                Some(Step::Push { camera, room, expires_ms }) => {
                    let item = (camera, pushed[camera as usize]);
                    pushed[camera as usize] += 1;
                    let expires = expires_ms.map(|ms| at(now + ms));
                    let evicted = batcher.push(CameraIndex(camera), Entry { arrived: at(now), expires, bytes: 1, item }, room);
                    if let Some((camera, serial)) = evicted {
                        left[camera as usize].push(serial);
                    }
                }
                Some(Step::Direct) => {
                    let item = (5, pushed[5]);
                    if batcher.push_direct(entry(now, item)).is_ok() {
                        pushed[5] += 1;
                    }
                }
                Some(Step::Pass { ms }) => now += ms,
                Some(Step::Take { .. }) | None => {
                    flush |= step.is_none();
                    let idle = matches!(step, Some(Step::Take { idle: true }));
                    let seat = if idle { Seat::Idle(at(now)) } else { Seat::Ahead };
                    let (mut batch, mut expired) = (Vec::new(), Vec::new());
                    let waiting = batcher.waiting();
                    match batcher.take(at(now), seat, flush, &mut batch, &mut expired) {
                        Take::Ready => prop_assert!(!batch.is_empty() || !expired.is_empty()),
                        Take::Empty => prop_assert_eq!(batcher.waiting(), 0),
                        Take::WaitUntil(until) => {
                            prop_assert!(until > at(now));
                            prop_assert!(!idle || until <= at(now + 5), "nobody waits beyond the timeout");
                            prop_assert!(waiting < size_max);
                        }
                    }
                    prop_assert!(batch.len() <= size_max);
                    prop_assert_eq!(waiting - batcher.waiting(), batch.len() + expired.len());
                    for (camera, serial) in expired {
                        left[camera as usize].push(serial);
                    }
                    for Taken { item: (camera, serial), ordinal } in batch {
                        if camera < 5 {
                            prop_assert_eq!(ordinal, next_ordinal[camera as usize]);
                            next_ordinal[camera as usize] += 1;
                        }
                        prop_assert!(last_batched[camera as usize].is_none_or(|last| last < serial));
                        last_batched[camera as usize] = Some(serial);
                        left[camera as usize].push(serial);
                    }
                }
            }
        }
        prop_assert_eq!((batcher.waiting(), batcher.waiting_bytes()), (0, 0));
        for (queue, left) in left.iter_mut().enumerate() {
            left.sort_unstable();
            prop_assert_eq!(&*left, &(0..pushed[queue]).collect::<Vec<_>>(), "queue {}", queue);
        }
    }
}
