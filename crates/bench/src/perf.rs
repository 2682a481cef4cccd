//! perf_analyzer, the load that Triton's makers measure servers with, against a server on this host. It is installed by
//! `scripts/setup.sh perf`.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// perf_analyzer takes as many windows of the measurement's length as it is told, at least three.
const WINDOWS: u32 = 3;
/// Beyond the windows: its start, its end, and the requests of before.
const PATIENCE: Duration = Duration::from_secs(30);

/// How values travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Grpc,
    Http,
    /// Through system shared memory, with the requests by gRPC.
    SharedMemory,
}

/// Where a server listens: `HOST:PORT`.
#[derive(Debug, Clone)]
pub struct At {
    pub http: String,
    pub grpc: String,
}

/// The program, where it has been installed.
pub struct PerfAnalyzer {
    folder: PathBuf,
}

impl PerfAnalyzer {
    /// # Errors
    /// It is not installed; how to do it.
    pub fn find() -> Result<Self, String> {
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
        let folder = cache.map(|cache| cache.join("omma/runtimes/perf_analyzer-2.51.0"));
        let installed = folder.filter(|folder| folder.join("complete").exists());
        installed.map(|folder| Self { folder }).ok_or_else(|| {
            "perf_analyzer is not installed: `scripts/setup.sh perf` does it, and installs a Triton beside it"
                .to_owned()
        })
    }

    /// Inferences per second of `model`, whose one output has `output_bytes`, with that many requests under way.
    ///
    /// # Errors
    /// What it says.
    pub fn inferences_per_s(
        &self,
        at: &At,
        way: Way,
        model: &str,
        output_bytes: usize,
        requests: usize,
        span: Duration,
    ) -> Result<f64, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let report = folder.path().join("report.csv");
        let mut command = Command::new("timeout");
        command.arg((span + PATIENCE).as_secs().to_string()).arg(self.folder.join("perf_analyzer"));
        command.env("LD_LIBRARY_PATH", &self.folder);
        command.args(["-m", model, "--concurrency-range", &requests.to_string()]);
        command.args(["-p", &(span / WINDOWS).as_millis().to_string(), "-r", &WINDOWS.to_string()]);
        // The median of whole runs is taken here; a window that differs is no reason to go on.
        command.args(["-s", "999", "-f"]).arg(&report);
        match way {
            Way::Http => command.args(["-i", "http", "-u", &at.http]),
            Way::Grpc | Way::SharedMemory => command.args(["-i", "grpc", "-u", &at.grpc]),
        };
        if way == Way::SharedMemory {
            command.args(["--shared-memory", "system", "--output-shared-memory-size", &output_bytes.to_string()]);
        }
        let output = command.output().map_err(|error| format!("perf_analyzer: {error}"))?;
        let said = || {
            let both = [output.stdout.as_slice(), &output.stderr].concat();
            String::from_utf8_lossy(&both).into_owned()
        };
        if !output.status.success() {
            return Err(format!("perf_analyzer ended with {}: {}", output.status, said()));
        }
        let text = std::fs::read_to_string(&report).map_err(|error| format!("no report ({error}): {}", said()))?;
        column(&text, "Inferences/Second").ok_or_else(|| format!("an unreadable report of perf_analyzer: {text}"))
    }
}

/// The first row's value in a table with a head.
fn column(table: &str, name: &str) -> Option<f64> {
    let mut lines = table.lines();
    let at = lines.next()?.split(',').position(|title| title == name)?;
    lines.next()?.split(',').nth(at)?.parse().ok()
}
