//! A real tritonserver of a test's own: some of the models in `models/triton`, on free ports, with the faults that a
//! server can have.
//!
//! Where it is missing, [`TritonServer::start`] says so and gives none, or fails if `OMMA_REQUIRE_RUNTIMES=1`.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::ports::free_port;
use crate::process::{ServerProcess, required};

/// A server that takes longer to load its models is broken.
const PATIENCE: Duration = Duration::from_secs(60);
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// A running server, or one that was killed and may be started again on the same ports.
pub struct TritonServer {
    folder: tempfile::TempDir,
    models: Vec<String>,
    http: u16,
    grpc: u16,
    metrics: u16,
    process: ServerProcess,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn script() -> PathBuf {
    root().join("scripts/triton.sh")
}

/// Whether there is a tritonserver to be started; says loudly if there is none.
///
/// # Panics
/// There is none and `OMMA_REQUIRE_RUNTIMES=1`.
#[must_use]
pub fn is_installed() -> bool {
    let found = Command::new(script()).arg("installed").status();
    required(found.is_ok_and(|status| status.success()), "tritonserver")
}

impl TritonServer {
    /// Starts a server with these of the models in `models/triton` and waits until it is ready; `None`: there is no
    /// tritonserver here, which has been said.
    ///
    /// # Panics
    /// The server does not start.
    #[must_use]
    pub fn start(models: &[&str]) -> Option<Self> {
        if !is_installed() {
            return None;
        }
        let models: Vec<String> = models.iter().map(|&model| model.to_owned()).collect();
        let mut said = String::new();
        // A port that was free may be taken by the time the server asks for it.
        for _ in 0..3 {
            let folder = tempfile::Builder::new().prefix("triton-").tempdir().expect("a temporary folder");
            let (http, grpc, metrics) = (free_port(), free_port(), free_port());
            let (models, process) = (models.clone(), ServerProcess::default());
            let mut server = Self { folder, models, http, grpc, metrics, process };
            server.spawn();
            if server.wait_ready() {
                return Some(server);
            }
            said = server.log();
        }
        panic!("tritonserver does not start: {said}");
    }

    /// `grpc://127.0.0.1:PORT`.
    #[must_use]
    pub fn grpc(&self) -> String {
        format!("grpc://127.0.0.1:{}", self.grpc)
    }

    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn http(&self) -> String {
        format!("http://127.0.0.1:{}", self.http)
    }

    /// kill -9, of its models' processes too: one that was just starting would not notice that its server is gone.
    pub fn kill(&mut self) {
        if self.process.kill() {
            self.sweep();
        }
    }

    /// What the server and its models shared lies around once they are killed.
    fn sweep(&self) {
        let ours = |name: &str| name.starts_with(&self.region());
        for entry in std::fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
            if entry.file_name().to_str().is_some_and(ours) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    /// How the names of the memory begin that it shares with its models.
    fn region(&self) -> String {
        format!("omma-triton-{}-{}-", std::process::id(), self.grpc)
    }

    /// SIGSTOP: it keeps its connections and answers nobody.
    pub fn pause(&self) {
        self.process.signal(libc::SIGSTOP);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.process.signal(libc::SIGCONT);
    }

    /// Starts a killed server again, on the same ports, without waiting until it is ready.
    pub fn restart(&mut self) {
        self.kill();
        self.spawn();
    }

    /// Asks by HTTP: the status and the body.
    ///
    /// # Panics
    /// It does not answer.
    #[must_use]
    pub fn ask(&self, method: &str, path: &str) -> (u16, String) {
        self.exchange(method, path).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// How often a model was run, as the server counts.
    ///
    /// # Panics
    /// It does not say.
    #[must_use]
    pub fn executions(&self, model: &str) -> u64 {
        let (status, body) = self.ask("GET", &format!("/v2/models/{model}/stats"));
        assert_eq!(status, 200, "{body}");
        let (_, count) = body.split_once("\"execution_count\":").expect("a count");
        count.split(|c: char| !c.is_ascii_digit()).next().and_then(|count| count.parse().ok()).expect("a number")
    }

    fn exchange(&self, method: &str, path: &str) -> io::Result<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.http))?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        // In one piece: of a path that comes in several, Triton looks up the first.
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: triton\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        // Not every answer is followed by the end of the connection.
        let mut stream = BufReader::new(stream);
        let (mut status, mut length, mut line) = (None, 0, String::new());
        while stream.read_line(&mut line)? > 0 && !line.trim_end().is_empty() {
            let words = line.to_ascii_lowercase();
            if let Some(value) = words.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            } else if words.starts_with("http/") {
                status = words.split(' ').nth(1).and_then(|status| status.parse().ok());
            }
            line.clear();
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        let status = status.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }

    fn spawn(&mut self) {
        let log = File::create(self.folder.path().join("log")).expect("a log");
        let mut command = Command::new(script());
        command.arg("run").arg(root().join("models/triton")).arg("--model-control-mode=explicit");
        command.args(self.models.iter().map(|model| format!("--load-model={model}")));
        command.arg(format!("--backend-config=python,shm-region-prefix-name={}", self.region()));
        command.env("HTTP_PORT", self.http.to_string());
        command.env("GRPC_PORT", self.grpc.to_string());
        command.env("METRICS_PORT", self.metrics.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.process.start(&mut command);
    }

    /// Whether it is ready; `false`: it has ended.
    fn wait_ready(&mut self) -> bool {
        let mut process = std::mem::take(&mut self.process);
        let is_ready = || self.exchange("GET", "/v2/health/ready").is_ok_and(|(status, _)| status == 200);
        let ready = process.wait(PATIENCE, is_ready, || self.log());
        self.process = process;
        ready
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for TritonServer {
    fn drop(&mut self) {
        self.kill();
    }
}
