//! Processes of this program that have one role each, so that their CPU time and memory can be told apart.
//!
//! A role is told what to do by one argument of JSON. It says `ready` when it is, goes on until its standard input ends
//! or says `stop`, and then says what it did as one line of JSON. So nobody outlives the bench, however that ends.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The first argument of a process that has a role; the second is its name, the third what it is told.
pub const ROLE: &str = "--role";

/// A process that plays a role. Dropping it ends it.
pub struct Role {
    name: &'static str,
    process: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Role {
    /// Starts one and waits until it is ready.
    pub fn start(name: &'static str, told: &impl Serialize) -> Result<Self, String> {
        let failed = |what: &dyn std::fmt::Display| format!("the {name} process: {what}");
        let program = std::env::current_exe().map_err(|error| failed(&error))?;
        let told = serde_json::to_string(told).map_err(|error| failed(&error))?;
        let mut process = Command::new(program)
            .args([ROLE, name, &told])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| failed(&error))?;
        let (Some(stdin), Some(stdout)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(failed(&"it has no pipes"));
        };
        let mut role = Self { name, process, stdin: Some(stdin), stdout: BufReader::new(stdout) };
        match role.line()?.as_str() {
            "ready" => Ok(role),
            other => Err(format!("the {name} process: {other}")),
        }
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Ends it and takes what it says.
    pub fn stop<R: DeserializeOwned>(mut self) -> Result<R, String> {
        self.stdin = None;
        let said = self.line()?;
        serde_json::from_str(&said).map_err(|error| format!("the {} process said {said:?}: {error}", self.name))
    }

    fn line(&mut self) -> Result<String, String> {
        let mut line = String::new();
        match self.stdout.read_line(&mut line) {
            Ok(0) => Err(format!("the {} process ended without a word", self.name)),
            Ok(_) => Ok(line.trim_end().to_owned()),
            Err(error) => Err(format!("the {} process: {error}", self.name)),
        }
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        self.stdin = None;
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Inside of a role: whether it is to stop. A thread watches the standard input.
pub fn stopping() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let raise = Arc::clone(&stop);
    std::thread::spawn(move || {
        // Whatever comes, and the end as well.
        let _ = std::io::stdin().lock().read_line(&mut String::new());
        raise.store(true, Ordering::Release);
    });
    stop
}

/// Inside of a role: says a line.
pub fn say(line: &str) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes())
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush())
        .map_err(|error| error.to_string())
}

/// Plays a role with its argument; what it says at the end, or why it cannot.
pub fn play<T: DeserializeOwned, R: Serialize>(
    told: &str,
    role: impl FnOnce(T, Arc<AtomicBool>) -> Result<R, String>,
) -> Result<(), String> {
    let told = serde_json::from_str(told).map_err(|error| error.to_string())?;
    let said = role(told, stopping())?;
    say(&serde_json::to_string(&said).map_err(|error| error.to_string())?)
}
