//! A blocking link to a Redis server or cluster: commands go out together, answers come back in their order.
//!
//! It lives on a thread of its own (the source's, the sink's writer, a tool's main thread): every call blocks, at most
//! for the options' timeouts. It connects when it is used and again after it was lost, but never waits between two
//! attempts: whoever uses it knows how urgent it is.

mod cluster;
mod commands;
mod node;
pub(crate) mod reply;
mod stream;
#[cfg(feature = "redis-tls")]
mod tls;

use std::fmt;

pub use omma_engine::sink::Retry;
use redis::{Pipeline, Value};

pub use commands::{Commands, Place, SLOTS, slot_of};
pub use reply::{Head, ReplyError};

use self::cluster::Cluster;
use self::node::Node;
use self::stream::Stream;
use super::options::{Address, RedisOptions, Target, parse_url};

/// The answers of a link, as they come.
pub type Replies = reply::Replies<Stream>;

/// What went wrong, where, and when to try again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkError {
    /// Begins with the server's address; holds no password.
    pub message: String,
    pub retry: Retry,
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for LinkError {}

impl LinkError {
    fn lost(address: &Address, message: &str) -> Self {
        Self { message: format!("redis at {address}: {message}"), retry: Retry::Backoff }
    }

    /// What a server's refusal of a command means for whoever sent it.
    #[must_use]
    pub fn of_refusal(text: &str) -> Self {
        let code = text.split(' ').next().unwrap_or_default();
        let (retry, hint) = match code {
            "LOADING" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" | "BUSY" => (Retry::Backoff, ""),
            // A link to a cluster follows these by itself.
            "MOVED" | "ASK" => (Retry::Backoff, "; this server is a node of a cluster, expected cluster = true"),
            "READONLY" => (Retry::Backoff, "; this server is a replica now"),
            "OOM" => (Retry::Backoff, "; Redis is at its maxmemory"),
            "MISCONF" | "NOREPLICAS" => (Retry::Backoff, ""),
            "NOAUTH" => (Retry::Backoff, "; set password_env or password_file"),
            "WRONGPASS" => (Retry::Backoff, "; look at username and password"),
            "NOPERM" => (Retry::Backoff, "; the user's ACL does not allow it"),
            _ => (Retry::Never, ""),
        };
        Self { message: format!("redis says: {text}{hint}"), retry }
    }
}

fn refused(address: &Address, text: &str) -> LinkError {
    let said = LinkError::of_refusal(text);
    // A greeting that is refused today may be taken tomorrow: the server's users may change.
    LinkError { message: format!("{address}: {}", said.message), retry: Retry::Backoff }
}

/// What became of one command.
pub enum Answer<'a> {
    /// It is about to be read: exactly one piece must be taken.
    Reply(&'a mut Replies),
    /// The server's own words.
    Refused(&'a str),
    /// The connection was lost before the answer; whether the command was done is not known.
    Lost(&'a LinkError),
}

/// Hears the answers, by the number of their command.
pub type Hear<'a> = dyn FnMut(usize, Answer<'_>) -> Result<(), ReplyError> + 'a;

/// See the module.
pub struct Link {
    options: RedisOptions,
    target: Target,
    how: How,
}

enum How {
    Single(Single),
    Cluster(Cluster),
}

/// The connection to a single server.
#[derive(Default)]
struct Single {
    node: Option<Node>,
    /// Connections that there have been, this one among them.
    number: u64,
}

/// Commands that were sent ahead; their answers are still to be heard.
pub struct Posted {
    commands: Commands,
    sent: Sent,
}

enum Sent {
    /// On the connection of this number.
    On(u64),
    Failed(LinkError),
    /// Not yet: a cluster may have to send a command a second time after having heard of the first.
    Later,
}

impl Link {
    /// Connects with its first use.
    ///
    /// # Errors
    /// The options cannot be right, whatever the server says.
    pub fn new(options: RedisOptions) -> Result<Self, LinkError> {
        let wrong = |message: String| LinkError { message: format!("redis url: {message}"), retry: Retry::Never };
        let target = parse_url(&options.url).map_err(wrong)?;
        let how = if options.cluster {
            if target.database > 0 {
                return Err(wrong(format!("database {} of a cluster, which has only 0", target.database)));
            }
            How::Cluster(Cluster::default())
        } else {
            How::Single(Single::default())
        };
        #[cfg(not(feature = "redis-tls"))]
        if matches!(target.address, Address::Tcp { tls: true, .. }) {
            return Err(wrong("this build has no TLS (feature `redis-tls`)".to_owned()));
        }
        Ok(Self { options, target, how })
    }

    /// Where it leads, without a password.
    #[must_use]
    pub fn shown(&self) -> String {
        format!("redis at {}", self.target.address)
    }

    #[must_use]
    pub fn is_cluster(&self) -> bool {
        matches!(self.how, How::Cluster(_))
    }

    /// How many masters there are to ask with [`Place::Master`].
    ///
    /// # Errors
    /// A cluster's nodes are not known and none can be asked.
    pub fn masters(&mut self) -> Result<usize, LinkError> {
        match &mut self.how {
            How::Single(_) => Ok(1),
            How::Cluster(cluster) => cluster.masters(&self.target.address, &self.options),
        }
    }

    /// By slot of a cluster the number of the master that has it, `u16::MAX` if nobody does; nothing of a single server.
    ///
    /// # Errors
    /// A cluster's nodes are not known and none can be asked.
    pub fn slot_owners(&mut self) -> Result<Vec<u16>, LinkError> {
        match &mut self.how {
            How::Single(_) => Ok(Vec::new()),
            How::Cluster(cluster) => cluster.owners(&self.target.address, &self.options),
        }
    }

    /// Forgets the connections; the next use makes new ones.
    pub fn hang_up(&mut self) {
        match &mut self.how {
            How::Single(single) => single.node = None,
            How::Cluster(cluster) => cluster.hang_up(),
        }
    }

    /// Runs the commands and gives all answers; refusals stand among them as [`Value::ServerError`]. For small answers.
    /// In a cluster each command goes to its first key, those of a transaction to that of its first command.
    ///
    /// # Errors
    /// The connection was lost: some of the commands may have been done.
    pub fn run(&mut self, pipeline: &Pipeline) -> Result<Vec<Value>, LinkError> {
        let mut commands = Commands::default();
        let atomic = pipeline.is_transaction();
        let first = pipeline.cmd_iter().map(commands::place_of).find(|place| *place != Place::Any);
        let first = first.unwrap_or(Place::Any);
        if atomic {
            commands.push(first, &[b"MULTI"]);
        }
        for cmd in pipeline.cmd_iter() {
            commands.push_cmd(if atomic { first } else { commands::place_of(cmd) }, cmd);
        }
        if atomic {
            commands.push(first, &[b"EXEC"]);
        }
        let mut values = vec![Value::Nil; commands.len()];
        let mut lost = None;
        self.exchange(&commands, &mut |number, answer| {
            match answer {
                Answer::Reply(replies) => values[number] = replies.value()?,
                Answer::Refused(text) => values[number] = reply::refusal(text)?,
                Answer::Lost(error) => lost = Some(error.clone()),
            }
            Ok(())
        });
        if let Some(error) = lost {
            return Err(error);
        }
        if !atomic {
            return Ok(values);
        }
        match values.pop() {
            Some(Value::Array(values)) => Ok(values),
            // The first command that was refused says why.
            Some(refusal @ Value::ServerError(_)) => {
                let why = values.into_iter().find(|value| matches!(value, Value::ServerError(_)));
                Ok(vec![why.unwrap_or(refusal)])
            }
            other => {
                Err(LinkError::lost(&self.target.address, &format!("{other:?} in answer to EXEC, expected an array")))
            }
        }
    }

    /// Sends the commands and lets `hear` read each answer where it comes in; every command is heard of exactly once,
    /// those of one place in their order.
    pub fn exchange(&mut self, commands: &Commands, hear: &mut Hear<'_>) {
        if !commands.is_empty() {
            let sent = self.send(commands);
            self.listen(commands, sent, hear);
        }
    }

    /// Sends commands whose answers [`Link::hear`] brings later: the server works while others' answers are looked at.
    /// What is posted is heard in the same order, and nothing is exchanged meanwhile.
    #[must_use = "the answers come all the same, and have to be heard"]
    pub fn post(&mut self, commands: Commands) -> Posted {
        let sent = self.send(&commands);
        Posted { commands, sent }
    }

    /// As [`Link::exchange`], of what was posted; gives the commands' buffer back.
    pub fn hear(&mut self, posted: Posted, hear: &mut Hear<'_>) -> Commands {
        let Posted { commands, sent } = posted;
        self.listen(&commands, sent, hear);
        commands
    }

    fn send(&mut self, commands: &Commands) -> Sent {
        let How::Single(single) = &mut self.how else { return Sent::Later };
        if single.node.is_none() {
            match Node::connect(&self.target.address, self.target.database, &self.options) {
                Ok(node) => single.node = Some(node),
                Err(error) => return Sent::Failed(error),
            }
            single.number += 1;
        }
        match single.node.as_mut().map_or(Ok(()), |node| node.send(commands.bytes())) {
            Ok(()) => Sent::On(single.number),
            Err(error) => {
                single.node = None;
                Sent::Failed(LinkError::lost(&self.target.address, &error.to_string()))
            }
        }
    }

    fn listen(&mut self, commands: &Commands, sent: Sent, hear: &mut Hear<'_>) {
        let Self { options, target, how } = self;
        let single = match how {
            How::Single(single) => single,
            How::Cluster(cluster) => return cluster.exchange(&target.address, options, commands, hear),
        };
        let mut heard = 0;
        let lost = match (sent, &mut single.node) {
            (Sent::Failed(error), _) => Some(error),
            (Sent::On(number), Some(node)) if number == single.number => {
                match hear_all(node, commands.len(), &mut heard, hear) {
                    Ok(demoted) => {
                        if demoted {
                            // The name may lead to another server by now.
                            single.node = None;
                        }
                        None
                    }
                    Err(error) => {
                        single.node = None;
                        Some(LinkError::lost(&target.address, &error.to_string()))
                    }
                }
            }
            _ => Some(LinkError::lost(&target.address, "the connection was lost")),
        };
        if let Some(error) = lost {
            for number in heard..commands.len() {
                // There is no answer to read, so nothing to go wrong with it.
                let _ = hear(number, Answer::Lost(&error));
            }
        }
    }
}

/// Hears so many answers and counts them; gives whether the server says that it is none to write to any more.
fn hear_all(node: &mut Node, count: usize, heard: &mut usize, hear: &mut Hear<'_>) -> Result<bool, ReplyError> {
    let mut demoted = false;
    while *heard < count {
        let said = refusal_of(&mut node.replies)?;
        demoted |= said.as_ref().is_some_and(|text| is_demoted(text));
        match &said {
            None => hear(*heard, Answer::Reply(&mut node.replies)),
            Some(text) => hear(*heard, Answer::Refused(text)),
        }?;
        *heard += 1;
    }
    Ok(demoted)
}

/// The server's refusal, if that is what comes next.
fn refusal_of(replies: &mut Replies) -> Result<Option<String>, ReplyError> {
    if !replies.next_is_error()? {
        return Ok(None);
    }
    replies.head()?;
    replies.text().map(Some)
}

fn is_demoted(text: &str) -> bool {
    ["READONLY", "MASTERDOWN", "UNBLOCKED"].iter().any(|code| text.starts_with(code))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_node_of_a_cluster_is_told_as_one() {
        let said = LinkError::of_refusal("MOVED 3999 127.0.0.1:6381");
        assert_eq!((said.message.ends_with("expected cluster = true"), said.retry), (true, Retry::Backoff), "{said}");
    }

    #[test]
    fn what_was_posted_on_a_connection_that_broke_is_lost_and_not_answered_by_the_next() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let server = std::thread::spawn(move || {
            let (mut first, _) = listener.accept().expect("a client");
            first.write_all(b"+OK\r\n").expect("greeted");
            let (mut heard, mut some) = (Vec::new(), [0; 256]);
            // Both commands have come, and neither is answered.
            while heard.windows(4).filter(|word| word == b"PING").count() < 2 {
                let count = first.read(&mut some).expect("commands");
                heard.extend_from_slice(&some[..count]);
            }
            drop(first);
            let (mut second, _) = listener.accept().expect("a client");
            second.write_all(b"+OK\r\n+PONG\r\n").expect("answered");
            let _ = second.read_to_end(&mut Vec::new());
        });
        let mut link = Link::new(RedisOptions::new(&format!("redis://127.0.0.1:{port}"))).expect("options that can be");
        let ping = || {
            let mut commands = Commands::default();
            commands.push(Place::Any, &[b"PING"]);
            commands
        };
        let hear = |link: &mut Link, posted: Posted| {
            let mut heard = Vec::new();
            let _ = link.hear(posted, &mut |_, answer| {
                heard.push(match answer {
                    Answer::Reply(replies) => {
                        replies.head()?;
                        replies.text()?
                    }
                    Answer::Refused(text) => text.to_owned(),
                    Answer::Lost(_) => "lost".to_owned(),
                });
                Ok(())
            });
            heard.join(" ")
        };
        let (first, second) = (link.post(ping()), link.post(ping()));
        assert_eq!(hear(&mut link, first), "lost");
        let third = link.post(ping());
        assert_eq!((hear(&mut link, second), hear(&mut link, third)), ("lost".to_owned(), "PONG".to_owned()));
        drop(link);
        server.join().expect("served");
    }
}
