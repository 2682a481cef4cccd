//! Pictures that are none: each costs its own frame, by name, and nobody else's.

use bytes::Bytes;
use omma_engine::cameras::Delivery;
use omma_engine::infer::backend::Device;
use omma_engine::plan::Mode;
use omma_frame::{DropReason, Outcome};
use omma_testkit::doubles_backend::{Model, Turn};
use omma_testkit::doubles_picture::{OnDecode, OnRead, Picture};
use omma_testkit::engine_rig::{Rig, Running, Stopped};

use super::{median_latency, unaffected};

const FRAMES: u64 = 60;
const BYTES_MAX: usize = 64;

fn rig(mode: Mode) -> Rig {
    let mut rig = Rig::new(3, Delivery::Every, Model::new(|_| Turn::Answer).blocking(Device::Cpu));
    rig.engine.payload_bytes_max = BYTES_MAX;
    rig.models[0].0.mode = mode;
    rig
}

/// Frames of all cameras in turn; of `cam-0`, every third is brought by `broken`.
fn run(rig: Rig, broken: impl Fn(&Running, u64)) -> Stopped {
    let running = rig.start().expect("starts");
    for sequence in 0..FRAMES {
        for camera in 0..3 {
            if camera == 0 && sequence % 3 == 1 {
                broken(&running, sequence);
            } else {
                running.push(camera, sequence, Picture::default());
            }
        }
    }
    running.wait_settled();
    running.stop()
}

#[test]
fn a_bad_picture_costs_its_own_frame_by_name() {
    let decode = |decode| Picture { decode, ..Picture::default() }.bytes();
    let read = |read| Picture { read, ..Picture::default() }.bytes();
    // (its bytes) -> (reason, who is told, what is said)
    let table: [(&str, Bytes, DropReason, &str, &str); 9] = [
        ("no bytes", Bytes::new(), DropReason::PayloadEmpty, "camera cam-0", "frame 1: no bytes"),
        (
            "too many bytes",
            Bytes::from(vec![0; BYTES_MAX + 1]),
            DropReason::PayloadTooLarge,
            "camera cam-0",
            "frame 1: 65 bytes, expected at most 64",
        ),
        ("corrupt", decode(OnDecode::Corrupt), DropReason::PictureCorrupt, "camera cam-0", "frame 1: not a picture"),
        (
            "truncated",
            Picture::default().bytes().slice(..5),
            DropReason::PictureCorrupt,
            "camera cam-0",
            "frame 1: the picture ends early",
        ),
        (
            "wrong dimensions",
            decode(OnDecode::WrongSize),
            DropReason::PictureUnfit,
            "camera cam-0",
            "frame 1: the picture is 3x1, expected 4x2",
        ),
        (
            "too many pixels",
            decode(OnDecode::TooManyPixels),
            DropReason::PayloadTooLarge,
            "camera cam-0",
            "frame 1: the picture has 10000 megapixels",
        ),
        (
            "its decoder panics",
            decode(OnDecode::Panic),
            DropReason::PictureCorrupt,
            "camera cam-0",
            "frame 1: the picture decoder panicked on it",
        ),
        (
            "its output is unreadable",
            read(OnRead::Unreadable),
            DropReason::OutputUnreadable,
            "model model",
            "output_unreadable: a score is not a number",
        ),
        (
            "the output decoder panics",
            read(OnRead::Panic),
            DropReason::OutputUnreadable,
            "model model",
            "output_unreadable: the output decoder panicked on it",
        ),
    ];
    for mode in [Mode::Sync, Mode::Async] {
        let undisturbed = run(rig(mode), |running, sequence| running.push(0, sequence, Picture::default()));
        let normal = median_latency(&undisturbed.published[0], |camera| camera != 0);
        for (what, bytes, reason, subject, text) in &table {
            let what = format!("{what}, {mode:?}");
            let stopped = run(rig(mode), |running, sequence| running.push_bytes(0, sequence, bytes.clone()));
            assert_eq!(stopped.dropped(*reason), FRAMES / 3, "{what}");
            assert_eq!(stopped.report.counts.dropped_total(), FRAMES / 3, "{what}");
            let whole: Vec<u64> = (0..FRAMES).collect();
            let without: Vec<u64> = (0..FRAMES).filter(|sequence| sequence % 3 != 1).collect();
            assert_eq!(stopped.sequences(0, 0), without, "{what}");
            assert_eq!((stopped.sequences(0, 1), stopped.sequences(0, 2)), (whole.clone(), whole), "{what}");
            let now = median_latency(&stopped.published[0], |camera| camera != 0);
            assert!(unaffected(now, normal), "{what}: others took {now:?}, without it {normal:?}");
            assert!(stopped.said(subject, text), "{what}: {:?}", stopped.messages);
            assert!(stopped.messages.len() < 10, "{what}: said once, then counted: {:?}", stopped.messages);
        }
    }
}

#[test]
fn error_results_name_the_reason_in_the_cameras_order() {
    let mut rig = rig(Mode::Async);
    rig.engine.error_results = true;
    let corrupt = Picture { decode: OnDecode::Corrupt, ..Picture::default() };
    let stopped = run(rig, |running, sequence| running.push(0, sequence, corrupt));
    assert_eq!(stopped.sequences(0, 0), (0..FRAMES).collect::<Vec<_>>());
    for result in stopped.published[0].iter().filter(|result| result.camera.slot() == 0) {
        let failed = matches!(&result.outcome, Outcome::Dropped { reason: DropReason::PictureCorrupt, detail: Some(detail) } if &**detail == "not a picture");
        assert_eq!(failed, result.sequence % 3 == 1, "frame {}", result.sequence);
    }
}
