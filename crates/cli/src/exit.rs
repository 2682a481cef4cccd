//! How the process ends: the codes that scripts may trust, and failures with their code.

use std::fmt;
use std::process::ExitCode;

/// The exit codes of every command; `docs/ref/cli.md` lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Done = 0,
    /// It ran and failed, or a measured promise was not kept.
    Failed = 1,
    /// The command line, the configuration, or what the configuration names is wrong; nothing was run.
    Usage = 2,
    /// It ran and stopped in order, but some frames were not done within the drain's deadline.
    Late = 3,
}

/// The code of a process that a second signal ended at once, as shells give it for an interrupt.
pub const INTERRUPTED: i32 = 130;

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command cannot go on.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    pub message: String,
}

impl Failure {
    pub fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self { exit, message: message.to_string() }
    }

    /// Of what the user wrote.
    pub fn usage(message: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Of the machine or the run.
    pub fn run(message: impl fmt::Display) -> Self {
        Self::new(Exit::Failed, message)
    }
}
