//! What a span of a process cost: CPU time, context switches, memory.

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
        Self::of(libc::RUSAGE_SELF)
    }

    /// Of the children of this process that have ended.
    pub fn of_children() -> Self {
        Self::of(libc::RUSAGE_CHILDREN)
    }

    fn of(whom: libc::c_int) -> Self {
        // SAFETY: a plain out-parameter of the right type; the call cannot fail with these arguments.
        let usage = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            libc::getrusage(whom, &mut usage);
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
        Self::now().since(self)
    }

    pub fn since(&self, before: &Self) -> Spent {
        Spent {
            wall: self.at - before.at,
            cpu: self.cpu.saturating_sub(before.cpu),
            switches: self.switches - before.switches,
        }
    }
}

/// Resident memory in MiB.
pub fn rss_mib() -> f64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: f64 = pages.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0.0);
    pages * 4096.0 / (1024.0 * 1024.0)
}

/// What another process has used so far, as the system tells.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProcessUsage {
    /// Of all its threads, in steps of 10 ms.
    pub cpu: Duration,
    pub rss_mib: f64,
}

impl ProcessUsage {
    /// Zero once it has ended.
    pub fn of(pid: u32) -> Self {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name, in parentheses, may hold anything; behind it the third field comes first.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        // SAFETY: a call without pointers.
        let ticks_per_s = unsafe { libc::sysconf(libc::_SC_CLK_TCK) }.max(1) as f64;
        Self {
            cpu: Duration::from_secs_f64((field(14) + field(15)) as f64 / ticks_per_s),
            rss_mib: field(24) as f64 * 4096.0 / (1024.0 * 1024.0),
        }
    }
}

/// Context switches of the whole machine since it started, as `vmstat` shows them.
pub fn context_switches() -> u64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = stat.lines().find_map(|line| line.strip_prefix("ctxt "));
    line.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_seen_from_outside_as_from_inside() {
        let until = Instant::now() + Duration::from_millis(100);
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        let (inside, outside) = (Usage::now(), ProcessUsage::of(std::process::id()));
        assert!(outside.cpu.abs_diff(inside.cpu) < Duration::from_millis(50), "{:?} {:?}", outside.cpu, inside.cpu);
        assert!((outside.rss_mib - rss_mib()).abs() < 50.0);
        assert!(context_switches() > 0);
        assert_eq!(ProcessUsage::of(u32::MAX).cpu, Duration::ZERO);
    }
}
