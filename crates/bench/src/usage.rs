//! What a span of this process cost: CPU time, context switches, memory.

use std::time::{Duration, Instant};

/// The process's counters at one moment.
pub struct Usage {
    at: Instant,
    cpu: Duration,
    switches: u64,
}

/// What happened between two moments.
pub struct Spent {
    pub wall: Duration,
    pub cpu: Duration,
    pub switches: u64,
}

impl Usage {
    pub fn now() -> Self {
        // SAFETY: a plain out-parameter of the right type; the call cannot fail with these arguments.
        let usage = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            libc::getrusage(libc::RUSAGE_SELF, &mut usage);
            usage
        };
        let time = |t: libc::timeval| Duration::from_secs(t.tv_sec as u64) + Duration::from_micros(t.tv_usec as u64);
        Self {
            at: Instant::now(),
            cpu: time(usage.ru_utime) + time(usage.ru_stime),
            switches: (usage.ru_nvcsw + usage.ru_nivcsw) as u64,
        }
    }

    pub fn spent(&self) -> Spent {
        let now = Self::now();
        Spent { wall: now.at - self.at, cpu: now.cpu - self.cpu, switches: now.switches - self.switches }
    }
}

/// Resident memory in MiB.
pub fn rss_mib() -> f64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: f64 = pages.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0.0);
    pages * 4096.0 / (1024.0 * 1024.0)
}
