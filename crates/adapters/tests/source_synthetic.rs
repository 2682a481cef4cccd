//! Synthetic cameras: their pace, what they do when nobody reads them, and what a failing painter does to the others.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use omma_adapters::source::synthetic::{
    DrawnSource, Painter, StillSource, SyntheticCamera, SyntheticOptions, scene_painter, scene_stills,
};
use omma_adapters::source::{Keep, Pace};
use omma_engine::clock::{Clock, ManualClock, SystemClock};
use omma_engine::source::{Arrival, Polled, Source, SourceError};
use omma_frame::{CameraIndex, Mono, Payload, Size, UnixNanos};
use omma_testkit::source::{Specimen, TestDemand, conformance};

const PATIENCE: Duration = Duration::from_secs(20);

fn options(cameras: u32, pace: Pace, keep: Keep, frames: Option<u64>) -> SyntheticOptions {
    let cameras = (0..cameras).map(|index| SyntheticCamera { camera: CameraIndex(index), keep }).collect();
    SyntheticOptions { cameras, pace, frames }
}

/// "Draws" the camera's index and the picture's number.
fn name_painter(_: &[CameraIndex]) -> Painter {
    Box::new(|camera, number, out| {
        out.extend_from_slice(&[camera.0 as u8, number as u8]);
        Ok(())
    })
}

fn drawn(options: SyntheticOptions, threads: usize, painter: impl FnMut(&[CameraIndex]) -> Painter) -> DrawnSource {
    DrawnSource::open(options, threads, painter, Arc::new(SystemClock::new())).expect("options are right")
}

fn bytes(arrival: &Arrival) -> &[u8] {
    match &arrival.payload {
        Payload::Encoded(bytes) => bytes,
        other => panic!("always encoded, not {other:?}"),
    }
}

fn sequences(arrivals: &[Arrival], camera: u32) -> Vec<u64> {
    arrivals
        .iter()
        .filter(|arrival| arrival.camera == CameraIndex(camera))
        .filter_map(|arrival| arrival.sequence)
        .collect()
}

/// Polls with plenty of room until the source ends; returns what came and what went wrong.
fn drain(source: &mut dyn Source) -> (Vec<Arrival>, Vec<SourceError>) {
    let (mut arrivals, mut errors) = (Vec::new(), Vec::new());
    let begin = Instant::now();
    loop {
        match source.poll(&TestDemand::new(100, 1000), &mut arrivals) {
            Ok(Polled::Ended) => return (arrivals, errors),
            Ok(Polled::Open) => {}
            Err(error) => errors.push(error),
        }
        assert!(begin.elapsed() < PATIENCE, "stuck after {} frames, errors {errors:?}", arrivals.len());
        std::thread::sleep(Duration::from_micros(200));
    }
}

fn until(what: &str, done: impl Fn() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < PATIENCE, "no {what}");
        std::thread::yield_now();
    }
}

#[test]
fn drawn_cameras_conform() {
    for (pace, threads) in [(Pace::Unlimited, 1), (Pace::Unlimited, 3), (Pace::PerSecond(2000.0), 2)] {
        conformance(|| Specimen {
            source: Box::new(drawn(options(5, pace, Keep::All, Some(30)), threads, name_painter)),
            cameras: (0..5).map(CameraIndex).collect(),
            frames: 30,
            lossless: true,
            ends: true,
            keep: None,
        });
    }
}

#[test]
fn still_cameras_conform() {
    for (pace, frames) in [(Pace::Unlimited, 30), (Pace::PerSecond(2000.0), 150)] {
        conformance(|| {
            let pictures = vec![Bytes::from_static(b"a"), Bytes::from_static(b"b")];
            let source =
                StillSource::open(options(5, pace, Keep::All, Some(frames)), pictures, Arc::new(SystemClock::new()));
            Specimen {
                source: Box::new(source.expect("options are right")),
                cameras: (0..5).map(CameraIndex).collect(),
                frames,
                lossless: true,
                ends: true,
                keep: None,
            }
        });
    }
}

#[test]
fn each_camera_gets_its_own_pictures_by_number() {
    let mut source = drawn(options(7, Pace::Unlimited, Keep::All, Some(20)), 3, name_painter);
    let counts = source.counts();
    let (arrivals, errors) = drain(&mut source);
    assert!(errors.is_empty());
    for arrival in &arrivals {
        assert_eq!(bytes(arrival), [arrival.camera.0 as u8, arrival.sequence.expect("numbered") as u8]);
    }
    assert_eq!((counts.delivered(), counts.overtaken(), counts.failed()), (140, 0, 0));
}

#[test]
fn a_painter_hears_only_of_its_own_cameras_and_each_camera_has_one() {
    let mut painters: HashMap<CameraIndex, usize> = HashMap::new();
    let mut threads = 0;
    drop(drawn(options(10, Pace::PerSecond(1.0), Keep::All, None), 4, |cameras| {
        threads += 1;
        cameras.iter().for_each(|&camera| assert_eq!(painters.insert(camera, threads), None));
        name_painter(cameras)
    }));
    assert_eq!((painters.len(), threads), (10, 4));
}

#[test]
fn an_unread_live_camera_keeps_its_newest_pictures_and_counts_the_others() {
    let mut source = drawn(options(3, Pace::PerSecond(1000.0), Keep::Newest, Some(50)), 1, name_painter);
    let counts = source.counts();
    until("end of all pictures", || counts.overtaken() >= 3 * 48);
    let (arrivals, errors) = drain(&mut source);
    assert!(errors.is_empty());
    for camera in 0..3 {
        let newest = sequences(&arrivals, camera);
        assert!(newest.len() <= 2 && newest.last() == Some(&49), "{newest:?}");
    }
    assert_eq!(counts.overtaken() + counts.delivered(), 150, "every picture has one fate");
}

#[test]
fn a_picture_that_cannot_be_drawn_is_reported_and_the_rest_goes_on() {
    let mut source = drawn(options(2, Pace::Unlimited, Keep::All, Some(5)), 1, |_| {
        Box::new(|camera, number, out| {
            out.push(1);
            if (camera.0, number) == (1, 2) { Err("out of paint".into()) } else { Ok(()) }
        })
    });
    let (arrivals, errors) = drain(&mut source);
    assert_eq!((sequences(&arrivals, 0), sequences(&arrivals, 1)), (vec![0, 1, 2, 3, 4], vec![0, 1, 3, 4]));
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].camera, Some(CameraIndex(1)));
    assert_eq!(errors[0].to_string(), "synthetic cameras: cannot draw picture 2: out of paint; going on");
}

#[test]
fn a_painter_that_panics_stops_its_cameras_and_no_others() {
    let mut source = drawn(options(2, Pace::Unlimited, Keep::All, Some(5)), 2, |_| {
        Box::new(|camera, number, out| {
            assert!((camera.0, number) != (1, 2), "told to panic");
            out.push(1);
            Ok(())
        })
    });
    let (arrivals, errors) = drain(&mut source);
    assert_eq!((sequences(&arrivals, 0), sequences(&arrivals, 1)), (vec![0, 1, 2, 3, 4], vec![0, 1]));
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].to_string(), "synthetic cameras: a drawing thread panicked: 1 cameras have stopped; given up");
}

#[test]
fn dropping_the_source_ends_its_threads_whatever_they_wait_for() {
    for pace in [Pace::Unlimited, Pace::PerSecond(0.001)] {
        let (alive, gone) = crossbeam_channel::bounded::<()>(1);
        let source = drawn(options(3, pace, Keep::All, None), 2, |_| {
            let alive = alive.clone();
            Box::new(move |_, _, out| {
                // Owned by the painter for as long as its thread lives.
                let _ = &alive;
                out.push(1);
                Ok(())
            })
        });
        drop(alive);
        drop(source);
        assert_eq!(gone.try_recv(), Err(crossbeam_channel::TryRecvError::Disconnected));
    }
}

#[test]
fn options_that_make_no_sense_are_refused() {
    for (pace, threads, message) in [
        (
            Pace::PerSecond(0.0),
            1,
            "synthetic cameras: the pace is PerSecond(0.0), expected a finite number of frames/s above 0; given up",
        ),
        (Pace::Unlimited, 0, "synthetic cameras: 0 drawing threads, expected 1 to 256; given up"),
        (Pace::Unlimited, 1000, "synthetic cameras: 1000 drawing threads, expected 1 to 256; given up"),
    ] {
        let source =
            DrawnSource::open(options(1, pace, Keep::All, None), threads, name_painter, Arc::new(SystemClock::new()));
        assert_eq!(source.err().expect("refused").to_string(), message);
    }
}

/// Still cameras on a clock that the test moves.
fn still(cameras: u32, keep: Keep, frames: Option<u64>) -> (StillSource, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(Mono(1_000_000_000), UnixNanos(5_000_000_000)));
    let pictures = vec![Bytes::from_static(b"a"), Bytes::from_static(b"b"), Bytes::from_static(b"c")];
    let source = StillSource::open(
        options(cameras, Pace::PerSecond(10.0), keep, frames),
        pictures,
        Arc::clone(&clock) as Arc<dyn Clock>,
    );
    (source.expect("options are right"), clock)
}

fn poll(source: &mut StillSource, demand: &TestDemand) -> Vec<Arrival> {
    let mut arrivals = Vec::new();
    source.poll(demand, &mut arrivals).expect("never fails");
    arrivals
}

#[test]
fn still_cameras_keep_the_pace_with_phases_spread_and_no_drift() {
    let (mut source, clock) = still(4, Keep::All, None);
    let plenty = TestDemand::new(1000, 10_000);
    let mut due = Vec::new();
    for _ in 0..8 {
        due.push(
            poll(&mut source, &plenty).iter().map(|arrival| (arrival.camera.0, arrival.sequence)).collect::<Vec<_>>(),
        );
        clock.advance(Duration::from_millis(25));
    }
    let expected: Vec<Vec<(u32, Option<u64>)>> =
        (0..8).map(|tick| vec![(tick % 4, Some(u64::from(tick / 4)))]).collect();
    assert_eq!(due, expected);
    clock.advance(Duration::from_secs(3600));
    let hour = poll(&mut source, &plenty.clone());
    assert_eq!(hour.len(), 4000, "at most what there is room for");
    clock.advance(Duration::from_secs(3600));
    let mut frames = 8 + hour.len();
    loop {
        let more = poll(&mut source, &plenty).len();
        frames += more;
        if more == 0 {
            break;
        }
    }
    // Two hours and 200 ms, the last instant of which begins picture 72,002 of the first camera.
    assert_eq!(frames, 4 * 72_002 + 1);
}

#[test]
fn still_pictures_carry_the_time_they_were_due() {
    let (mut source, clock) = still(1, Keep::All, None);
    clock.advance(Duration::from_millis(150));
    let arrivals = poll(&mut source, &TestDemand::new(9, 9));
    let times: Vec<_> = arrivals.iter().map(|arrival| arrival.captured_at.expect("told").0).collect();
    assert_eq!(times, [5_000_000_000, 5_100_000_000]);
}

#[test]
fn an_unread_live_still_camera_loses_all_but_the_newest() {
    let (mut source, clock) = still(2, Keep::Newest, Some(100));
    let counts = source.counts();
    clock.advance(Duration::from_secs(5));
    assert!(poll(&mut source, &TestDemand::new(0, 10)).is_empty());
    let arrivals = poll(&mut source, &TestDemand::new(1, 10));
    // Camera 1's picture 49 was due at 4.95 s, camera 0's picture 50 at 5.00 s.
    assert_eq!((sequences(&arrivals, 0), sequences(&arrivals, 1)), (vec![50], vec![49]));
    assert_eq!((counts.overtaken(), counts.delivered()), (99, 2));
    clock.advance(Duration::from_secs(100));
    let mut rest = Vec::new();
    assert_eq!(source.poll(&TestDemand::new(1, 10), &mut rest).expect("never fails"), Polled::Ended);
    assert_eq!((sequences(&rest, 0), sequences(&rest, 1)), (vec![99], vec![99]));
}

#[test]
fn still_cameras_show_the_pictures_in_turn_without_copying_them() {
    let (mut source, clock) = still(2, Keep::All, None);
    clock.advance(Duration::from_secs(1));
    let arrivals = poll(&mut source, &TestDemand::new(4, 100));
    let shown: Vec<u8> =
        arrivals.iter().filter(|arrival| arrival.camera.0 == 1).map(|arrival| bytes(arrival)[0]).collect();
    assert_eq!(shown, *b"bcab");
    assert_eq!(bytes(&arrivals[0]).as_ptr(), bytes(&arrivals[3]).as_ptr(), "shared");
}

#[test]
fn scenes_are_what_their_seed_camera_and_number_say() {
    let size = Size { width: 96, height: 64 };
    let raw = || -> omma_adapters::source::synthetic::Encode {
        Box::new(|rgb, size, out| {
            assert_eq!(rgb.len(), size.width as usize * size.height as usize * 3);
            out.clear();
            out.extend_from_slice(rgb);
            Ok(())
        })
    };
    let mut source =
        drawn(options(3, Pace::Unlimited, Keep::All, Some(4)), 2, |cameras| scene_painter(77, size, cameras, raw()));
    let (arrivals, errors) = drain(&mut source);
    assert!(errors.is_empty() && arrivals.len() == 12);
    let mut rgb = vec![0; 96 * 64 * 3];
    for arrival in &arrivals {
        let scene = omma_scenes::Scene::new(77, arrival.camera.0, omma_scenes::Size { width: 96, height: 64 });
        scene.render(arrival.sequence.expect("numbered"), &mut rgb).expect("the right length");
        assert!(bytes(arrival) == rgb, "camera {:?} picture {:?}", arrival.camera, arrival.sequence);
    }
    let stills = scene_stills(77, size, 3, raw()).expect("encodes");
    let first = arrivals.iter().find(|arrival| (arrival.camera.0, arrival.sequence) == (2, Some(0))).expect("came");
    assert!(stills.len() == 3 && stills[2] == bytes(first));
}
