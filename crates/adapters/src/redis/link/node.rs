//! One connection to one server, past its greeting: logged in, database chosen, named.

use std::io::Write;

use super::commands::{Commands, Place};
use super::reply::{Head, Replies, ReplyError};
use super::stream::Stream;
use super::{LinkError, refused};
use crate::redis::options::{Address, RedisOptions};

pub(super) struct Node {
    pub replies: Replies<Stream>,
}

impl Node {
    pub fn connect(address: &Address, database: u32, options: &RedisOptions) -> Result<Self, LinkError> {
        let lost = |message: String| LinkError::lost(address, &message);
        let stream = Stream::connect(address, options).map_err(lost)?;
        let mut node = Self { replies: Replies::new(stream, options.reply_timeout, options.value_bytes_max) };
        let mut greeting = Commands::default();
        if let Some(password) = &options.password {
            let user = options.username.as_deref().map(str::as_bytes);
            let words: Vec<&[u8]> =
                [Some(&b"AUTH"[..]), user, Some(password.reveal().as_bytes())].into_iter().flatten().collect();
            greeting.push(Place::Any, &words);
        }
        if database > 0 {
            greeting.push(Place::Any, &[b"SELECT", database.to_string().as_bytes()]);
        }
        // Some ACLs do not allow it, and it is only for people who look at CLIENT LIST.
        greeting.push(Place::Any, &[b"CLIENT", b"SETNAME", b"omma"]);
        node.send(greeting.bytes()).map_err(|error| lost(error.to_string()))?;
        for number in 0..greeting.len() {
            let courtesy = number + 1 == greeting.len();
            match node.replies.head().map_err(|error| lost(error.to_string()))? {
                Head::Error => {
                    let text = node.replies.text().map_err(|error| lost(error.to_string()))?;
                    if !courtesy || text.starts_with("NOAUTH") {
                        return Err(refused(address, &text));
                    }
                }
                Head::Simple => drop(node.replies.text().map_err(|error| lost(error.to_string()))?),
                other => return Err(lost(format!("{other:?} in answer to a greeting, expected OK"))),
            }
        }
        Ok(node)
    }

    pub fn send(&mut self, bytes: &[u8]) -> Result<(), ReplyError> {
        self.replies.stream().write_all(bytes)?;
        self.replies.stream().flush()?;
        self.replies.expect();
        Ok(())
    }
}
