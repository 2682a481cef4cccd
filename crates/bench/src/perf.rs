//! perf_analyzer, the load that Triton's makers measure servers with, against a server on this host; and a real Triton to
//! measure beside omma. Both are installed by `scripts/setup.sh perf`.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::load::rest;

/// perf_analyzer takes as many windows of the measurement's length as it is told, at least three.
const WINDOWS: u32 = 3;
/// Beyond the windows: its start, its end, and the requests of before.
const PATIENCE: Duration = Duration::from_secs(30);
const READY_TRIES: usize = 300;

/// How values travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Grpc,
    Http,
    /// Through system shared memory, with the requests by gRPC.
    SharedMemory,
}

/// Where a server listens.
#[derive(Debug, Clone, Copy)]
pub struct At {
    pub http: SocketAddr,
    pub grpc: SocketAddr,
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
        at: At,
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
            Way::Http => command.args(["-i", "http", "-u", &at.http.to_string()]),
            Way::Grpc | Way::SharedMemory => command.args(["-i", "grpc", "-u", &at.grpc.to_string()]),
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

/// A tritonserver with one of the models of models/triton. Ends when dropped.
pub struct Triton {
    child: Child,
    pub at: At,
}

impl Triton {
    /// # Errors
    /// It is not installed, or does not start.
    pub fn start(model: &str) -> Result<Self, String> {
        let [http, grpc, metrics] = free_ports()?;
        let mut child = Command::new("scripts/triton.sh")
            .args(["run", "models/triton", "--model-control-mode=explicit", &format!("--load-model={model}")])
            .env("HTTP_PORT", http.to_string())
            .env("GRPC_PORT", grpc.to_string())
            .env("METRICS_PORT", metrics.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("scripts/triton.sh (from the repository's root): {error}"))?;
        let said = child.stderr.take();
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let mut triton = Self { child, at: At { http: local(http), grpc: local(grpc) } };
        // What it writes is read to its end, so that it never waits for us; the last lines say why it did not start.
        let reader = std::thread::spawn(move || {
            let mut last = std::collections::VecDeque::new();
            for line in said.into_iter().flat_map(|said| BufReader::new(said).lines().map_while(Result::ok)) {
                last.truncate(9);
                last.push_front(line);
            }
            last.into_iter().rev().collect::<Vec<_>>().join("\n")
        });
        for _ in 0..READY_TRIES {
            rest(Duration::from_millis(100));
            if triton.child.try_wait().map_err(|error| error.to_string())?.is_some() {
                return Err(format!("Triton did not start: {}", reader.join().unwrap_or_default()));
            }
            if answers(triton.at.http, "/v2/health/ready") {
                return Ok(triton);
            }
        }
        Err("Triton was not ready within 30 s".to_owned())
    }
}

impl Drop for Triton {
    fn drop(&mut self) {
        // The script has become the server: no process of its own is left behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a server says 200 to a question without a body.
fn answers(at: SocketAddr, path: &str) -> bool {
    use std::io::{Read, Write};
    let asked = || {
        let mut stream = std::net::TcpStream::connect_timeout(&at, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut head = [0; 12];
        stream.read_exact(&mut head)?;
        Ok::<_, std::io::Error>(head)
    };
    asked().is_ok_and(|head| head.ends_with(b" 200"))
}

fn free_ports() -> Result<[u16; 3], String> {
    let bound = |_| TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string());
    let all = [bound(())?, bound(())?, bound(())?];
    let mut ports = [0; 3];
    for (port, listener) in ports.iter_mut().zip(&all) {
        *port = listener.local_addr().map_err(|error| error.to_string())?.port();
    }
    Ok(ports)
}
