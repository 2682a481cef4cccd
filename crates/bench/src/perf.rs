//! perf_analyzer, the load that Triton's makers measure servers with, against a server on this host. It is installed by
//! `scripts/setup.sh perf`.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::usage::Usage;

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

/// What a load found.
pub struct Found {
    pub inferences_per_s: f64,
    /// What perf_analyzer itself took of the CPU time that it and this process took together.
    pub client_share: f64,
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

    /// The throughput of `model`, whose one output has `output_bytes`, with that many requests under way.
    ///
    /// # Errors
    /// What it says.
    pub fn load(
        &self,
        at: &At,
        way: Way,
        model: &str,
        output_bytes: usize,
        requests: usize,
        span: Duration,
    ) -> Result<Found, String> {
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
        let (here, children) = (Usage::now(), Usage::of_children());
        let output = command.output().map_err(|error| format!("perf_analyzer: {error}"))?;
        let (here, client) = (here.spent().cpu, Usage::of_children().since(&children).cpu);
        let said = || {
            let both = [output.stdout.as_slice(), &output.stderr].concat();
            String::from_utf8_lossy(&both).into_owned()
        };
        if !output.status.success() {
            return Err(format!("perf_analyzer ended with {}: {}", output.status, said()));
        }
        let text = std::fs::read_to_string(&report).map_err(|error| format!("no report ({error}): {}", said()))?;
        let per_s = column(&text, "Inferences/Second");
        let inferences_per_s = per_s.ok_or_else(|| format!("an unreadable report of perf_analyzer: {text}"))?;
        Ok(Found { inferences_per_s, client_share: client.as_secs_f64() / (client + here).as_secs_f64() })
    }
}

/// The first row's value in a table with a head.
fn column(table: &str, name: &str) -> Option<f64> {
    let mut lines = table.lines();
    let at = lines.next()?.split(',').position(|title| title == name)?;
    lines.next()?.split(',').nth(at)?.parse().ok()
}
