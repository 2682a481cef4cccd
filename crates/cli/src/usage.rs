//! What the process has used so far.

use std::time::Duration;

/// CPU time of all threads, user and system.
pub fn cpu_time() -> Duration {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is to a `rusage` of our own; zeroed is a valid one should the call fail.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    };
    let time = |t: libc::timeval| {
        let part = |value: i64| u64::try_from(value).unwrap_or_default();
        Duration::from_secs(part(t.tv_sec)) + Duration::from_micros(part(t.tv_usec as i64))
    };
    time(usage.ru_utime) + time(usage.ru_stime)
}

/// Cores that this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
