//! Pictures from folders and from .mjpeg files.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use omma_adapters::source::images::{ImagesOptions, ImagesSource};
use omma_adapters::source::mjpeg_file::{MjpegFileOptions, MjpegFileSource};
use omma_adapters::source::{AtEnd, Pace};
use omma_engine::clock::{ManualClock, SystemClock};
use omma_engine::source::{Arrival, Polled, Source, SourceError};
use omma_frame::{CameraIndex, Mono, Payload, UnixNanos};
use omma_testkit::source::{Specimen, TestDemand, conformance};

const CAMERA: CameraIndex = CameraIndex(3);
const BYTES_MAX: usize = 1000;

/// The smallest thing with a JPEG's bones.
fn jpeg(name: &str) -> Vec<u8> {
    [&[0xFF, 0xD8, 0xFF, 0xDA, 0, 2], name.as_bytes(), &[0xFF, 0xD9]].concat()
}

fn folder(files: &[(&str, Vec<u8>)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, content) in files {
        fs::write(folder.path().join(name), content).expect("written");
    }
    folder
}

fn images_options(path: impl AsRef<Path>) -> ImagesOptions {
    let path = path.as_ref().to_str().expect("UTF-8").to_owned();
    ImagesOptions { camera: CAMERA, path, pace: Pace::Unlimited, at_end: AtEnd::Stop, bytes_max: BYTES_MAX }
}

fn images(path: impl AsRef<Path>) -> Result<ImagesSource, SourceError> {
    ImagesSource::open(images_options(path), Arc::new(SystemClock::new()))
}

fn mjpeg_options(path: &Path) -> MjpegFileOptions {
    MjpegFileOptions {
        camera: CAMERA,
        path: path.to_owned(),
        pace: Pace::Unlimited,
        at_end: AtEnd::Stop,
        bytes_max: BYTES_MAX,
    }
}

/// Polls one frame at a time until the end, or as often as said.
fn drain(source: &mut dyn Source, polls: usize) -> (Vec<Arrival>, Vec<String>) {
    let (mut arrivals, mut errors) = (Vec::new(), Vec::new());
    for _ in 0..polls {
        match source.poll(&TestDemand::new(1, 1), &mut arrivals) {
            Ok(Polled::Ended) => break,
            Ok(Polled::Open) => {}
            Err(error) => errors.push(error.to_string()),
        }
    }
    (arrivals, errors)
}

fn payloads(arrivals: &[Arrival]) -> Vec<Vec<u8>> {
    arrivals
        .iter()
        .map(|arrival| match &arrival.payload {
            Payload::Encoded(bytes) => bytes.to_vec(),
            other => panic!("always encoded, not {other:?}"),
        })
        .collect()
}

fn numbers(arrivals: &[Arrival]) -> Vec<u64> {
    arrivals.iter().filter_map(|arrival| arrival.sequence).collect()
}

#[test]
fn images_conform() {
    conformance(|| {
        let files: Vec<(String, Vec<u8>)> = (0..25).map(|n| (format!("{n}.jpg"), jpeg(&n.to_string()))).collect();
        let files: Vec<(&str, Vec<u8>)> =
            files.iter().map(|(name, content)| (name.as_str(), content.clone())).collect();
        let folder = folder(&files);
        let source = images(folder.path()).expect("opens");
        Specimen {
            source: Box::new(source),
            cameras: vec![CAMERA],
            frames: 25,
            lossless: true,
            ends: true,
            keep: Some(Box::new(folder)),
        }
    });
}

#[test]
fn mjpeg_files_conform() {
    conformance(|| {
        let stream: Vec<u8> = (0..25).flat_map(|n| jpeg(&n.to_string())).collect();
        let folder = folder(&[("a.mjpeg", stream)]);
        let source = MjpegFileSource::open(mjpeg_options(&folder.path().join("a.mjpeg")), Arc::new(SystemClock::new()))
            .expect("opens");
        Specimen {
            source: Box::new(source),
            cameras: vec![CAMERA],
            frames: 25,
            lossless: true,
            ends: true,
            keep: Some(Box::new(folder)),
        }
    });
}

#[test]
fn images_come_in_natural_order_whatever_names_them() {
    let folder = folder(&[
        ("f10.jpg", jpeg("10")),
        ("f2.JPEG", jpeg("2")),
        ("f1.png", b"png".to_vec()),
        ("notes.txt", b"no".to_vec()),
    ]);
    let path = |name: &str| folder.path().join(name);
    for (pattern, expected) in [
        (folder.path().to_owned(), vec![b"png".to_vec(), jpeg("2"), jpeg("10")]),
        (path("f*"), vec![b"png".to_vec(), jpeg("2"), jpeg("10")]),
        (path("f?.*"), vec![b"png".to_vec(), jpeg("2")]),
        (path("*.jpg"), vec![jpeg("10")]),
        (path("f10.jpg"), vec![jpeg("10")]),
    ] {
        let mut source = images(&pattern).expect("opens");
        assert_eq!(source.files(), expected.len());
        let (arrivals, errors) = drain(&mut source, 100);
        assert_eq!((payloads(&arrivals), errors), (expected, vec![]), "{}", pattern.display());
    }
}

#[test]
fn patterns_without_pictures_are_refused() {
    let folder = folder(&[("notes.txt", vec![])]);
    let shown = folder.path().display();
    for (name, message) in [
        ("", format!("{shown}: no picture in this folder, expected files that end in jpg, jpeg, png; given up")),
        (
            "/x/*.jpg",
            format!("{shown}/x/*.jpg: no such folder or file, and as a glob pattern it matches nothing; given up"),
        ),
        (
            "/[a",
            format!(
                "{shown}/[a: not a glob pattern: invalid range pattern at character {}; given up",
                shown.to_string().len() + 1
            ),
        ),
    ] {
        assert_eq!(images(format!("{shown}{name}")).err().expect("refused").to_string(), message);
    }
}

#[test]
fn an_unreadable_file_keeps_its_place_and_names_its_path() {
    let folder =
        folder(&[("1.jpg", jpeg("1")), ("2.jpg", vec![0; BYTES_MAX + 1]), ("3.jpg", jpeg("3")), ("4.jpg", jpeg("4"))]);
    let mut source = images(folder.path()).expect("opens");
    fs::remove_file(folder.path().join("3.jpg")).expect("removed");
    let (arrivals, errors) = drain(&mut source, 100);
    assert_eq!(payloads(&arrivals), [jpeg("1"), vec![], vec![], jpeg("4")]);
    assert_eq!(numbers(&arrivals), [0, 1, 2, 3]);
    let shown = folder.path().display();
    assert_eq!(
        errors,
        [
            format!("{shown}/2.jpg: 1001 bytes, expected at most 1000; handed over without a picture; going on"),
            format!(
                "{shown}/3.jpg: cannot read it: No such file or directory (os error 2); handed over without a picture; going on"
            ),
        ]
    );
}

#[test]
fn images_repeat_with_their_numbers_going_on_unless_nothing_can_be_read() {
    let folder = folder(&[("1.jpg", jpeg("1")), ("2.jpg", jpeg("2"))]);
    let options = ImagesOptions { at_end: AtEnd::Repeat, ..images_options(folder.path()) };
    let mut source = ImagesSource::open(options, Arc::new(SystemClock::new())).expect("opens");
    let (arrivals, errors) = drain(&mut source, 5);
    assert_eq!((numbers(&arrivals), errors.len()), (vec![0, 1, 2, 3, 4], 0));
    fs::remove_file(folder.path().join("1.jpg")).expect("removed");
    fs::remove_file(folder.path().join("2.jpg")).expect("removed");
    let (arrivals, errors) = drain(&mut source, 100);
    assert_eq!((numbers(&arrivals), errors.len()), (vec![5, 6], 2));
    assert!(errors[1].ends_with("; given up"), "{}", errors[1]);
}

#[test]
fn a_pipe_among_the_pictures_does_not_block() {
    let folder = folder(&[("1.jpg", jpeg("1"))]);
    let pipe = std::ffi::CString::new(folder.path().join("2.jpg").to_str().expect("UTF-8")).expect("no NUL");
    // SAFETY: a path that ends in NUL, which outlives the call.
    assert_eq!(unsafe { libc::mkfifo(pipe.as_ptr(), 0o600) }, 0);
    let (arrivals, errors) = drain(&mut images(folder.path()).expect("opens"), 100);
    assert_eq!(payloads(&arrivals), [jpeg("1"), vec![]]);
    assert!(errors[0].contains("not a regular file"), "{errors:?}");
}

#[test]
fn the_pace_is_kept_and_a_stall_is_not_made_up_for() {
    let clock = Arc::new(ManualClock::at(Mono(1), UnixNanos(0)));
    let folder = folder(&[("1.jpg", jpeg("1"))]);
    let options = ImagesOptions { at_end: AtEnd::Repeat, pace: Pace::PerSecond(10.0), ..images_options(folder.path()) };
    let mut images = ImagesSource::open(options, Arc::clone(&clock) as _).expect("opens");
    fs::write(folder.path().join("a.mjpeg"), jpeg("1")).expect("written");
    let options = MjpegFileOptions {
        at_end: AtEnd::Repeat,
        pace: Pace::PerSecond(10.0),
        ..mjpeg_options(&folder.path().join("a.mjpeg"))
    };
    let mut mjpeg = MjpegFileSource::open(options, Arc::clone(&clock) as _).expect("opens");
    // After so many milliseconds more, so many frames.
    for (wait, expected) in [(0, 1), (99, 0), (1, 1), (250, 2), (50, 1), (3_600_000, 11), (100, 1)] {
        clock.advance(Duration::from_millis(wait));
        for source in [&mut images as &mut dyn Source, &mut mjpeg] {
            let mut arrivals = Vec::new();
            assert_eq!(source.poll(&TestDemand::new(100, 100), &mut arrivals).expect("undisturbed"), Polled::Open);
            assert_eq!(arrivals.len(), expected, "after {wait} ms");
        }
    }
}

#[test]
fn mjpeg_leaves_out_garbage_and_says_where_it_was() {
    let large = [&[0xFF, 0xD8, 0xFF, 0xDA, 0, 2][..], &[7; 2000], &[0xFF, 0xD9]].concat();
    let cut = &jpeg("cut")[..7];
    let stream = [b"head", &jpeg("1")[..], &large, &jpeg("2"), b"--", b"boundary\r\n", &jpeg("3"), cut].concat();
    let folder = folder(&[("a.mjpeg", stream)]);
    let path = folder.path().join("a.mjpeg");
    let mut source = MjpegFileSource::open(mjpeg_options(&path), Arc::new(SystemClock::new())).expect("opens");
    let garbage = source.garbage_bytes();
    let (arrivals, errors) = drain(&mut source, 100);
    assert_eq!(payloads(&arrivals), [jpeg("1"), jpeg("2"), jpeg("3")]);
    assert_eq!(numbers(&arrivals), [0, 1, 2]);
    let expected = [
        "4 bytes at offset 0 left out: not the start of a picture",
        "2008 bytes at offset 13 left out: a picture larger than allowed",
        "12 bytes at offset 2030 left out: not the start of a picture",
        "7 bytes at offset 2051 left out: the last picture is cut off",
    ];
    let shown = path.display();
    assert_eq!(errors, expected.map(|error| format!("{shown}: {error}; going on")));
    assert_eq!(garbage.load(std::sync::atomic::Ordering::Relaxed), 4 + 2008 + 12 + 7);
    // Each picture's token says where it lies.
    let offsets: Vec<u64> = arrivals.iter().map(|arrival| arrival.token.1).collect();
    assert_eq!(offsets, [4, 2021, 2042]);
}

#[test]
fn mjpeg_repeats_with_its_numbers_going_on() {
    let folder = folder(&[("a.mjpeg", [jpeg("1"), jpeg("2")].concat())]);
    let options = MjpegFileOptions { at_end: AtEnd::Repeat, ..mjpeg_options(&folder.path().join("a.mjpeg")) };
    let mut source = MjpegFileSource::open(options, Arc::new(SystemClock::new())).expect("opens");
    let (arrivals, errors) = drain(&mut source, 5);
    assert_eq!((payloads(&arrivals), errors.len()), (vec![jpeg("1"), jpeg("2"), jpeg("1"), jpeg("2"), jpeg("1")], 0));
    assert_eq!(numbers(&arrivals), [0, 1, 2, 3, 4]);
}

#[test]
fn mjpeg_files_without_any_picture_are_given_up() {
    let folder = folder(&[("empty", vec![]), ("text", b"no picture at all".to_vec())]);
    for (name, bytes) in [("empty", 0), ("text", 17)] {
        let path = folder.path().join(name);
        let options = MjpegFileOptions { at_end: AtEnd::Repeat, ..mjpeg_options(&path) };
        let (arrivals, errors) =
            drain(&mut MjpegFileSource::open(options, Arc::new(SystemClock::new())).expect("opens"), 100);
        let expected = format!(
            "{}: no picture in its {bytes} bytes, expected JPEGs one after the other; given up",
            path.display()
        );
        assert_eq!((arrivals.len(), errors), (0, vec![expected]));
    }
    for (path, message) in [
        ("missing", "cannot open it: No such file or directory (os error 2)"),
        ("", "not a regular file, expected JPEGs one after the other in a file"),
    ] {
        let error = MjpegFileSource::open(mjpeg_options(&folder.path().join(path)), Arc::new(SystemClock::new()))
            .err()
            .expect("refused");
        assert_eq!(error.message, message);
    }
}
