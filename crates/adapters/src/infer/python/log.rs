//! What a worker writes to its standard output and error: line by line into the engine's messages, bounded.
//!
//! One thread per worker, asleep while nothing is written. A worker may write as much as it likes: its pipes are always
//! emptied, so that it never waits for them; what is more than a person reads is counted instead of passed on.

use std::collections::VecDeque;
use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam_channel::Sender;
use omma_engine::report::{Level, Message};
use parking_lot::Mutex;

/// Longer lines are cut.
const LINE_BYTES_MAX: usize = 2000;
/// Lines that are kept to say what a worker's last words were.
const LAST_LINES: usize = 12;
/// Lines that come through at once: a traceback or two, a framework's greeting.
const BURST_LINES: f64 = 60.0;
const LINES_PER_S: f64 = 5.0;

/// Who speaks, and to whom.
#[derive(Clone)]
pub(super) struct Teller {
    pub(super) subject: String,
    pub(super) messages: Sender<Message>,
}

impl Teller {
    /// Says something; if nobody has listened for so long that there is no room, it is lost.
    pub(super) fn say(&self, level: Level, text: String) {
        let _ = self.messages.try_send(Message { level, subject: self.subject.clone(), text, times: 1 });
    }
}

/// The reader of one worker's lines. Ends with it.
pub(super) struct Log {
    last: Arc<Mutex<VecDeque<String>>>,
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Log {
    /// # Errors
    /// There is no thread or pipe to be had.
    pub(super) fn start(name: &str, out: OwnedFd, err: OwnedFd, teller: Teller) -> io::Result<Self> {
        let (stopped, stop) = io::pipe()?;
        let last = Arc::new(Mutex::new(VecDeque::new()));
        let mut reader = Reader {
            pipes: [Pipe::new(PipeReader::from(out))?, Pipe::new(PipeReader::from(err))?],
            stopped,
            last: Arc::clone(&last),
            teller,
            pace: Pace::new(Instant::now()),
        };
        let thread = std::thread::Builder::new().name(format!("omma-log-{name}")).spawn(move || reader.run())?;
        Ok(Self { last, stop: Some(stop), thread: Some(thread) })
    }

    /// The worker's last words, after it has ended: what its pipes still hold is read first.
    pub(super) fn last_words(&mut self) -> Vec<String> {
        self.end();
        self.last.lock().iter().cloned().collect()
    }

    fn end(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It has only to empty two pipes; a panic there costs the last lines.
            let _ = thread.join();
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.end();
    }
}

struct Reader {
    pipes: [Pipe; 2],
    /// Ends when the log is to end.
    stopped: PipeReader,
    last: Arc<Mutex<VecDeque<String>>>,
    teller: Teller,
    pace: Pace,
}

impl Reader {
    fn run(&mut self) {
        loop {
            let mut fds = [self.pipes[0].poll(), self.pipes[1].poll(), poll_in(self.stopped.as_raw_fd())];
            // SAFETY: an array of three, alive through the call.
            let woken = unsafe { libc::poll(fds.as_mut_ptr(), 3, -1) };
            if woken < 0 && io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
                return;
            }
            for at in (0..2).filter(|&at| fds[at].revents != 0) {
                self.empty(at);
            }
            if fds[2].revents != 0 {
                // The worker has ended: what it wrote before is in the pipes already.
                self.empty(0);
                self.empty(1);
                self.pipes.iter_mut().for_each(|pipe| pipe.finish());
                (0..2).for_each(|at| self.pass_on(at));
                if let Some(text) = self.pace.remainder() {
                    self.teller.say(Level::Info, text);
                }
                return;
            }
            if self.pipes.iter().all(|pipe| pipe.ended) {
                self.pipes.iter_mut().for_each(|pipe| pipe.finish());
                (0..2).for_each(|at| self.pass_on(at));
            }
        }
    }

    /// Reads all that there is now. Bounded: a worker that writes for ever faster than this reads is looked at again
    /// on the next turn.
    fn empty(&mut self, at: usize) {
        for _ in 0..64 {
            let more = self.pipes[at].read();
            self.pass_on(at);
            if !more {
                return;
            }
        }
    }

    fn pass_on(&mut self, at: usize) {
        while let Some(line) = self.pipes[at].lines.pop_front() {
            let mut last = self.last.lock();
            if last.len() >= LAST_LINES {
                last.pop_front();
            }
            last.push_back(line.clone());
            drop(last);
            if let Some(left_out) = self.pace.admit(Instant::now()) {
                if left_out > 0 {
                    self.teller.say(Level::Info, format!("({left_out} lines left out)"));
                }
                self.teller.say(Level::Info, line);
            }
        }
    }
}

fn poll_in(fd: i32) -> libc::pollfd {
    libc::pollfd { fd, events: libc::POLLIN, revents: 0 }
}

struct Pipe {
    reader: PipeReader,
    partial: Vec<u8>,
    lines: VecDeque<String>,
    ended: bool,
}

impl Pipe {
    fn new(reader: PipeReader) -> io::Result<Self> {
        // SAFETY: a descriptor of our own.
        let set = unsafe { libc::fcntl(reader.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
        if set < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { reader, partial: Vec::new(), lines: VecDeque::new(), ended: false })
    }

    fn poll(&self) -> libc::pollfd {
        poll_in(if self.ended { -1 } else { self.reader.as_raw_fd() })
    }

    /// One piece; whether there may be more.
    fn read(&mut self) -> bool {
        let mut piece = [0; 4096];
        match self.reader.read(&mut piece) {
            Ok(0) => self.ended = true,
            Ok(count) => {
                self.split(&piece[..count]);
                return true;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.ended = true,
        }
        false
    }

    fn split(&mut self, piece: &[u8]) {
        for part in piece.split_inclusive(|&byte| byte == b'\n') {
            let room = LINE_BYTES_MAX.saturating_sub(self.partial.len());
            self.partial.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                self.finish();
            }
        }
    }

    /// What has gathered is a line, whether or not it was ended.
    fn finish(&mut self) {
        let text = String::from_utf8_lossy(&self.partial);
        let plain: String =
            text.trim_end().chars().map(|c| if c.is_control() && c != '\t' { ' ' } else { c }).collect();
        self.partial.clear();
        if !plain.trim().is_empty() {
            self.lines.push_back(plain);
        }
    }
}

/// How many lines come through: a burst, then a slow stream; the rest is counted.
struct Pace {
    room: f64,
    since: Instant,
    left_out: u64,
}

impl Pace {
    fn new(now: Instant) -> Self {
        Self { room: BURST_LINES, since: now, left_out: 0 }
    }

    /// `Some`: this line comes through, and so many before it did not.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        let passed = now.saturating_duration_since(self.since).as_secs_f64();
        self.since = now;
        self.room = (self.room + passed * LINES_PER_S).min(BURST_LINES);
        if self.room < 1.0 {
            self.left_out += 1;
            return None;
        }
        self.room -= 1.0;
        Some(std::mem::take(&mut self.left_out))
    }

    fn remainder(&mut self) -> Option<String> {
        let left_out = std::mem::take(&mut self.left_out);
        (left_out > 0).then(|| format!("({left_out} lines left out)"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::time::Duration;

    #[test]
    fn lines_come_through_in_bursts_and_the_rest_is_counted() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let through = (0..1000).filter(|_| pace.admit(start).is_some()).count();
        assert_eq!(through, 60);
        assert_eq!(pace.admit(start + Duration::from_secs(1)), Some(940));
        assert_eq!(pace.admit(start + Duration::from_secs(1)), Some(0));
        assert_eq!(pace.remainder(), None);
    }

    #[test]
    fn what_is_written_comes_out_line_by_line_and_cut() {
        let (messages, heard) = crossbeam_channel::bounded(100);
        let ((out, mut to_out), (err, mut to_err)) = (io::pipe().expect("a pipe"), io::pipe().expect("a pipe"));
        let teller = Teller { subject: "model m worker 0".into(), messages };
        let mut log = Log::start("m-0", out.into(), err.into(), teller).expect("a log");
        to_out.write_all(b"one\r\n\n  \nt\x1b[1mwo\xff\n").expect("written");
        to_err.write_all(&[b'x'; 5000]).expect("written");
        let last = log.last_words();
        assert_eq!(last, ["one".to_owned(), "t [1mwo\u{fffd}".to_owned(), "x".repeat(2000)]);
        let said: Vec<_> = heard.try_iter().map(|message| message.text).collect();
        assert_eq!(said, last);
    }
}
