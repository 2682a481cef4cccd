//! Open files and connections: each camera over HTTP and each `.mjpeg` file holds one, and many systems start a process
//! with room for 1024.
//!
//! Runs once at start, on the main thread. Only the soft limit is raised, no further than needed: programs that came
//! to terms with a low one are slow or wrong beyond it, and none of ours is, but libraries may be.

use omma_config::{Config, SourceKind};

/// For everything that does not grow with the cameras: model runtimes, sinks, wake-ups, files of
/// pictures while they are read.
const OTHERS: u64 = 256;

/// What the system grants: now, and at most without more rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Limits {
    soft: u64,
    hard: u64,
}

/// What is to be done about them.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Nothing,
    RaiseTo(u64),
    /// As far as it goes, which is too little.
    Short {
        raise_to: u64,
    },
}

fn step(needed: u64, limits: Limits) -> Step {
    if needed <= limits.soft {
        Step::Nothing
    } else if needed <= limits.hard {
        Step::RaiseTo(needed)
    } else {
        Step::Short { raise_to: limits.hard }
    }
}

/// More than most clusters have.
const MASTERS: u64 = 32;

/// How many the sources hold at once.
fn held(config: &Config) -> u64 {
    let of = |kind: &SourceKind| match kind {
        SourceKind::Synthetic { .. } | SourceKind::Images { .. } => 0,
        SourceKind::MjpegFile { .. } => 1,
        SourceKind::MjpegHttp { streams, .. } => streams.len() as u64,
        // Each reader has one to the server, or to each master.
        SourceKind::Redis(streams) => config.engine.readers as u64 * if streams.redis.cluster { MASTERS } else { 1 },
    };
    config.sources.iter().map(|source| of(&source.kind)).sum()
}

/// How many clients of the pages and of inference on request may hold; beyond it they are not taken.
fn clients(config: &Config) -> u64 {
    let listeners = u64::from(config.http.is_some()) + u64::from(config.direct.grpc.is_some());
    config.direct.connections_max as u64 * listeners
}

/// Raises the limit to what the configuration needs. Gives a warning if it cannot be raised that far: cameras that come
/// too late will then fail to connect, by name, and try again.
pub fn provide(config: &Config) -> Option<String> {
    let held = held(config);
    let needed = held + OTHERS + clients(config);
    let limits = limits()?;
    let (to, short) = match step(needed, limits) {
        Step::Nothing => return None,
        Step::RaiseTo(to) => (to, false),
        Step::Short { raise_to } => (raise_to, true),
    };
    let granted = if set(Limits { soft: to, ..limits }) { to } else { limits.soft };
    (short || granted < needed).then(|| {
        format!(
            "the sources hold {held} connections and files open, {needed} with everything else, and this process may \
             open {granted}: some cameras will not be served. Set its limit to at least {needed} (`ulimit -Hn {needed}` \
             as root in the shell that starts omma, `LimitNOFILE={needed}` in a systemd unit, `--ulimit nofile={needed}` \
             for docker run)"
        )
    })
}

/// `None` where the system does not tell: nothing is changed then.
fn limits() -> Option<Limits> {
    let mut limits = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to an `rlimit` of our own.
    let told = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limits) } == 0;
    told.then_some(Limits { soft: limits.rlim_cur, hard: limits.rlim_max })
}

/// Whether the system agreed.
fn set(limits: Limits) -> bool {
    let limits = libc::rlimit { rlim_cur: limits.soft, rlim_max: limits.hard };
    // SAFETY: the pointer is to an `rlimit` of our own.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limits) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_as_far_as_needed_and_possible() {
        for (needed, soft, hard, expected) in [
            (256, 1024, 4096, Step::Nothing),
            (1024, 1024, 4096, Step::Nothing),
            (1025, 1024, 4096, Step::RaiseTo(1025)),
            (4096, 1024, 4096, Step::RaiseTo(4096)),
            (10_256, 1024, 4096, Step::Short { raise_to: 4096 }),
            (10_256, 4096, 4096, Step::Short { raise_to: 4096 }),
            (10_256, 1024, libc::RLIM_INFINITY, Step::RaiseTo(10_256)),
        ] {
            assert_eq!(step(needed, Limits { soft, hard }), expected, "{needed} of {soft}, {hard}");
        }
    }
}
