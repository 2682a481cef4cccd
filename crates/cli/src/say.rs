//! The one place that writes to the terminal: results to the standard output, everything else to the standard error.
//!
//! A reader that has gone away is no reason to panic: what cannot be written is left out.

use std::io::{self, IsTerminal, Write};

/// To the standard output: what was asked for.
pub fn out(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.write_all(b"\n")).and_then(|()| stdout.flush());
}

/// To the standard error: what happens meanwhile.
pub fn note(text: &str) {
    let mut stderr = io::stderr().lock();
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.write_all(b"\n"));
}

/// As `out`, of an object for programs.
pub fn json(value: &impl serde::Serialize) {
    if let Ok(text) = serde_json::to_string(value) {
        out(&text);
    }
}

/// Whether a person may be watching what goes to the standard error.
pub fn watched() -> bool {
    io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}
