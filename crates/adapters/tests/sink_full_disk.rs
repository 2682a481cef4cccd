//! A real file that takes no more, and then does. The limit on file sizes stands in for the disk, because it needs no
//! privilege: the system writes as much as fits and then refuses, exactly as a full disk does. It holds for the whole
//! process, so this test has a file of its own.

use std::fs;

use omma_adapters::sink::jsonl::{Durability, JsonlSink};
use omma_engine::sink::{Retry, Sink};
use omma_frame::{CameraIndex, FrameResult, Outcome, Output};
use omma_testkit::sink::{cameras, result};

fn limit_file_size(bytes: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls get a valid structure of their own; ignoring the signal makes the write fail instead.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        assert_eq!(libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut limit), 0);
        limit.rlim_cur = bytes.min(limit.rlim_max);
        assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit), 0);
    }
}

#[test]
fn a_full_disk_costs_no_result_and_leaves_no_half_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("results.jsonl");
    let cameras = cameras(&["a"]);
    let all: Vec<FrameResult> =
        (0..100).map(|n| result(CameraIndex(0), n, Outcome::Inferred(Output::Nothing))).collect();
    for durability in [Durability::Written, Durability::Synced] {
        let _ = fs::remove_file(&path);
        let (mut sink, _) = JsonlSink::append(&path, durability, vec![]).expect("opens");
        let sequences = || -> Vec<u64> {
            let text = fs::read_to_string(&path).expect("readable");
            assert!(text.is_empty() || text.ends_with('\n'), "half a line");
            text.lines()
                .map(|line| {
                    serde_json::from_str::<serde_json::Value>(line).expect("JSON")["sequence"]
                        .as_u64()
                        .expect("a number")
                })
                .collect()
        };
        let mut left = &all[..];
        // Room grows by a little less than two lines each time, ending in the middle of a line mostly.
        for room in (1..=20).map(|n| n * 317) {
            limit_file_size(room);
            for _ in 0..2 {
                let error = sink.publish(left, &cameras).expect_err("no room");
                assert_eq!(error.retry, Retry::Backoff);
                assert!(error.to_string().contains("File too large"), "{error}");
                left = &left[error.published..];
                assert_eq!(sequences(), (0..100 - left.len() as u64).collect::<Vec<_>>());
            }
        }
        assert!(left.len() < 90, "some got through");
        limit_file_size(u64::MAX);
        sink.publish(left, &cameras).expect("room again");
        assert_eq!(sequences(), (0..100).collect::<Vec<_>>());
    }
}
