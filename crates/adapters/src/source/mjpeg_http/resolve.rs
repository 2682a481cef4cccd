//! Names to addresses on a few threads of their own: the system's resolver blocks, for many seconds when a server does
//! not answer. Queues hold at most one question for each camera.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use crossbeam_channel::{Receiver, Sender, bounded};

/// Two, so that one dead name server's timeout does not hold up everybody.
const THREADS: usize = 2;

pub(super) struct Resolver {
    questions: Sender<Question>,
    answers: Receiver<Answer>,
}

struct Question {
    camera: usize,
    attempt: u64,
    host: String,
    port: u16,
}

pub(super) struct Answer {
    /// The camera's place in the source.
    pub camera: usize,
    /// Which of its attempts asked; an answer to an older one comes too late.
    pub attempt: u64,
    pub addresses: io::Result<Vec<SocketAddr>>,
}

impl Resolver {
    pub fn start(cameras: usize) -> io::Result<Self> {
        let (questions, asked) = bounded::<Question>(cameras);
        let (answered, answers) = bounded(cameras + THREADS);
        for thread in 0..THREADS {
            let (asked, answered) = (asked.clone(), answered.clone());
            // Never joined: a lookup cannot be broken off, and the thread ends after the one it is at.
            std::thread::Builder::new().name(format!("resolve-{thread}")).spawn(move || {
                while let Ok(Question { camera, attempt, host, port }) = asked.recv() {
                    let addresses = (host.as_str(), port).to_socket_addrs().map(Iterator::collect);
                    if answered.send(Answer { camera, attempt, addresses }).is_err() {
                        return;
                    }
                }
            })?;
        }
        Ok(Self { questions, answers })
    }

    /// Whether the question was taken; it is not while as many as there are cameras wait.
    pub fn ask(&self, camera: usize, attempt: u64, host: &str, port: u16) -> bool {
        self.questions.try_send(Question { camera, attempt, host: host.to_owned(), port }).is_ok()
    }

    pub fn answer(&self) -> Option<Answer> {
        self.answers.try_recv().ok()
    }
}
