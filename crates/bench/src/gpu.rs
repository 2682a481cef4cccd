//! How busy the machine's GPU is, as `nvidia-smi` tells.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Between two looks: a look takes some 50 ms of one core itself.
const LOOK_EVERY: Duration = Duration::from_millis(150);

/// The first GPU's name, if there is one.
pub fn name() -> Option<String> {
    query("name").map(|text| text.trim().to_owned()).filter(|name| !name.is_empty())
}

/// Looks at the first GPU until it is stopped.
pub struct GpuWatch {
    stop: Arc<AtomicBool>,
    looking: JoinHandle<Vec<[f64; 2]>>,
}

/// Means over the time that was watched.
#[derive(Debug, Clone, Copy, Default)]
pub struct GpuUse {
    /// Time in which at least one kernel ran.
    pub busy_percent: f64,
    pub memory_mib: f64,
}

impl GpuWatch {
    pub fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let looking = std::thread::spawn(move || {
            let mut seen = Vec::new();
            while !stopped.load(Ordering::Acquire) {
                seen.extend(query("utilization.gpu,memory.used").as_deref().and_then(two_numbers));
                std::thread::sleep(LOOK_EVERY);
            }
            seen
        });
        Self { stop, looking }
    }

    pub fn stop(self) -> GpuUse {
        self.stop.store(true, Ordering::Release);
        let seen = self.looking.join().unwrap_or_default();
        let mean = |at: usize| seen.iter().map(|look| look[at]).sum::<f64>() / seen.len().max(1) as f64;
        GpuUse { busy_percent: mean(0), memory_mib: mean(1) }
    }
}

fn query(what: &str) -> Option<String> {
    let arguments = [&format!("--query-gpu={what}"), "--format=csv,noheader,nounits", "--id=0"];
    let output = Command::new("nvidia-smi").args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn two_numbers(line: &str) -> Option<[f64; 2]> {
    let (first, second) = line.trim().split_once(',')?;
    Some([first.trim().parse().ok()?, second.trim().parse().ok()?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_tool_prints_is_read() {
        assert_eq!(two_numbers("83, 1402\n"), Some([83.0, 1402.0]));
        assert_eq!(two_numbers("[N/A], 1402\n"), None);
        assert_eq!(two_numbers(""), None);
    }
}
