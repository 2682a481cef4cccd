//! Tells Linux what the engine's threads are for, so that those that hand frames on are not kept waiting by those that
//! compute.
//!
//! Without it, a result that is ready while both cores compute waits for the end of a time slice, about 3 ms, at each
//! thread that it passes: measured at half load on 2 cores, that made the 99th percentile of the added latency 4 to
//! 5 ms; with it, two reports gave 1.4 and
//! 2.2 ms (`omma-bench latency`). Relays therefore ask for short slices, which the scheduler repays with an
//! earlier turn (Linux 6.12 and newer; before, the wish has no effect), and computing threads are a little nicer than
//! the rest. Both may be asked for without privileges. Real-time priorities were rejected: they need privileges, and a
//! relay that loops would take the machine with it.

use omma_engine::threads::Role;

/// Nanoseconds; well above what a relay needs for one hand-over, well below a usual slice.
#[cfg(target_os = "linux")]
const RELAY_SLICE_NS: u64 = 100_000;
/// A third of the usual weight against other threads of the machine.
#[cfg(target_os = "linux")]
const COMPUTE_NICE: i32 = 5;

/// For [`omma_engine::pipeline::Parts::begin_thread`]. Where the system refuses, the thread stays as it was: it is a
/// wish, nothing depends on it.
pub fn schedule(role: Role) {
    #[cfg(target_os = "linux")]
    match role {
        Role::Relay => ask_for(0, RELAY_SLICE_NS),
        Role::Compute => ask_for(COMPUTE_NICE, 0),
    }
    #[cfg(not(target_os = "linux"))]
    let _ = role;
}

/// Asks for at least this niceness, and for a slice (0: the system's own).
#[cfg(target_os = "linux")]
fn ask_for(nice_min: i32, slice_ns: u64) {
    /// `struct sched_attr` in its first version, which every kernel that has the call takes.
    #[repr(C)]
    struct Attributes {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime_ns: u64,
        deadline_ns: u64,
        period_ns: u64,
    }
    // SAFETY: a call without pointers; 0 means the calling thread.
    let nice = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    let wanted = Attributes {
        size: size_of::<Attributes>() as u32,
        policy: libc::SCHED_OTHER as u32,
        flags: 0,
        // What somebody has made nicer stays so.
        nice: nice.max(nice_min),
        priority: 0,
        runtime_ns: slice_ns,
        deadline_ns: 0,
        period_ns: 0,
    };
    // SAFETY: the structure lives through the call and says its own size; 0 means the calling thread.
    unsafe {
        libc::syscall(libc::SYS_sched_setattr, 0, &raw const wanted, 0);
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn computing_threads_are_nicer_and_relays_are_not() {
        // SAFETY: as above.
        let nice = || unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
        let before = nice();
        for (role, expected) in [(Role::Relay, before), (Role::Compute, before.max(COMPUTE_NICE))] {
            let begin = std::thread::spawn(move || {
                schedule(role);
                nice()
            });
            assert_eq!(begin.join().expect("a wish never fails"), expected, "{role:?}");
        }
    }
}
