//! A server process of a test's own: started, waited for, stopped and killed.
//!
//! It lives as long as the thread that started it and no longer than its [`ServerProcess`].

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// Whether a program was `found` that a test needs; says loudly if it was not.
///
/// # Panics
/// As [`skipped`].
pub fn required(found: bool, program: &str) -> bool {
    if !found {
        skipped(&format!("{program} is not installed (scripts/setup.sh test installs it)"));
    }
    found
}

/// Says loudly why a test does not run.
///
/// # Panics
/// `OMMA_REQUIRE_RUNTIMES=1`: everything is to run.
pub fn skipped(why: &str) {
    assert!(std::env::var_os("OMMA_REQUIRE_RUNTIMES").is_none_or(|value| value != "1"), "{why}");
    let _ = writeln!(io::stderr(), "NOT RUN: {why}");
}

/// See the module. Its methods panic where the system refuses what no test can go on without.
#[derive(Default)]
pub struct ServerProcess(Option<Child>);

impl ServerProcess {
    /// Starts it in a process group of its own; who runs already is killed first.
    pub fn start(&mut self, command: &mut Command) {
        self.kill();
        // SAFETY: one system call that is allowed between fork and exec. A test that is killed takes its server along.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        self.0 = Some(command.process_group(0).spawn().expect("the server starts"));
    }

    /// Waits until it is ready; `false`: it has ended before.
    pub fn wait(&mut self, patience: Duration, mut is_ready: impl FnMut() -> bool, said: impl Fn() -> String) -> bool {
        let begin = Instant::now();
        while begin.elapsed() < patience {
            if is_ready() {
                return true;
            }
            if self.0.as_mut().expect("it was started").try_wait().expect("a child can be asked").is_some() {
                self.0 = None;
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("the server is not ready within {patience:?}: {}", said());
    }

    /// `None` while it is dead.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.0.as_ref().map(Child::id)
    }

    pub fn signal(&self, signal: i32) {
        let child = self.0.as_ref().expect("it runs");
        // SAFETY: a call without pointers; the process is ours and not yet waited for.
        unsafe {
            libc::kill(child.id() as i32, signal);
        }
    }

    /// kill -9, of the processes that it has started too; `false`: it was dead.
    pub fn kill(&mut self) -> bool {
        let Some(mut child) = self.0.take() else { return false };
        // SAFETY: a call without pointers; the group is the server's own, and it is not yet waited for.
        unsafe {
            libc::kill(-(child.id() as i32), libc::SIGKILL);
        }
        let _ = child.wait();
        true
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        self.kill();
    }
}
