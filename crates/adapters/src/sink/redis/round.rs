//! One pipeline of results: which command is which, and what each answer means for the results in it.

use omma_frame::Token;

use super::entry::{Form, Values};
use super::fates::{Fate, Fates};
use super::names::Stream;
use super::scripts;
use super::verdict::{Verdict, verdict};
use crate::redis::link::{Answer, Commands, Head, Replies, ReplyError};
use crate::redis::{Link, LinkError};
use crate::sink::encode::EntryId;

/// What one command of the pipeline is.
#[derive(Debug, Clone, Copy)]
enum Sent {
    /// The result at this place; within a transaction its answer comes with the transaction's.
    Add {
        place: usize,
        has_id: bool,
        within: bool,
    },
    Begin,
    /// The results of the transaction, as a range of the results sent.
    Commit {
        from: usize,
        to: usize,
    },
    /// The results of one script, likewise.
    Script {
        from: usize,
        to: usize,
    },
}

/// Everything about one pipeline; its buffers are used again for the next.
#[derive(Default)]
pub(super) struct Round {
    commands: Commands,
    sent: Vec<Sent>,
    /// The places of the results sent, in their order, and whether they have ids of their own.
    places: Vec<(usize, bool)>,
    /// Results whose ids are not above their streams' last.
    pub not_above: Vec<usize>,
    /// Why results were refused for good: the first of them, and how many.
    pub refused: Option<(usize, String)>,
    pub refused_count: usize,
    /// What keeps the rest waiting.
    pub failure: Option<LinkError>,
}

/// How entries are written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub form: Form,
    /// `MAXLEN ~`; `None`: nothing is trimmed.
    pub keep: Option<u64>,
}

impl Round {
    /// Forgets the pipeline before, and what was said of it.
    pub fn begin(&mut self) {
        self.commands.clear();
        self.sent.clear();
        self.places.clear();
        self.not_above.clear();
        self.failure = None;
    }

    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The results of one camera, in its order. Several are one transaction: if the server refuses one (it is out of
    /// memory) and takes the next (it no longer is), the first would be behind the second for ever.
    pub fn add(&mut self, stream: &Stream, shape: Shape, entries: &[(usize, Option<Token>)], values: &Values) {
        let within = entries.len() > 1;
        let from = self.places.len();
        if within {
            self.commands.push(stream.place, &[b"MULTI"]);
            self.sent.push(Sent::Begin);
        }
        let names = shape.form.names();
        let mut values = values.iter_from(0);
        for &(place, id) in entries {
            let count = 3 + if shape.keep.is_some() { 3 } else { 0 } + 2 * names.len();
            self.commands.begin(stream.place, count).arg(b"XADD").arg(&stream.key);
            if let Some(keep) = shape.keep {
                self.commands.arg(b"MAXLEN").arg(b"~").number(keep);
            }
            match id {
                Some(Token(ms, seq)) => self.commands.entry_id((ms, seq)),
                None => self.commands.arg(b"*"),
            };
            for (name, value) in names.iter().zip(values.by_ref()) {
                self.commands.arg(name.as_bytes()).arg(value);
            }
            self.sent.push(Sent::Add { place, has_id: id.is_some(), within });
            self.places.push((place, id.is_some()));
        }
        if within {
            self.commands.push(stream.place, &[b"EXEC"]);
            self.sent.push(Sent::Commit { from, to: self.places.len() });
        }
    }

    /// The results of one shard, in their order, with each one's camera.
    pub fn append(
        &mut self,
        stream: &Stream,
        shape: Shape,
        entries: &[(usize, Option<Token>)],
        cameras: &[&str],
        values: &Values,
    ) {
        let names = shape.form.names();
        let from = self.places.len();
        let count = 3 + 2 + 2 + names.len() + entries.len() * (2 + names.len());
        self.commands.begin(stream.place, count).arg(b"EVAL").arg(scripts::APPEND.as_bytes()).number(2);
        self.commands.arg(&stream.key).arg(&stream.guard);
        self.commands.number(shape.keep.unwrap_or_default()).number(names.len() as u64);
        names.iter().for_each(|name| {
            self.commands.arg(name.as_bytes());
        });
        let mut values = values.iter_from(0);
        for (&(place, id), camera) in entries.iter().zip(cameras) {
            self.commands.arg(camera.as_bytes());
            match id {
                Some(id) => self.commands.arg(EntryId::of(id).as_str().as_bytes()),
                None => self.commands.arg(b""),
            };
            for value in values.by_ref().take(names.len()) {
                self.commands.arg(value);
            }
            self.places.push((place, id.is_some()));
        }
        self.sent.push(Sent::Script { from, to: self.places.len() });
    }

    /// Sends it all and hears it all.
    pub fn run(&mut self, link: &mut Link, fates: &mut Fates) {
        let commands = std::mem::take(&mut self.commands);
        link.exchange(&commands, &mut |number, answer| self.hear(number, answer, fates));
        self.commands = commands;
    }

    fn hear(&mut self, number: usize, answer: Answer<'_>, fates: &mut Fates) -> Result<(), ReplyError> {
        let Some(&sent) = self.sent.get(number) else {
            return Err(ReplyError::Protocol("an answer to nothing".to_owned()));
        };
        match (answer, sent) {
            (Answer::Lost(error), sent) => {
                self.failure.get_or_insert_with(|| error.clone());
                self.doubt(sent, fates);
            }
            (Answer::Refused(text), Sent::Add { place, .. }) => self.refuse(place..place + 1, text, fates, |at| at),
            (Answer::Refused(text), Sent::Script { from, to }) => {
                let places: Vec<usize> = self.places[from..to].iter().map(|(place, _)| *place).collect();
                self.refuse(0..places.len(), text, fates, |at| places[at]);
            }
            (Answer::Refused(text), Sent::Begin | Sent::Commit { .. }) => match verdict(text) {
                // Its commands have said why.
                Verdict::Aborted => {}
                Verdict::Later(error) => drop(self.failure.get_or_insert(error)),
                Verdict::Never(message) => {
                    let error = LinkError { message, retry: omma_engine::sink::Retry::Backoff };
                    self.failure.get_or_insert(error);
                }
                Verdict::NotAbove => {}
            },
            (Answer::Reply(replies), Sent::Begin) => replies.skip_piece()?,
            (Answer::Reply(replies), Sent::Add { place, within, .. }) => match replies.head()? {
                // In its transaction; what became of it comes at the end.
                Head::Simple if within => drop(replies.text()?),
                Head::Bulk(length) => {
                    replies.skip(length)?;
                    fates.set(place, Fate::Taken);
                }
                other => return Err(unexpected("XADD", other)),
            },
            (Answer::Reply(replies), Sent::Commit { from, to }) => self.commit(replies, from, to, fates)?,
            (Answer::Reply(replies), Sent::Script { from, to }) => match replies.head()? {
                // Written now, or before: what is not remembered is written.
                Head::Int(_) => self.places[from..to].iter().for_each(|&(place, _)| fates.set(place, Fate::Taken)),
                other => return Err(unexpected("EVAL", other)),
            },
        }
        Ok(())
    }

    /// The answers of a transaction's commands.
    fn commit(&mut self, replies: &mut Replies, from: usize, to: usize, fates: &mut Fates) -> Result<(), ReplyError> {
        match replies.head()? {
            Head::Array(count) if count == to - from => {}
            other => return Err(unexpected("EXEC", other)),
        }
        for at in from..to {
            let (place, _) = self.places[at];
            match replies.head()? {
                Head::Bulk(length) => {
                    replies.skip(length)?;
                    fates.set(place, Fate::Taken);
                }
                Head::Error => {
                    let text = replies.text()?;
                    self.refuse(place..place + 1, &text, fates, |at| at);
                }
                other => return Err(unexpected("XADD", other)),
            }
        }
        Ok(())
    }

    fn refuse(
        &mut self,
        range: std::ops::Range<usize>,
        text: &str,
        fates: &mut Fates,
        place_of: impl Fn(usize) -> usize,
    ) {
        match verdict(text) {
            Verdict::NotAbove => self.not_above.extend(range.map(place_of)),
            Verdict::Later(error) => drop(self.failure.get_or_insert(error)),
            Verdict::Never(message) => {
                range.map(place_of).for_each(|place| self.refuse_for_good(place, &message, fates))
            }
            Verdict::Aborted => {}
        }
    }

    pub fn refuse_for_good(&mut self, place: usize, message: &str, fates: &mut Fates) {
        fates.set(place, Fate::Refused);
        self.refused_count += 1;
        self.refused.get_or_insert_with(|| (place, message.to_owned()));
    }

    fn doubt(&self, sent: Sent, fates: &mut Fates) {
        let lost = match sent {
            // Within a transaction the end says it.
            Sent::Begin | Sent::Add { within: true, .. } => &[][..],
            Sent::Add { place, has_id, within: false } => &[(place, has_id)][..],
            Sent::Commit { from, to } | Sent::Script { from, to } => &self.places[from..to],
        };
        for &(place, has_id) in lost {
            if !has_id && fates.get(place) == Fate::Open {
                fates.set(place, Fate::Doubtful);
            }
        }
    }
}

fn unexpected(command: &str, found: Head) -> ReplyError {
    ReplyError::Protocol(format!("{found:?} in answer to {command}"))
}
