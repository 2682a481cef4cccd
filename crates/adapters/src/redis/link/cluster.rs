//! A Redis Cluster: which node has which slot, a connection to each node that is needed, and what to do when slots move.
//!
//! Each command goes to the master of its slot, all nodes work at once, and a node that is away costs its own commands
//! only. A command that has moved was not done, so it is sent again, a few times. A node that was lost is left alone for a
//! multiple of what finding that out has cost: one that hangs takes little of the time that is the others'.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use redis::Value;

use super::commands::{Commands, Place, SLOTS};
use super::node::Node;
use super::reply::ReplyError;
use super::{Answer, Hear, LinkError, refusal_of};
use crate::redis::options::{Address, RedisOptions};

/// How often a command that has moved is sent after its slot.
const ROUNDS_MAX: usize = 4;
/// Masters that a map may name; Redis recommends at most 1000 nodes.
const NODES_MAX: usize = 2048;

/// A lost node is left alone for so many times as long as it was waited for, within these bounds.
const LEFT_ALONE: u32 = 4;
const LEFT_ALONE_MIN: Duration = Duration::from_millis(250);
const LEFT_ALONE_MAX: Duration = Duration::from_secs(10);

/// The address of a node as the map names it.
type Name = (String, u16);

#[derive(Default)]
pub(super) struct Cluster {
    /// Empty: not known.
    masters: Vec<Name>,
    /// By slot the place among the masters; `u16::MAX`: nobody has it.
    owners: Vec<u16>,
    nodes: BTreeMap<Name, Node>,
    /// Until when nodes that were lost are not tried.
    left_alone: BTreeMap<Name, Instant>,
    stale: bool,
}

/// A command that is still to be heard of.
struct Pending {
    number: usize,
    /// A node that was named by ASK: only this once.
    asked: Option<Name>,
}

impl Cluster {
    pub fn hang_up(&mut self) {
        self.nodes.clear();
        self.stale = true;
    }

    pub fn masters(&mut self, seed: &Address, options: &RedisOptions) -> Result<usize, LinkError> {
        self.learn(seed, options)?;
        Ok(self.masters.len())
    }

    /// By slot the place of its master; `u16::MAX`: nobody has it.
    pub fn owners(&mut self, seed: &Address, options: &RedisOptions) -> Result<Vec<u16>, LinkError> {
        self.learn(seed, options)?;
        Ok(self.owners.clone())
    }

    /// Asks a node for the map, if it is not known or known to be old: one that is connected, or the one of the URL.
    fn learn(&mut self, seed: &Address, options: &RedisOptions) -> Result<(), LinkError> {
        if !self.masters.is_empty() && !self.stale {
            return Ok(());
        }
        let mut known: Vec<Name> = self.nodes.keys().cloned().collect();
        known.extend(self.masters.iter().filter(|name| !self.nodes.contains_key(name)).cloned());
        let mut why = None;
        // The URL's node first: it is what the user can change by changing where a name leads.
        let candidates = std::iter::once(seed.clone()).chain(known.iter().map(|name| address_of(name, seed)));
        for address in candidates.take(16) {
            if let Some(error) = self.leaves_alone(&address) {
                why = Some(error);
                continue;
            }
            let begun = Instant::now();
            match ask_for_map(&address, options) {
                Ok((masters, owners)) => {
                    self.nodes.retain(|name, _| masters.contains(name));
                    self.left_alone.retain(|name, _| masters.contains(name));
                    (self.masters, self.owners, self.stale) = (masters, owners, false);
                    return Ok(());
                }
                Err(error) => {
                    self.leave_alone(&address, begun);
                    why = Some(error);
                }
            }
        }
        Err(why.unwrap_or_else(|| LinkError::lost(seed, "no node of the cluster is known")))
    }

    /// A node was not to be had, as was found out since `begun`.
    fn leave_alone(&mut self, address: &Address, begun: Instant) {
        let pause = (begun.elapsed() * LEFT_ALONE).clamp(LEFT_ALONE_MIN, LEFT_ALONE_MAX);
        if let Address::Tcp { host, port, .. } = address {
            self.left_alone.insert((host.clone(), *port), Instant::now() + pause);
        }
    }

    fn leaves_alone(&self, address: &Address) -> Option<LinkError> {
        let Address::Tcp { host, port, .. } = address else { return None };
        let until = self.left_alone.get(&(host.clone(), *port)).filter(|until| Instant::now() < **until)?;
        let pause = until.saturating_duration_since(Instant::now());
        Some(LinkError::lost(address, &format!("was lost, and is tried again in {} ms", pause.as_millis())))
    }

    fn node_of(&self, place: Place) -> Option<Name> {
        let master = match place {
            Place::Slot(slot) => usize::from(*self.owners.get(usize::from(slot))?),
            Place::Master(number) => number,
            Place::Any => 0,
        };
        self.masters.get(master).cloned()
    }

    pub fn exchange(&mut self, seed: &Address, options: &RedisOptions, commands: &Commands, hear: &mut Hear<'_>) {
        let mut pending: Vec<Pending> = (0..commands.len()).map(|number| Pending { number, asked: None }).collect();
        for round in 0.. {
            if pending.is_empty() {
                return;
            }
            let lost = match self.learn(seed, options) {
                Ok(()) if round < ROUNDS_MAX => None,
                Ok(()) => Some(LinkError::lost(seed, "the cluster's slots keep moving")),
                Err(error) => Some(error),
            };
            if let Some(error) = lost {
                for command in pending {
                    let _ = hear(command.number, Answer::Lost(&error));
                }
                return;
            }
            pending = self.round(seed, options, commands, pending, hear);
        }
    }

    /// Sends everything, hears everything; what is left has moved.
    fn round(
        &mut self,
        seed: &Address,
        options: &RedisOptions,
        commands: &Commands,
        pending: Vec<Pending>,
        hear: &mut Hear<'_>,
    ) -> Vec<Pending> {
        let mut by_node: BTreeMap<Name, Vec<Pending>> = BTreeMap::new();
        for command in pending {
            let (_, place) = commands.command(command.number);
            match command.asked.clone().or_else(|| self.node_of(place)) {
                Some(name) => by_node.entry(name).or_default().push(command),
                None => {
                    self.stale = true;
                    let error = LinkError::lost(seed, "no node of the cluster has this slot");
                    let _ = hear(command.number, Answer::Lost(&error));
                }
            }
        }
        let mut sent: Vec<(Name, Vec<Pending>, Result<(), LinkError>, Instant)> = Vec::with_capacity(by_node.len());
        for (name, list) in by_node {
            let begun = Instant::now();
            let outcome = self.send(&name, seed, options, commands, &list);
            sent.push((name, list, outcome, begun));
        }
        let mut moved = Vec::new();
        for (name, list, outcome, begun) in sent {
            let lost = match outcome {
                Ok(()) => self.hear_node(&name, seed, list, &mut moved, hear),
                Err(error) => Some((error, list)),
            };
            if let Some((error, list)) = lost {
                // Another node may be master by now.
                let address = address_of(&name, seed);
                if self.nodes.remove(&name).is_some() || self.leaves_alone(&address).is_none() {
                    self.leave_alone(&address, begun);
                }
                self.stale = true;
                for command in list {
                    let _ = hear(command.number, Answer::Lost(&error));
                }
            }
        }
        moved
    }

    fn send(
        &mut self,
        name: &Name,
        seed: &Address,
        options: &RedisOptions,
        commands: &Commands,
        list: &[Pending],
    ) -> Result<(), LinkError> {
        let address = address_of(name, seed);
        if let Some(error) = self.leaves_alone(&address) {
            return Err(error);
        }
        if !self.nodes.contains_key(name) {
            self.nodes.insert(name.clone(), Node::connect(&address, 0, options)?);
        }
        let Some(node) = self.nodes.get_mut(name) else { return Err(LinkError::lost(&address, "not connected")) };
        let mut bytes = Vec::new();
        for command in list {
            if command.asked.is_some() {
                bytes.extend_from_slice(b"*1\r\n$6\r\nASKING\r\n");
            }
            bytes.extend_from_slice(commands.command(command.number).0);
        }
        node.send(&bytes).map_err(|error| LinkError::lost(&address, &error.to_string()))
    }

    /// Returns what was not heard of when the connection was lost.
    fn hear_node(
        &mut self,
        name: &Name,
        seed: &Address,
        list: Vec<Pending>,
        moved: &mut Vec<Pending>,
        hear: &mut Hear<'_>,
    ) -> Option<(LinkError, Vec<Pending>)> {
        let node = self.nodes.get_mut(name)?;
        // Its time begins now: its answer has lain there while another node was waited for.
        node.replies.expect();
        let mut list = list.into_iter();
        while let Some(command) = list.next() {
            let mut read = || -> Result<Option<String>, ReplyError> {
                if command.asked.is_some() {
                    node.replies.skip_piece()?;
                }
                let said = refusal_of(&mut node.replies)?;
                match &said {
                    None => hear(command.number, Answer::Reply(&mut node.replies))?,
                    Some(text) if redirect(text).is_none() => hear(command.number, Answer::Refused(text))?,
                    Some(_) => {}
                }
                Ok(said)
            };
            match read() {
                Ok(said) => match said.as_deref().and_then(redirect) {
                    Some(Redirect::Moved) => {
                        self.stale = true;
                        moved.push(Pending { number: command.number, asked: None });
                    }
                    Some(Redirect::Ask(other)) => moved.push(Pending { number: command.number, asked: Some(other) }),
                    None => {
                        let stale = |text: &str| text.starts_with("CLUSTERDOWN") || text.starts_with("READONLY");
                        self.stale |= said.as_deref().is_some_and(stale);
                    }
                },
                Err(error) => {
                    let rest = std::iter::once(command).chain(list).collect();
                    return Some((LinkError::lost(&address_of(name, seed), &error.to_string()), rest));
                }
            }
        }
        None
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Redirect {
    Moved,
    Ask(Name),
}

/// `MOVED 3999 127.0.0.1:6381`, `ASK 3999 [::1]:6381`.
fn redirect(text: &str) -> Option<Redirect> {
    let mut words = text.split(' ');
    match words.next()? {
        "MOVED" => Some(Redirect::Moved),
        "ASK" => {
            let (host, port) = words.nth(1)?.rsplit_once(':')?;
            Some(Redirect::Ask((host.trim_matches(['[', ']']).to_owned(), port.parse().ok()?)))
        }
        _ => None,
    }
}

/// Nodes are reached as the URL says: with or without TLS.
fn address_of((host, port): &Name, seed: &Address) -> Address {
    let tls = matches!(seed, Address::Tcp { tls: true, .. });
    Address::Tcp { host: host.clone(), port: *port, tls }
}

fn ask_for_map(address: &Address, options: &RedisOptions) -> Result<(Vec<Name>, Vec<u16>), LinkError> {
    let lost = |message: &str| LinkError::lost(address, message);
    let mut node = Node::connect(address, 0, options)?;
    let mut ask = Commands::default();
    ask.push(Place::Any, &[b"CLUSTER", b"SLOTS"]);
    node.send(ask.bytes()).map_err(|error| lost(&error.to_string()))?;
    match node.replies.value().map_err(|error| lost(&error.to_string()))? {
        Value::ServerError(error) => Err(lost(&format!("no cluster: {}", error.details().unwrap_or("refused")))),
        value => read_map(&value, address).ok_or_else(|| lost("a map of slots that cannot be read")),
    }
}

/// The masters, and by slot the place of its master among them.
fn read_map(value: &Value, asked: &Address) -> Option<(Vec<Name>, Vec<u16>)> {
    let Value::Array(ranges) = value else { return None };
    let (mut masters, mut owners): (Vec<Name>, Vec<u16>) = (Vec::new(), vec![u16::MAX; SLOTS]);
    for range in ranges {
        let Value::Array(parts) = range else { return None };
        let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = &parts[..] else { return None };
        let [Value::BulkString(host), Value::Int(port), ..] = &master[..] else { return None };
        let host = match (std::str::from_utf8(host).ok()?, asked) {
            // A node that does not know its own address is the one that was asked.
            ("" | "?", Address::Tcp { host, .. }) => host.clone(),
            (host, _) => host.to_owned(),
        };
        let name = (host, u16::try_from(*port).ok()?);
        let place = masters.iter().position(|known| *known == name).unwrap_or_else(|| {
            masters.push(name);
            masters.len() - 1
        });
        if place >= NODES_MAX {
            return None;
        }
        let (first, last) = (usize::try_from(*first).ok()?, usize::try_from(*last).ok()?);
        owners.get_mut(first..=last)?.fill(place as u16);
    }
    (!masters.is_empty()).then_some((masters, owners))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(host: &str, port: i64) -> Value {
        Value::Array(vec![Value::BulkString(host.into()), Value::Int(port), Value::BulkString(b"id".to_vec())])
    }

    fn range(first: i64, last: i64, nodes: Vec<Value>) -> Value {
        Value::Array([vec![Value::Int(first), Value::Int(last)], nodes].concat())
    }

    #[test]
    fn the_map_names_each_slots_master() {
        let asked = Address::Tcp { host: "seed".to_owned(), port: 1, tls: false };
        let map = Value::Array(vec![
            range(0, 5460, vec![node("10.0.0.1", 7000), node("10.0.0.9", 7009)]),
            range(5461, 10_922, vec![node("", 7001)]),
            range(10_924, 16_383, vec![node("10.0.0.1", 7000)]),
        ]);
        let (masters, owners) = read_map(&map, &asked).expect("a map");
        assert_eq!(masters, [("10.0.0.1".to_owned(), 7000), ("seed".to_owned(), 7001)]);
        let table = [(0, 0), (5460, 0), (5461, 1), (10_923, u16::MAX), (16_383, 0)];
        table.iter().for_each(|&(slot, owner)| assert_eq!(owners[slot], owner, "{slot}"));
    }

    #[test]
    fn a_map_that_cannot_be_is_refused() {
        let asked = Address::Unix("/x".into());
        for map in [
            Value::Nil,
            Value::Array(vec![]),
            Value::Array(vec![Value::Int(1)]),
            Value::Array(vec![range(0, 16_384, vec![node("h", 1)])]),
            Value::Array(vec![range(5, 2, vec![node("h", 1)])]),
            Value::Array(vec![range(-1, 2, vec![node("h", 1)])]),
            Value::Array(vec![range(0, 2, vec![node("h", 70_000)])]),
            Value::Array(vec![range(0, 2, vec![])]),
        ] {
            assert!(read_map(&map, &asked).is_none(), "{map:?}");
        }
    }

    #[test]
    fn redirections() {
        let table = [
            ("MOVED 3999 127.0.0.1:6381", Some(Redirect::Moved)),
            ("ASK 3999 127.0.0.1:6381", Some(Redirect::Ask(("127.0.0.1".to_owned(), 6381)))),
            ("ASK 1 [::1]:7", Some(Redirect::Ask(("::1".to_owned(), 7)))),
            ("ASK 1 nowhere", None),
            ("NOGROUP no such group", None),
        ];
        table.into_iter().for_each(|(text, expected)| assert_eq!(redirect(text), expected, "{text}"));
    }
}
