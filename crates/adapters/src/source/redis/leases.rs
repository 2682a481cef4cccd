//! Which shards this process owns: leases in Redis, one for each shard, so that each camera has one reader at a time.
//!
//! A consumer group alone gives a camera's frames to whoever asks, in any order of completion; a lease keeps them
//! together. Living processes share the shards evenly: who has too many hands some over once they are drained, a dead
//! one's run out (at once if it died on this machine). A lease counts here from before it was asked for, so that it ends
//! here before it ends in Redis.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use redis::Value;

use super::identity;
use crate::redis::link::{Answer, Commands, Link, LinkError, Place, Retry, slot_of};

/// Takes or renews: free, ours already, or that of the process known to be dead. Gives the owner it has if not us.
const TAKE: &[u8] = b"local v = redis.call('GET', KEYS[1]) \
    if not v or v == ARGV[1] or v == ARGV[3] then redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) return '' end \
    return v";
const RELEASE: &[u8] = b"if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";
/// Says that we live, forgets who has not for long, and counts. Where somebody lives who shares the cameras out among
/// another number of shards, their name comes back and we do not join.
const JOIN: &[u8] = b"local t = redis.call('TIME') local now = t[1] * 1000 + math.floor(t[2] / 1000) \
    redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2]) \
    for _, member in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do \
        if string.match(member, '#%d+$') ~= ARGV[3] then return member end \
    end \
    redis.call('ZADD', KEYS[1], now, ARGV[1] .. ARGV[3]) \
    redis.call('PEXPIRE', KEYS[1], ARGV[2] * 10) \
    return redis.call('ZCARD', KEYS[1])";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Free,
    Held {
        until: Instant,
    },
    /// Held, but no longer read: on its way to another process.
    Leaving {
        until: Instant,
    },
}

pub(super) struct Leases {
    prefix: String,
    me: String,
    /// All shards, of which this reader may have those in `shards`.
    shards_total: u32,
    ttl: Duration,
    shards: BTreeMap<u32, State>,
    /// Shards that another process is known to have had since they were ours.
    elsewhere: BTreeSet<u32>,
    /// Processes that lived when they could be counted last.
    members: usize,
    next: Instant,
}

/// What a look at the leases came to.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub gained: Vec<u32>,
    /// Those of them whose frames others have read in between.
    pub resumed: Vec<u32>,
    pub lost: Vec<u32>,
    /// A part of a cluster could not be asked; its leases run out unless it can be soon.
    pub failed: Option<LinkError>,
    /// Redis could not be asked, or refused; what is held stays so until it runs out.
    pub down: Option<LinkError>,
}

impl Leases {
    /// `prefix` must be the same in all processes that share the cameras, `me` different.
    pub fn new(
        prefix: String,
        me: String,
        shards_total: u32,
        ttl: Duration,
        shards: impl Iterator<Item = u32>,
        now: Instant,
    ) -> Self {
        let shards = shards.map(|shard| (shard, State::Free)).collect();
        Self { prefix, me, shards_total, ttl, shards, elsewhere: BTreeSet::new(), members: 1, next: now }
    }

    /// Whether its cameras may be read now.
    pub fn holds(&self, shard: u32, now: Instant) -> bool {
        matches!(self.shards.get(&shard), Some(State::Held { until }) if now < *until)
    }

    pub fn is_due(&self, now: Instant) -> bool {
        now >= self.next
    }

    fn key(&self, shard: u32) -> String {
        format!("{}:{shard}", self.prefix)
    }

    /// Leases that ran out while nobody could be asked.
    fn expire(&mut self, now: Instant) -> Vec<u32> {
        let mut lost = Vec::new();
        for (shard, state) in &mut self.shards {
            if let State::Held { until } | State::Leaving { until } = *state
                && now >= until
            {
                *state = State::Free;
                lost.push(*shard);
            }
        }
        lost
    }

    /// Renews what is held, takes what is free up to the fair share, hands over what is more. What has changed is told
    /// also where Redis cannot be asked, or no more: leases run out all the same.
    pub fn tick(&mut self, link: &mut Link, now: Instant, is_drained: &dyn Fn(u32) -> bool) -> Changes {
        // A quarter of a lease, so that one answer that is late loses nothing.
        self.next = now + self.ttl / 4;
        let mut changes = Changes { lost: self.expire(now), ..Changes::default() };
        changes.down = self.ask_for(link, now, is_drained, &mut changes).err();
        let elsewhere = &mut self.elsewhere;
        changes.resumed.extend(changes.gained.iter().filter(|shard| elsewhere.remove(shard)));
        changes
    }

    fn ask_for(
        &mut self,
        link: &mut Link,
        now: Instant,
        is_drained: &dyn Fn(u32) -> bool,
        changes: &mut Changes,
    ) -> Result<(), LinkError> {
        match self.join(link) {
            Ok(members) => self.members = members.max(1),
            Err(error) if error.retry == Retry::Never => return Err(error),
            // Another master may have the leases themselves.
            Err(error) if link.is_cluster() => changes.failed = Some(error),
            Err(error) => return Err(error),
        }
        let fair = self.shards.len().div_ceil(self.members);
        self.share(fair);
        let until = now + self.ttl;
        let (mut takes, mut releases) = (Vec::new(), Vec::new());
        let mut held = self.shards.values().filter(|state| matches!(state, State::Held { .. })).count();
        for (&shard, state) in &self.shards {
            match state {
                State::Leaving { .. } if is_drained(shard) => {
                    releases.push(shard);
                    changes.lost.push(shard);
                    self.elsewhere.insert(shard);
                }
                State::Held { .. } | State::Leaving { .. } => takes.push((shard, String::new())),
                // More are asked for than there is room for, because others have some of them.
                State::Free if held < fair => takes.push((shard, String::new())),
                State::Free => {}
            }
        }
        let mut dead = Vec::new();
        for (shard, owner) in self.take(link, &takes, &mut changes.failed)? {
            let state = self.shards.entry(shard).or_insert(State::Free);
            if owner.is_some() {
                self.elsewhere.insert(shard);
            }
            match (owner, *state) {
                (None, State::Free) if held < fair => {
                    *state = State::Held { until };
                    held += 1;
                    changes.gained.push(shard);
                }
                // Taken, but that many were not wanted.
                (None, State::Free) => releases.push(shard),
                (None, State::Held { .. }) => *state = State::Held { until },
                (None, State::Leaving { .. }) => *state = State::Leaving { until },
                (Some(owner), State::Free) => {
                    if identity::is_dead(&owner) && held + dead.len() < fair {
                        dead.push((shard, owner));
                    }
                }
                (Some(_), State::Held { .. } | State::Leaving { .. }) => {
                    *state = State::Free;
                    changes.lost.push(shard);
                }
            }
        }
        for (shard, owner) in self.take(link, &dead, &mut changes.failed)? {
            if owner.is_none() {
                self.shards.insert(shard, State::Held { until });
                changes.gained.push(shard);
            }
        }
        for &shard in &releases {
            self.shards.insert(shard, State::Free);
        }
        match self.release(link, &releases) {
            Err(error) if link.is_cluster() => changes.failed = Some(error),
            outcome => outcome?,
        }
        Ok(())
    }

    /// More than the fair share leaves, the highest first; what was leaving stays if it is wanted again.
    fn share(&mut self, fair: usize) {
        let mut held = 0;
        for state in self.shards.values_mut() {
            if let State::Held { until } | State::Leaving { until } = *state {
                held += 1;
                *state = if held <= fair { State::Held { until } } else { State::Leaving { until } };
            }
        }
    }

    /// How many processes live, this one among them.
    fn join(&self, link: &mut Link) -> Result<usize, LinkError> {
        let key = format!("{}:members", self.prefix);
        let (ttl, shards) = (self.ttl.as_millis().to_string(), self.mark());
        let mut commands = Commands::default();
        let place = Place::Slot(slot_of(key.as_bytes()));
        let words = [b"EVAL", JOIN, b"1", key.as_bytes(), self.me.as_bytes(), ttl.as_bytes(), shards.as_bytes()];
        commands.push(place, &words);
        let values = ask(link, &commands)?;
        match values.first() {
            Some(Value::Int(count)) => Ok(usize::try_from(*count).unwrap_or(1)),
            Some(Value::BulkString(other)) => {
                let other = String::from_utf8_lossy(other);
                let (_, shards) = other.rsplit_once('#').unwrap_or_default();
                let message = format!(
                    "another process has {shards} shards in {key}, this one {}; expected max_consumer_shards to be the \
                     same in all processes of a group, or another group or source name",
                    self.shards_total
                );
                Err(LinkError { message, retry: Retry::Never })
            }
            other => Err(odd(other)),
        }
    }

    fn mark(&self) -> String {
        format!("#{}", self.shards_total)
    }

    /// By shard the owner it has, if that is not us. Of a cluster those that could be asked.
    fn take(
        &self,
        link: &mut Link,
        wanted: &[(u32, String)],
        failed: &mut Option<LinkError>,
    ) -> Result<Vec<(u32, Option<String>)>, LinkError> {
        let ttl = self.ttl.as_millis().to_string();
        let mut commands = Commands::default();
        for (shard, dead) in wanted {
            let key = self.key(*shard);
            let place = Place::Slot(slot_of(key.as_bytes()));
            let words = [b"EVAL", TAKE, b"1", key.as_bytes(), self.me.as_bytes(), ttl.as_bytes(), dead.as_bytes()];
            commands.push(place, &words);
        }
        let (values, wrong) = ask_each(link, &commands);
        if let Some(error) = wrong {
            if !link.is_cluster() {
                return Err(error);
            }
            *failed = Some(error);
        }
        let answered = wanted.iter().zip(values).filter_map(|(wanted, value)| Some((wanted, value?)));
        let owners = answered.map(|((shard, _), value)| match value {
            Value::BulkString(owner) if owner.is_empty() => Ok((*shard, None)),
            Value::BulkString(owner) => Ok((*shard, Some(String::from_utf8_lossy(&owner).into_owned()))),
            other => Err(odd(Some(&other))),
        });
        owners.collect()
    }

    fn release(&self, link: &mut Link, shards: &[u32]) -> Result<(), LinkError> {
        let mut commands = Commands::default();
        for &shard in shards {
            let key = self.key(shard);
            let place = Place::Slot(slot_of(key.as_bytes()));
            commands.push(place, &[b"EVAL", RELEASE, b"1", key.as_bytes(), self.me.as_bytes()]);
        }
        ask(link, &commands).map(drop)
    }

    /// At the end: another process need not wait. What cannot be said runs out by itself.
    pub fn leave(&mut self, link: &mut Link) {
        let held: Vec<u32> = self.shards.keys().copied().filter(|shard| self.shards[shard] != State::Free).collect();
        self.shards.values_mut().for_each(|state| *state = State::Free);
        let _ = self.release(link, &held);
        let key = format!("{}:members", self.prefix);
        let member = self.me.clone() + &self.mark();
        let mut commands = Commands::default();
        commands.push(Place::Slot(slot_of(key.as_bytes())), &[b"ZREM", key.as_bytes(), member.as_bytes()]);
        let _ = ask(link, &commands);
    }
}

/// All answers, or what went wrong.
fn ask(link: &mut Link, commands: &Commands) -> Result<Vec<Value>, LinkError> {
    let (values, wrong) = ask_each(link, commands);
    wrong.map_or_else(|| Ok(values.into_iter().map(|value| value.unwrap_or(Value::Nil)).collect()), Err)
}

/// The answers that came, and what went wrong with the others.
fn ask_each(link: &mut Link, commands: &Commands) -> (Vec<Option<Value>>, Option<LinkError>) {
    let mut values = vec![None; commands.len()];
    let mut wrong = None;
    link.exchange(commands, &mut |number, answer| {
        match answer {
            Answer::Reply(replies) => values[number] = Some(replies.value()?),
            Answer::Refused(text) => wrong = Some(LinkError::of_refusal(text)),
            Answer::Lost(error) => wrong = Some(error.clone()),
        }
        Ok(())
    });
    (values, wrong)
}

fn odd(found: Option<&Value>) -> LinkError {
    LinkError::of_refusal(&format!("TRYAGAIN {found:?} in answer to a lease"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states(leases: &Leases) -> String {
        leases
            .shards
            .values()
            .map(|state| match state {
                State::Free => 'f',
                State::Held { .. } => 'h',
                State::Leaving { .. } => 'l',
            })
            .collect()
    }

    #[test]
    fn what_is_more_than_the_fair_share_leaves_and_stays_if_it_is_wanted_again() {
        let now = Instant::now();
        let mut leases = Leases::new("p".into(), "me".into(), 4, Duration::from_secs(5), 0..4, now);
        let until = now + Duration::from_secs(5);
        leases.shards.values_mut().for_each(|state| *state = State::Held { until });
        for (fair, expected) in [(4, "hhhh"), (2, "hhll"), (3, "hhhl"), (1, "hlll"), (9, "hhhh")] {
            leases.share(fair);
            assert_eq!(states(&leases), expected, "{fair}");
        }
        leases.share(3);
        assert!(leases.holds(2, now) && !leases.holds(3, now) && !leases.holds(2, until) && !leases.holds(7, now));
        assert_eq!(leases.expire(until), [0, 1, 2, 3]);
        assert_eq!((states(&leases).as_str(), leases.expire(until)), ("ffff", vec![]));
    }

    /// Whoever took them meanwhile reads their cameras: what is held of those is to be given back.
    #[test]
    fn leases_that_run_out_while_nobody_can_be_asked_are_told_of() {
        let now = Instant::now();
        let nowhere = crate::redis::RedisOptions::new("unix:///nowhere/redis.sock");
        let mut link = Link::new(nowhere).expect("a link");
        let ttl = Duration::from_secs(5);
        let mut leases = Leases::new("p".into(), "me".into(), 2, ttl, 0..2, now);
        leases.shards.values_mut().for_each(|state| *state = State::Held { until: now + ttl });
        let table: [(Duration, &[u32]); 3] = [(ttl / 2, &[]), (ttl, &[0, 1]), (ttl * 2, &[])];
        for (later, lost) in table {
            let changes = leases.tick(&mut link, now + later, &|_| false);
            assert_eq!((&changes.lost[..], changes.down.is_some()), (lost, true), "{later:?} later");
        }
    }
}
