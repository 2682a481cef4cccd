//! One producer and its readers in one process: what is written is read back, or refused by name, and never anything
//! else.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use omma_frame::{DropReason, Handle, PictureView, PixelFormat, Size, UnixNanos, Unreadable};
use omma_ring::{
    CreateError, FILE_HEADER_BYTES, Format, Meta, Producer, RingOptions, Rings, RingsOptions, SLOT_HEADER_BYTES,
    WriteError, sweep,
};

/// A folder for segments: on /dev/shm, as in earnest.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").expect("/dev/shm")
}

fn options(folder: &Path, bytes: u64) -> RingOptions {
    RingOptions { folder: folder.to_owned(), ..RingOptions::new(bytes) }
}

fn rings(folder: &Path) -> Rings {
    Rings::new(RingsOptions { folder: folder.to_owned(), ..RingsOptions::default() })
}

fn jpeg(sequence: u64) -> Meta {
    Meta::encoded(Format::Jpeg, sequence, UnixNanos(sequence + 7))
}

/// Bytes that tell which payload they are of.
fn payload(sequence: u64, len: usize) -> Vec<u8> {
    (0..len).map(|at| (sequence as usize * 31 + at * 7) as u8).collect()
}

fn read(handle: &Handle) -> Result<Vec<u8>, Unreadable> {
    let mut copied = Vec::new();
    handle.segment.read(handle.generation, &mut |view| match view {
        PictureView::Encoded(bytes) => copied = bytes.to_vec(),
        PictureView::Raw(raw) => copied = raw.bytes.to_vec(),
    })?;
    Ok(copied)
}

fn reason<T: std::fmt::Debug>(result: Result<T, Unreadable>) -> DropReason {
    result.expect_err("nothing to read").reason
}

#[test]
fn what_is_written_is_read_back_where_it_lies() {
    let folder = folder();
    let mut producer = Producer::create("gate", &options(folder.path(), 1 << 20)).expect("a ring");
    assert_eq!(producer.segment(), "omma-gate");
    let size = Size { width: 8, height: 6 };
    let table = [
        (Format::Jpeg, Size::default(), 1000),
        (Format::Png, Size::default(), 1),
        (Format::Raw(PixelFormat::Rgb), size, 144),
        (Format::Raw(PixelFormat::Bgr), size, 144),
        (Format::Raw(PixelFormat::Gray), size, 48),
        (Format::Raw(PixelFormat::Nv12), size, 72),
        (Format::Raw(PixelFormat::I420), size, 72),
    ];
    let mut rings = rings(folder.path());
    for (sequence, (format, size, len)) in (0..).zip(table) {
        let meta = Meta { sequence, captured_at: UnixNanos(99), format, size };
        let bytes = payload(sequence, len);
        let generation = producer.write(&meta, &bytes).expect("room");
        let handle = rings.handle("omma-gate", generation, len as u64).expect("a handle");
        let mut seen = None;
        let read = handle.segment.read(generation, &mut |view| {
            seen = Some(match view {
                PictureView::Encoded(found) => (found.to_vec(), None),
                PictureView::Raw(raw) => (raw.bytes.to_vec(), Some((raw.format, raw.size))),
            });
        });
        read.expect("it is there");
        let raw = match format {
            Format::Raw(raw) => Some((raw, size)),
            _ => None,
        };
        assert_eq!(seen, Some((bytes, raw)), "{format:?}");
    }
    assert_eq!(rings.mapped(), 1);
}

#[test]
fn what_does_not_fit_or_is_not_what_it_says_is_refused() {
    let folder = folder();
    let mut producer = Producer::create("gate", &options(folder.path(), 4096)).expect("a ring");
    let max = 4096 - SLOT_HEADER_BYTES as u64;
    assert_eq!(producer.write(&jpeg(0), &[]), Err(WriteError::Empty));
    assert_eq!(producer.write(&jpeg(0), &vec![0; 4033]), Err(WriteError::TooLarge { bytes: 4033, max }));
    let two_by_two = Meta::raw(PixelFormat::Rgb, Size { width: 2, height: 2 }, 0, UnixNanos(0));
    let refused = WriteError::Pixels { bytes: 11, expected: 12, width: 2, height: 2 };
    assert_eq!(producer.write(&two_by_two, &[0; 11]), Err(refused));
    // The whole ring as one slot, again and again.
    let mut rings = rings(folder.path());
    for sequence in 0..3 {
        let bytes = payload(sequence, 4032);
        let generation = producer.write(&jpeg(sequence), &bytes).expect("just fits");
        assert_eq!(read(&rings.handle("omma-gate", generation, 4032).expect("a handle")), Ok(bytes));
    }
    assert!(matches!(Producer::create("a/b", &options(folder.path(), 1)), Err(CreateError::Name(_))));
    assert!(matches!(Producer::create("a", &options(folder.path(), 0)), Err(CreateError::Bytes { .. })));
    assert!(matches!(Producer::create("a", &options(folder.path(), u64::MAX)), Err(CreateError::Bytes { .. })));
}

#[test]
fn the_oldest_are_overwritten_by_name_and_never_shown() {
    let folder = folder();
    let mut producer = Producer::create("gate", &options(folder.path(), 4096)).expect("a ring");
    let mut rings = rings(folder.path());
    // 320 bytes each with header and padding: 12 in the ring, the rest at its end stays empty.
    let handles: Vec<Handle> = (0..40)
        .map(|sequence| {
            let generation = producer.write(&jpeg(sequence), &payload(sequence, 230)).expect("room");
            rings.handle("omma-gate", generation, 230).expect("a handle")
        })
        .collect();
    for (sequence, handle) in handles.iter().enumerate() {
        match read(handle) {
            Ok(bytes) => {
                assert!(sequence >= 28, "{sequence}");
                assert_eq!(bytes, payload(sequence as u64, 230));
            }
            Err(what) => {
                assert!(sequence < 29, "{sequence}");
                assert_eq!(what.reason, DropReason::HandleOverwritten);
            }
        }
    }
}

#[test]
fn what_is_overwritten_while_it_is_read_is_found_out_afterwards() {
    let folder = folder();
    let mut producer = Producer::create("gate", &options(folder.path(), 4096)).expect("a ring");
    let generation = producer.write(&jpeg(1), &payload(1, 3000)).expect("room");
    let handle = rings(folder.path()).handle("omma-gate", generation, 3000).expect("a handle");
    let read = handle.segment.read(generation, &mut |_| {
        producer.write(&jpeg(2), &payload(2, 3000)).expect("room");
    });
    assert_eq!(reason(read), DropReason::HandleOverwritten);
}

#[test]
fn a_payload_that_panics_in_the_making_harms_no_other() {
    let folder = folder();
    let mut producer = Producer::create("gate", &options(folder.path(), 8192)).expect("a ring");
    let mut rings = rings(folder.path());
    let first = producer.write(&jpeg(1), &payload(1, 100)).expect("room");
    let made = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        producer.write_with(&jpeg(2), 8000, |_| panic!("no picture"))
    }));
    assert!(made.is_err());
    // It may have written over the first one.
    let handle = rings.handle("omma-gate", first, 100).expect("a handle");
    assert_eq!(reason(read(&handle)), DropReason::HandleOverwritten);
    let next = producer.write(&jpeg(3), &payload(3, 100)).expect("room");
    assert_eq!(read(&rings.handle("omma-gate", next, 100).expect("a handle")), Ok(payload(3, 100)));
}

#[test]
fn handles_that_mean_nothing_are_invalid_and_say_why() {
    let folder = folder();
    let mut producer = Producer::create("gate", &options(folder.path(), 1 << 16)).expect("a ring");
    let at = producer.write(&jpeg(1), &payload(1, 100)).expect("room");
    symlink(producer.path(), folder.path().join("omma-link")).expect("a link");
    std::fs::create_dir(folder.path().join("omma-folder")).expect("a folder");
    std::fs::write(folder.path().join("omma-text"), vec![b'x'; 10_000]).expect("a file");
    std::fs::write(folder.path().join("omma-empty"), "").expect("a file");
    let pipe = std::ffi::CString::new(folder.path().join("omma-pipe").to_str().expect("UTF-8")).expect("a path");
    // SAFETY: a path that ends with zero.
    assert_eq!(unsafe { libc::mkfifo(pipe.as_ptr(), 0o600) }, 0);
    let mut rings = rings(folder.path());
    let table = [
        ("gate", at, "begins with something else than"),
        ("omma-../omma-gate", at, "'/'"),
        ("omma-other", at, "there is none in"),
        ("omma-link", at, "cannot be opened"),
        ("omma-folder", at, "no regular file"),
        ("omma-pipe", at, "no regular file"),
        ("omma-text", at, "is no ring"),
        ("omma-empty", at, "has 0 bytes"),
        ("omma-gate", at + 3, "not written yet"),
        ("omma-gate", u64::MAX, "not written yet"),
    ];
    for (segment, generation, text) in table {
        let refused = rings.handle(segment, generation, 100).expect_err(segment);
        assert_eq!(refused.reason, DropReason::HandleInvalid);
        assert!(refused.message.contains(text), "{segment}: {}", refused.message);
    }
    let readable = [(at + 1, DropReason::HandleInvalid), (at + 2, DropReason::HandleInvalid)];
    for (generation, expected) in readable {
        let handle = rings.handle("omma-gate", generation, 100).expect("a handle");
        assert_eq!(reason(read(&handle)), expected);
    }
    // Long ago.
    let old = rings.handle("omma-gate", 0, 100).expect("a handle");
    assert_eq!(reason(read(&old)), DropReason::HandleOverwritten);
}

/// The producer's own file, with one of its numbers changed.
fn changed(path: &Path, at: u64, bytes: &[u8]) {
    let file = OpenOptions::new().write(true).open(path).expect("the segment");
    file.write_all_at(bytes, at).expect("a change");
}

#[test]
fn hostile_headers_are_refused_by_name() {
    // In the file's header.
    let file: [(&str, u64, &[u8], &str); 8] = [
        ("magic", 0, b"OMMARINH", "is no ring"),
        ("version", 8, &[9], "version 9"),
        ("data offset", 12, &[1], "version 1"),
        ("capacity zero", 16, &[0; 8], "capacity of 0"),
        ("capacity odd", 16, &65535_u64.to_le_bytes(), "capacity of 65535"),
        ("capacity beyond the file", 16, &65600_u64.to_le_bytes(), "capacity of 65600"),
        ("capacity that overflows", 16, &(u64::MAX - 63).to_le_bytes(), "capacity of 18446744073709551552"),
        ("counters crossed", 64, &[0; 8], "written up to"),
    ];
    let rgb = 3_u32.to_le_bytes();
    let uncountable = [rgb, [0xFF; 4], [0xFF; 4]].concat();
    // In the slot's.
    let slot: [(&str, u64, &[u8], &str); 6] = [
        ("generation", 0, &[1; 8], "says generation 72340172838076673"),
        ("length beyond written", 24, &200_u64.to_le_bytes(), "says 200 bytes"),
        ("length that overflows", 24, &u64::MAX.to_le_bytes(), "says 18446744073709551615 bytes"),
        ("format", 32, &[0x63, 0, 0, 0], "format 99"),
        ("pixels", 32, &rgb, "raw pixels of 0x0"),
        ("pixels that cannot be counted", 32, &uncountable, "raw pixels of 4294967295x4294967295"),
    ];
    for (in_slot, (what, at, bytes, text)) in
        file.map(|case| (false, case)).into_iter().chain(slot.map(|case| (true, case)))
    {
        let folder = folder();
        let mut producer = Producer::create("gate", &options(folder.path(), 1 << 16)).expect("a ring");
        let generation = producer.write(&jpeg(1), &payload(1, 100)).expect("room");
        let begin = FILE_HEADER_BYTES as u64 + generation % 1024 * 64;
        changed(producer.path(), if in_slot { begin + at } else { at }, bytes);
        let read = rings(folder.path()).handle("omma-gate", generation, 100).and_then(|handle| read(&handle));
        let refused = read.expect_err(what);
        assert_eq!(refused.reason, DropReason::HandleInvalid, "{what}");
        assert!(refused.message.contains(text), "{what}: {}", refused.message);
    }
}

#[test]
fn a_segment_truncated_under_its_readers_costs_its_frames_only() {
    // What is left of the last page is zeros and raises nothing: here the ring's own counters.
    let table =
        [(0, "truncated"), (100, "written up to 0"), (FILE_HEADER_BYTES as u64, "truncated"), (40_000, "truncated")];
    for (left, text) in table {
        let folder = folder();
        let mut producer = Producer::create("gate", &options(folder.path(), 1 << 20)).expect("a ring");
        let mut other = Producer::create("yard", &options(folder.path(), 1 << 16)).expect("a ring");
        let bytes = payload(1, 500_000);
        let generation = producer.write(&jpeg(1), &bytes).expect("room");
        let mut rings = rings(folder.path());
        let handle = rings.handle("omma-gate", generation, 500_000).expect("a handle");
        let at = other.write(&jpeg(5), &payload(5, 100)).expect("room");
        let untouched = rings.handle("omma-yard", at, 100).expect("a handle");
        let file = OpenOptions::new().write(true).open(producer.path()).expect("the segment");
        file.set_len(left).expect("truncated");
        let refused = read(&handle).expect_err("truncated");
        assert_eq!(refused.reason, DropReason::HandleInvalid, "{left}: {}", refused.message);
        assert!(refused.message.contains(text), "{left}: {}", refused.message);
        assert_eq!(read(&untouched), Ok(payload(5, 100)));
        // The producer hears of it as well, and its successor works.
        assert_eq!(producer.write(&jpeg(2), &bytes), Err(WriteError::Lost));
        drop(producer);
        let mut producer = Producer::create("gate", &options(folder.path(), 1 << 20)).expect("a ring");
        let generation = producer.write(&jpeg(3), &bytes).expect("room");
        assert_eq!(read(&rings.handle("omma-gate", generation, 500_000).expect("a handle")), Ok(bytes));
    }
}

/// Makes the segment look as if its producer had been killed: the file is there and nobody holds its lock.
fn kill(producer: Producer) {
    producer.leave();
}

#[test]
fn a_restarted_producer_never_makes_old_handles_show_new_pictures() {
    let folder = folder();
    let mut rings = rings(folder.path());
    let mut old: Vec<u64> = Vec::new();
    for round in 0..20 {
        let mut producer = Producer::create("gate", &options(folder.path(), 8192)).expect("a ring");
        let mut new = Vec::new();
        for sequence in 0..5 {
            let bytes = payload(round * 5 + sequence, 1000);
            new.push((producer.write(&jpeg(sequence), &bytes).expect("room"), bytes));
        }
        for (generation, bytes) in &new {
            assert_eq!(read(&rings.handle("omma-gate", *generation, 1000).expect("a handle")).as_ref(), Ok(bytes));
        }
        for generation in &old {
            let read = rings.handle("omma-gate", *generation, 1000).and_then(|handle| read(&handle));
            assert_eq!(reason(read), DropReason::HandleOverwritten, "round {round}");
        }
        old.extend(new.iter().map(|(generation, _)| generation));
        // By turns: killed, and ended properly, so that no file tells where the positions were.
        if round % 2 == 0 {
            kill(producer);
        }
    }
}

#[test]
fn a_name_has_one_living_producer_and_readers_of_the_dead_go_on() {
    let folder = folder();
    let mut first = Producer::create("gate", &options(folder.path(), 8192)).expect("a ring");
    let refused = Producer::create("gate", &options(folder.path(), 8192)).expect_err("in use");
    assert!(matches!(refused, CreateError::InUse { pid, .. } if pid == std::process::id()), "{refused}");
    let generation = first.write(&jpeg(1), &payload(1, 500)).expect("room");
    let mut rings = rings(folder.path());
    let kept = rings.handle("omma-gate", generation, 500).expect("a handle");
    kill(first);
    let mut second = Producer::create("gate", &options(folder.path(), 4096)).expect("a ring in its place");
    assert_eq!(read(&kept), Ok(payload(1, 500)), "what is mapped stays");
    let generation = second.write(&jpeg(2), &payload(2, 500)).expect("room");
    assert_eq!(read(&rings.handle("omma-gate", generation, 500).expect("a handle")), Ok(payload(2, 500)));
    drop(second);
    assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 0, "nothing is left");
}

#[test]
fn what_is_no_ring_is_never_taken_over() {
    let folder = folder();
    std::fs::write(folder.path().join("omma-text"), vec![b'x'; 10_000]).expect("a file");
    symlink("/etc/hostname", folder.path().join("omma-link")).expect("a link");
    std::fs::create_dir(folder.path().join("omma-folder")).expect("a folder");
    for name in ["text", "link", "folder"] {
        let refused = Producer::create(name, &options(folder.path(), 4096)).expect_err(name);
        assert!(matches!(refused, CreateError::Foreign { .. }), "{refused}");
    }
    // A ring that somebody truncated to nothing is nobody's.
    std::fs::write(folder.path().join("omma-empty"), "").expect("a file");
    Producer::create("empty", &options(folder.path(), 4096)).expect("a ring");
    let swept = sweep(folder.path(), Duration::ZERO).expect("the folder");
    assert_eq!(swept.removed, []);
    assert!(folder.path().join("omma-text").exists());
}

#[test]
fn a_sweep_takes_the_dead_after_their_grace_and_leaves_the_living() {
    let folder = folder();
    let create = |name| Producer::create(name, &options(folder.path(), 4096)).expect("a ring");
    let living = create("living");
    kill(create("dead"));
    let rings = rings(folder.path());
    assert_eq!(rings.sweep(Duration::from_secs(3600)).expect("the folder").removed, []);
    let swept = rings.sweep(Duration::ZERO).expect("the folder");
    assert_eq!(swept.removed.iter().map(|name| name.as_str()).collect::<Vec<_>>(), ["omma-dead"]);
    assert_eq!(swept.bytes, 8192);
    assert!(living.path().exists() && !folder.path().join("omma-dead").exists());
}

#[test]
fn mappings_are_bounded_and_let_go_when_they_are_of_no_use() {
    let folder = folder();
    let mut producers: Vec<Producer> = (0..5)
        .map(|number| Producer::create(&format!("p{number}"), &options(folder.path(), 4096)).expect("a ring"))
        .collect();
    let options = RingsOptions { folder: folder.path().to_owned(), mapped_max: 3 };
    let mut rings = Rings::new(options);
    for round in 0..3 {
        for producer in &mut producers {
            let generation = producer.write(&jpeg(round), &payload(round, 50)).expect("room");
            let handle = rings.handle(producer.segment(), generation, 50).expect("a handle");
            assert_eq!(read(&handle), Ok(payload(round, 50)));
            assert!(rings.mapped() <= 3);
        }
    }
    assert_eq!(rings.refresh(), 0, "all three were used");
    let generation = producers[4].write(&jpeg(9), &payload(9, 50)).expect("room");
    let handle = rings.handle("omma-p4", generation, 50).expect("a handle");
    assert_eq!(rings.refresh(), 2, "two were not used again");
    drop(producers);
    rings.handle("omma-p4", generation, 50).expect("still mapped");
    assert_eq!(rings.refresh(), 1, "its name is gone");
    assert_eq!(rings.mapped(), 0);
    assert_eq!(read(&handle), Ok(payload(9, 50)), "a handle keeps its segment");
}

#[test]
fn a_ring_for_each_of_many_producers_stays_mapped() {
    let folder = folder();
    let mut producers: Vec<Producer> = (0..700)
        .map(|number| Producer::create(&format!("p{number}"), &options(folder.path(), 4096)).expect("a ring"))
        .collect();
    let mut rings = rings(folder.path());
    let mut on_their_way: Vec<Vec<Handle>> = Vec::new();
    for round in 0..3 {
        let handles = producers.iter_mut().map(|producer| {
            let generation = producer.write(&jpeg(round), &payload(round, 50)).expect("room");
            rings.handle(producer.segment(), generation, 50).expect("a handle")
        });
        on_their_way.push(handles.collect());
    }
    assert_eq!(rings.mapped(), 700);
    for (first, last) in on_their_way[0].iter().zip(&on_their_way[2]) {
        assert!(Arc::ptr_eq(&first.segment, &last.segment), "one mapping of each");
        assert_eq!(read(last), Ok(payload(2, 50)));
    }
}

#[test]
fn a_segment_with_handles_on_their_way_is_not_mapped_a_second_time() {
    let folder = folder();
    let mut producers: Vec<Producer> = (0..2)
        .map(|number| Producer::create(&format!("p{number}"), &options(folder.path(), 4096)).expect("a ring"))
        .collect();
    let mut rings = Rings::new(RingsOptions { folder: folder.path().to_owned(), mapped_max: 1 });
    let mut handle = |rings: &mut Rings, which: usize| {
        let generation = producers[which].write(&jpeg(1), &payload(1, 50)).expect("room");
        rings.handle(producers[which].segment(), generation, 50).expect("a handle")
    };
    let first = handle(&mut rings, 0);
    let other = handle(&mut rings, 1);
    let again = handle(&mut rings, 0);
    assert!(Arc::ptr_eq(&first.segment, &again.segment) && rings.mapped() == 1);
    // Once nobody has one, it goes.
    let segment = Arc::downgrade(&other.segment);
    drop(other);
    assert_eq!(segment.strong_count(), 0);
}

#[test]
fn a_ring_may_come_as_an_open_file() {
    let folder = folder();
    let mut producer = Producer::create("gate", &options(folder.path(), 4096)).expect("a ring");
    let generation = producer.write(&jpeg(3), &payload(3, 50)).expect("room");
    let file = File::open(producer.path()).expect("the segment");
    let segment = omma_ring::RingSegment::open(&file, "by hand").expect("a ring");
    let mut seen = None;
    segment.read_slot(generation, &mut |meta, _| seen = Some(*meta)).expect("it is there");
    assert_eq!(seen, Some(jpeg(3)));
}

/// A producer that writes faster than any clock used to be, is gone with its file, and comes again at once.
#[test]
fn generations_are_not_used_twice_even_if_nothing_is_left_of_the_one_before() {
    let folder = folder();
    let mut last = 0;
    for round in 0..40 {
        // The largest ring first: the coarser, the easier to begin where the one before has begun.
        let bytes = if round < 20 { 16 << 20 } else { 1 << 20 };
        let mut producer = Producer::create("gate", &options(folder.path(), bytes)).expect("a ring");
        let first = producer.write(&jpeg(0), &payload(0, 10)).expect("room");
        assert!(first > last, "round {round}: {first} after {last}");
        last = first;
        for sequence in 0..if round % 2 == 0 { 0 } else { 60 } {
            last = producer.write_with(&jpeg(sequence), 900_000, |room| room.fill(7)).expect("room");
        }
    }
}
