//! A worker's process: started so that it cannot outlive omma, ended so that nothing of it is left.
//!
//! The kernel kills a worker when the *thread* that started it ends, so all workers are started by one thread that lives
//! as long as the process. Each has a process group of its own: a Ctrl-C at the terminal reaches omma alone, which
//! drains, and a worker's own children go with it.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::log::{Log, Teller};

/// Descriptors as the worker finds them.
const CONTROL_FD: i32 = 3;
const PACKAGE_FD: i32 = 4;
/// As `schedule` has it for omma's own computing threads.
const COMPUTE_NICE: i32 = 5;
/// How long a killed process is waited for; one that is stuck in the kernel is left to it.
const REAP_MAX: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(1);

pub(super) struct Process {
    child: Child,
    log: Log,
    status: Option<ExitStatus>,
}

struct Job {
    command: Command,
    done: Sender<io::Result<Child>>,
}

/// The thread that starts all workers.
fn starter() -> io::Result<&'static Sender<Job>> {
    static STARTER: OnceLock<Sender<Job>> = OnceLock::new();
    if let Some(starter) = STARTER.get() {
        return Ok(starter);
    }
    let (jobs, mine) = crossbeam_channel::bounded::<Job>(16);
    std::thread::Builder::new().name("omma-python-start".to_owned()).spawn(move || {
        for mut job in mine {
            // Whoever asked may have gone: the child then is dropped, not waited for, and ends with its socket.
            let _ = job.done.send(job.command.spawn());
        }
    })?;
    // Of two that start it at once, one thread ends again with its channel.
    Ok(STARTER.get_or_init(|| jobs))
}

impl Process {
    /// Starts the command with its ends of the socket and the package in place.
    ///
    /// # Errors
    /// There is no such program, or no process to be had.
    pub(super) fn start(
        mut command: Command,
        name: &str,
        control: &OwnedFd,
        package: &OwnedFd,
        teller: Teller,
    ) -> io::Result<Self> {
        let parent = std::process::id();
        let (control, package) = (control.as_raw_fd(), package.as_raw_fd());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // SAFETY: runs in the child between fork and exec and makes system calls only; the descriptors live in the
        // parent until the child has been started.
        unsafe {
            command.pre_exec(move || {
                libc::setpgid(0, 0);
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                if libc::getppid().cast_unsigned() != parent {
                    return Err(io::Error::from_raw_os_error(libc::ESRCH));
                }
                let nice = libc::getpriority(libc::PRIO_PROCESS, 0);
                libc::setpriority(libc::PRIO_PROCESS, 0, nice.max(COMPUTE_NICE));
                // Out of the way first: either may already be where the other belongs.
                for (from, to) in [
                    (libc::fcntl(control, libc::F_DUPFD, 64), CONTROL_FD),
                    (libc::fcntl(package, libc::F_DUPFD, 64), PACKAGE_FD),
                ] {
                    if from < 0 || libc::dup2(from, to) < 0 {
                        return Err(io::Error::last_os_error());
                    }
                    libc::close(from);
                }
                Ok(())
            });
        }
        let (done, started) = crossbeam_channel::bounded(1);
        let gone = || io::Error::other("the thread that starts workers is gone");
        starter()?.send(Job { command, done }).map_err(|_| gone())?;
        let mut child = started.recv().map_err(|_| gone())??;
        let pipes = child.stdout.take().zip(child.stderr.take()).ok_or_else(|| io::Error::other("no pipes"));
        let log = pipes.and_then(|(out, err)| Log::start(name, out.into(), err.into(), teller));
        match log {
            Ok(log) => Ok(Self { child, log, status: None }),
            Err(error) => {
                kill(&mut child);
                Err(error)
            }
        }
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn has_ended(&mut self) -> bool {
        if self.status.is_none() && is_over(&self.child) {
            // Children that it has left behind. Before its number is given back: until then the group is its own.
            signal_group(&self.child);
            self.status = self.child.try_wait().ok().flatten();
        }
        self.status.is_some()
    }

    /// Waits for its end; whether it has come.
    pub(super) fn ends_within(&mut self, span: Duration) -> bool {
        let until = Instant::now() + span;
        while !self.has_ended() {
            if Instant::now() >= until {
                return false;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        true
    }

    /// Ends it and its children at once, without waiting.
    pub(super) fn kill(&mut self) {
        if !self.has_ended() {
            signal_group(&self.child);
        }
    }

    /// How it ended and what it said last, for people.
    pub(super) fn obituary(&mut self) -> String {
        let how = match self.status {
            None => "it still runs, but has closed its socket".to_owned(),
            Some(status) => match (status.code(), status.signal()) {
                (Some(code), _) => format!("it ended with exit code {code}"),
                (None, Some(signal)) => format!("it was killed by {}", signal_name(signal)),
                (None, None) => "it ended".to_owned(),
            },
        };
        let words = self.log.last_words();
        if words.is_empty() { how } else { format!("{how}; its last words: {}", words.join(" | ")) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.has_ended() {
            kill(&mut self.child);
        }
    }
}

/// Whether it has ended, which leaves it to be waited for.
fn is_over(child: &Child) -> bool {
    // SAFETY: plain data that the call fills.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` lives through the call; its process number is 0 if nothing has ended.
    unsafe { libc::waitid(libc::P_PID, child.id(), &raw mut info, options) == 0 && info.si_pid() != 0 }
}

/// Only for a process that has not been waited for: its number, and so its group's, is still its own.
fn signal_group(child: &Child) {
    if let Ok(id) = i32::try_from(child.id()) {
        // SAFETY: a call without pointers.
        unsafe { libc::kill(-id, libc::SIGKILL) };
    }
}

fn kill(child: &mut Child) {
    signal_group(child);
    let until = Instant::now() + REAP_MAX;
    while !matches!(child.try_wait(), Ok(Some(_)) | Err(_)) && Instant::now() < until {
        std::thread::sleep(LOOK_AGAIN);
    }
}

fn signal_name(signal: i32) -> String {
    let name = match signal {
        libc::SIGKILL => "SIGKILL, as the kernel does when memory runs out",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGILL => "SIGILL",
        libc::SIGFPE => "SIGFPE",
        libc::SIGTERM => "SIGTERM",
        _ => return format!("signal {signal}"),
    };
    format!("signal {signal} ({name})")
}
