//! What the engine has to say to people: few messages, kept in a bounded list, never one per frame.
//!
//! A fault that repeats is said once and then counted: the same subject and kind is said again only when its count has
//! doubled. Written by any thread on its error paths only; read by the control plane.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// Messages kept for a reader that is late; older ones are forgotten and counted.
const KEPT_MAX: usize = 256;
/// Subjects whose repetitions are told apart; beyond it all others count as one.
const SUBJECTS_MAX: usize = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Info,
    Warning,
    Error,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub level: Level,
    /// What it is about: a camera, a model, a sink, a source.
    pub subject: String,
    pub text: String,
    /// How often this kind has happened on this subject so far.
    pub times: u64,
}

#[derive(Default)]
pub struct Reports {
    inner: Mutex<Inner>,
    counts: [AtomicU64; 3],
}

#[derive(Default)]
struct Inner {
    messages: VecDeque<Message>,
    times: HashMap<(String, &'static str), u64>,
    forgotten: u64,
}

impl Inner {
    fn keep(&mut self, message: Message) {
        if self.messages.len() >= KEPT_MAX {
            self.messages.pop_front();
            self.forgotten += 1;
        }
        self.messages.push_back(message);
    }
}

impl Reports {
    /// Says something, unless this `kind` of thing has been said of this subject and its count has not doubled since.
    /// The text is made only if it is said.
    pub fn say(&self, level: Level, subject: &str, kind: &'static str, text: impl FnOnce() -> String) {
        self.counts[level as usize].fetch_add(1, Ordering::Relaxed);
        let mut inner = self.inner.lock();
        let mut key = (subject.to_owned(), kind);
        if inner.times.len() >= SUBJECTS_MAX && !inner.times.contains_key(&key) {
            key.0 = "others".to_owned();
        }
        let times = inner.times.entry(key).or_insert(0);
        *times += 1;
        let times = *times;
        if !times.is_power_of_two() {
            return;
        }
        inner.keep(Message { level, subject: subject.to_owned(), text: text(), times });
    }

    /// Passes on what somebody else has to say, who sees to it that it is not too much.
    pub fn pass_on(&self, message: Message) {
        self.counts[message.level as usize].fetch_add(1, Ordering::Relaxed);
        self.inner.lock().keep(message);
    }

    /// How often something of this level has happened, said or not.
    #[must_use]
    pub fn count(&self, level: Level) -> u64 {
        self.counts[level as usize].load(Ordering::Relaxed)
    }

    /// Takes the messages that nobody has read yet, and how many were forgotten before them.
    pub fn take(&self) -> (Vec<Message>, u64) {
        let mut inner = self.inner.lock();
        (inner.messages.drain(..).collect(), std::mem::take(&mut inner.forgotten))
    }
}
