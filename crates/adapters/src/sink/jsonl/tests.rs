//! What must hold whatever an output does: no half line for good, no line twice, no result lost.

use std::io;
use std::sync::{Arc, Mutex};

use omma_engine::sink::{Retry, Sink};
use omma_frame::{CameraIndex, FrameResult, Outcome, Output};
use omma_testkit::sink::{cameras, result};
use proptest::prelude::*;

use super::file::Lines;
use super::{Durability, JsonlSink};

/// What the output does with its next operations; when the list is over, it works.
#[derive(Debug, Clone, Copy)]
enum Act {
    /// Takes at most this many bytes.
    Short(usize),
    Fail(i32),
}

/// An output that misbehaves by a script.
struct Flaky {
    content: Arc<Mutex<Vec<u8>>>,
    acts: std::vec::IntoIter<Act>,
    /// A file gives bytes back, a stream does not.
    file: bool,
    syncs: std::vec::IntoIter<bool>,
}

impl Lines for Flaky {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = match self.acts.next() {
            Some(Act::Fail(code)) => return Err(io::Error::from_raw_os_error(code)),
            Some(Act::Short(count)) => count.min(bytes.len()),
            None => bytes.len(),
        };
        self.content.lock().expect("no panic").extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn take_back(&mut self, bytes: u64) -> io::Result<bool> {
        if self.file {
            let mut content = self.content.lock().expect("no panic");
            let length = content.len() - bytes as usize;
            content.truncate(length);
        }
        Ok(self.file)
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.syncs.next() == Some(false) { Err(io::Error::from_raw_os_error(libc::EIO)) } else { Ok(()) }
    }
}

fn sink(acts: Vec<Act>, file: bool, syncs: Vec<bool>) -> (JsonlSink, Arc<Mutex<Vec<u8>>>) {
    let content = Arc::default();
    let out = Flaky { content: Arc::clone(&content), acts: acts.into_iter(), file, syncs: syncs.into_iter() };
    let durability = if file { Durability::Synced } else { Durability::Written };
    (JsonlSink::to("flaky".into(), Box::new(out), durability, vec![]), content)
}

fn results(sequences: std::ops::Range<u64>) -> Vec<FrameResult> {
    sequences.map(|n| result(CameraIndex(0), n, Outcome::Inferred(Output::Nothing))).collect()
}

/// The sequences of the lines, each of which must be whole.
fn sequences(content: &Mutex<Vec<u8>>) -> Vec<u64> {
    let content = content.lock().expect("no panic");
    content
        .split_inclusive(|&byte| byte == b'\n')
        .map(|line| {
            let line: serde_json::Value = serde_json::from_slice(line).expect("a whole line");
            line["sequence"].as_u64().expect("a sequence")
        })
        .collect()
}

#[test]
fn errors_say_how_much_is_published_and_whether_to_try_again() {
    let line = {
        let (mut sink, content) = sink(vec![], true, vec![]);
        sink.publish(&results(0..1), &cameras(&["a"])).expect("works");
        content.lock().expect("no panic").len()
    };
    for (acts, published, retry) in [
        (vec![Act::Fail(libc::ENOSPC)], 0, Retry::Backoff),
        (vec![Act::Short(line * 2), Act::Fail(libc::ENOSPC)], 2, Retry::Backoff),
        (vec![Act::Short(line * 2 + 5), Act::Fail(libc::EDQUOT)], 2, Retry::Backoff),
        (vec![Act::Short(7), Act::Short(line), Act::Fail(libc::EIO)], 1, Retry::Backoff),
        (vec![Act::Fail(libc::EINTR), Act::Short(1), Act::Fail(libc::EAGAIN)], 0, Retry::Backoff),
        (vec![Act::Short(0)], 0, Retry::Backoff),
        (vec![Act::Short(line), Act::Fail(libc::EPIPE)], 1, Retry::Never),
    ] {
        for file in [true, false] {
            let (mut sink, _) = sink(acts.clone(), file, vec![]);
            let error = sink.publish(&results(0..4), &cameras(&["a"])).expect_err("told to fail");
            assert_eq!((error.published, error.retry), (published, retry), "{acts:?}");
            assert!(error.to_string().starts_with("flaky: cannot write: "), "{error}");
        }
    }
}

#[test]
fn a_file_shows_no_half_line_even_while_the_disk_is_full() {
    let (mut sink, content) = sink(vec![Act::Short(300), Act::Fail(libc::ENOSPC)], true, vec![]);
    let published = sink.publish(&results(0..4), &cameras(&["a"])).expect_err("full").published;
    assert_eq!(sequences(&content), (0..published as u64).collect::<Vec<_>>());
}

#[test]
fn a_stream_finishes_its_half_line_first_even_if_its_result_was_dropped_meanwhile() {
    for (next, expect) in [(0..3, vec![0, 1, 2]), (1..3, vec![0, 1, 2])] {
        let (mut sink, content) = sink(vec![Act::Short(10), Act::Fail(libc::EAGAIN)], false, vec![]);
        assert_eq!(sink.publish(&results(0..3), &cameras(&["a"])).expect_err("blocked").published, 0);
        sink.publish(&results(next), &cameras(&["a"])).expect("free again");
        assert_eq!(sequences(&content), expect);
    }
}

#[test]
fn a_half_line_is_finished_when_the_sink_closes() {
    let (mut sink, content) = sink(vec![Act::Short(10), Act::Fail(libc::EAGAIN)], false, vec![]);
    sink.publish(&results(5..6), &cameras(&["a"])).expect_err("blocked");
    drop(sink);
    assert_eq!(sequences(&content), [5]);
}

#[test]
fn a_failed_sync_takes_the_lines_back() {
    let (mut sink, content) = sink(vec![], true, vec![true, false, true]);
    let cameras = cameras(&["a"]);
    sink.publish(&results(0..2), &cameras).expect("synced");
    let error = sink.publish(&results(2..4), &cameras).expect_err("told to fail");
    assert_eq!((error.published, error.retry), (0, Retry::Backoff));
    assert_eq!(sequences(&content), [0, 1]);
    sink.publish(&results(2..4), &cameras).expect("synced");
    assert_eq!(sequences(&content), [0, 1, 2, 3]);
}

fn act() -> impl Strategy<Value = Act> {
    let errors = prop_oneof![Just(libc::ENOSPC), Just(libc::EINTR), Just(libc::EAGAIN), Just(libc::EIO)];
    prop_oneof![3 => (0usize..700).prop_map(Act::Short), 2 => errors.prop_map(Act::Fail)]
}

proptest! {
    #[test]
    fn every_result_is_there_once_and_in_order_whatever_fails(
        acts in prop::collection::vec(act(), 0..30),
        syncs in prop::collection::vec(any::<bool>(), 0..10),
        file in any::<bool>(), calls in prop::collection::vec(0u64..5, 1..8),
    ) {
        let (mut sink, content) = sink(acts, file, syncs);
        let cameras = cameras(&["a"]);
        let mut next = 0;
        for count in calls {
            let all = results(next..next + count);
            let mut left = &all[..];
            // As the engine does: what is not published is given again, first.
            while let Err(error) = sink.publish(left, &cameras) {
                left = &left[error.published..];
            }
            next += count;
            prop_assert_eq!(sequences(&content), (0..next).collect::<Vec<_>>());
        }
    }
}
