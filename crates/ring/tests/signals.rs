//! The one signal handler of this crate takes nothing from others: a bus error outside of a ring has the effect that it
//! had before, and readers on several threads survive the same truncation.
//!
//! The children are this test's own program, started again with a role in the environment.

use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Barrier;

use omma_frame::{DropReason, UnixNanos};
use omma_ring::{Format, Meta, Producer, RingOptions, Rings, RingsOptions};

const ROLE: &str = "OMMA_RING_TEST_ROLE";

/// What the previous handler ends with, so that it is seen to have run.
const HANDLED: i32 = 42;

extern "C" fn simple(_: libc::c_int) {
    // SAFETY: ends the process at once, which a signal handler may.
    unsafe { libc::_exit(HANDLED) };
}

extern "C" fn with_info(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: as above; the kernel's own `info`.
    unsafe { libc::_exit(if (*info).si_signo == libc::SIGBUS { HANDLED } else { 1 }) };
}

fn handle_with(handler: usize, flags: libc::c_int) {
    // SAFETY: a zeroed action is a valid one, and the handlers are what their flags say.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler;
        action.sa_flags = flags;
        assert_eq!(libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut()), 0);
    }
}

/// A ring is in use: our handler is set.
fn use_a_ring(folder: &std::path::Path) -> Producer {
    let options = RingOptions { folder: folder.to_owned(), ..RingOptions::new(1 << 20) };
    Producer::create("gate", &options).expect("a ring")
}

/// Touches a page of a mapping of its own that the file has lost.
fn fault() {
    let file = tempfile::tempfile_in("/dev/shm").expect("a file");
    file.set_len(4096).expect("room");
    // SAFETY: a mapping that nobody else uses; the read is meant to fail.
    unsafe {
        let at = libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0);
        assert_ne!(at, libc::MAP_FAILED);
        file.set_len(0).expect("truncated");
        at.cast::<u8>().read_volatile();
    }
}

/// Not a test: what the children of the tests do.
#[test]
fn child() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let folder = tempfile::tempdir_in("/dev/shm").expect("/dev/shm");
    // The child dies of it: its folder is removed beforehand, the ring lives on without a name.
    match role.as_str() {
        "simple handler" => handle_with(simple as *const () as usize, 0),
        "handler with info" => handle_with(with_info as *const () as usize, libc::SA_SIGINFO),
        "ignored" => handle_with(libc::SIG_IGN, 0),
        "default" | "sent" => handle_with(libc::SIG_DFL, 0),
        "sent, ignored" => handle_with(libc::SIG_IGN, 0),
        // As Rust's own runtime has set it.
        "untouched" => {}
        role => panic!("no such role: {role}"),
    }
    let ring = use_a_ring(folder.path());
    folder.close().expect("removed");
    if role.starts_with("sent") {
        // To this thread, so that it is taken before the call returns.
        // SAFETY: a signal to ourselves.
        assert_eq!(unsafe { libc::raise(libc::SIGBUS) }, 0);
    } else {
        fault();
    }
    drop(ring);
    std::process::exit(7);
}

fn run(role: &str) -> ExitStatus {
    Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("a child")
}

#[test]
fn a_bus_error_of_others_has_the_effect_that_it_had_before() {
    let killed = (None, Some(libc::SIGBUS));
    let table = [
        ("simple handler", (Some(HANDLED), None)),
        ("handler with info", (Some(HANDLED), None)),
        ("default", killed),
        // A fault cannot be ignored, it would happen again for ever.
        ("ignored", killed),
        ("untouched", killed),
        ("sent", killed),
        ("sent, ignored", (Some(7), None)),
    ];
    for (role, expected) in table {
        let status = run(role);
        assert_eq!((status.code(), status.signal()), expected, "{role}");
    }
}

#[test]
fn readers_on_many_threads_survive_one_truncation() {
    let folder = tempfile::tempdir_in("/dev/shm").expect("/dev/shm");
    for _ in 0..50 {
        let mut producer = use_a_ring(folder.path());
        let generation = producer.write(&Meta::encoded(Format::Jpeg, 0, UnixNanos(0)), &[7; 900_000]).expect("room");
        let options = RingsOptions { folder: folder.path().to_owned(), ..RingsOptions::default() };
        let handle = Rings::new(options).handle("omma-gate", generation, 900_000).expect("a handle");
        let file = std::fs::OpenOptions::new().write(true).open(producer.path()).expect("the segment");
        let start = Barrier::new(5);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    start.wait();
                    let mut refused = 0;
                    while refused < 2 {
                        let mut whole = false;
                        let read = handle.segment.read(generation, &mut |view| {
                            let omma_frame::PictureView::Encoded(bytes) = view else { panic!("not what was written") };
                            whole = bytes.iter().all(|byte| *byte == 7);
                        });
                        match read {
                            Ok(()) => assert!(whole, "zeros were accepted"),
                            Err(what) => {
                                assert_eq!(what.reason, DropReason::HandleInvalid, "{}", what.message);
                                refused += 1;
                            }
                        }
                    }
                });
            }
            start.wait();
            file.set_len(8192).expect("truncated");
        });
    }
}
