//! Commands in the form in which they are sent, each with the place in a cluster that it is meant for.

use redis::Cmd;

/// Where in a cluster a command goes. A single server takes all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The master of this slot.
    Slot(u16),
    /// The n-th of the masters, see [`super::Link::masters`].
    Master(usize),
    /// Any node.
    Any,
}

/// Commands that are sent together; one buffer for all of them.
#[derive(Default)]
pub struct Commands {
    bytes: Vec<u8>,
    /// Where each ends, and where it goes.
    ends: Vec<(usize, Place)>,
}

impl Commands {
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Begins a command of `count` arguments, its name among them; exactly as many calls of [`Commands::arg`] follow.
    pub fn begin(&mut self, place: Place, count: usize) -> &mut Self {
        self.ends.push((self.bytes.len(), place));
        self.head(b'*', count as u64);
        self.ended()
    }

    pub fn arg(&mut self, bytes: &[u8]) -> &mut Self {
        self.head(b'$', bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
        self.bytes.extend_from_slice(b"\r\n");
        self.ended()
    }

    pub fn number(&mut self, number: u64) -> &mut Self {
        let mut digits = [0; 20];
        self.arg(decimal(number, &mut digits))
    }

    /// `1700000000000-7`, as streams name their entries.
    pub fn entry_id(&mut self, (ms, seq): (u64, u64)) -> &mut Self {
        let (mut id, mut digits) = ([0; 41], [0; 20]);
        let first = decimal(ms, &mut digits);
        let dash = first.len();
        id[..dash].copy_from_slice(first);
        id[dash] = b'-';
        let second = decimal(seq, &mut digits);
        let end = dash + 1 + second.len();
        id[dash + 1..end].copy_from_slice(second);
        self.arg(&id[..end])
    }

    /// A command with these arguments.
    pub fn push(&mut self, place: Place, arguments: &[&[u8]]) {
        self.begin(place, arguments.len());
        arguments.iter().for_each(|argument| {
            self.arg(argument);
        });
    }

    /// A command of the crate `redis`.
    pub fn push_cmd(&mut self, place: Place, cmd: &Cmd) {
        self.ends.push((self.bytes.len(), place));
        cmd.write_packed_command(&mut self.bytes);
        self.ended();
    }

    fn head(&mut self, kind: u8, number: u64) {
        let mut digits = [0; 20];
        self.bytes.push(kind);
        self.bytes.extend_from_slice(decimal(number, &mut digits));
        self.bytes.extend_from_slice(b"\r\n");
    }

    fn ended(&mut self) -> &mut Self {
        let end = self.bytes.len();
        if let Some(last) = self.ends.last_mut() {
            last.0 = end;
        }
        self
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn command(&self, number: usize) -> (&[u8], Place) {
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before].0);
        let (end, place) = self.ends[number];
        (&self.bytes[start..end], place)
    }
}

fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[at..];
        }
    }
}

/// A cluster's slots.
pub const SLOTS: usize = 16_384;

/// Which of a cluster's slots a key belongs to: CRC-16 (XMODEM) of the key, or of what stands in its first braces.
#[must_use]
pub fn slot_of(key: &[u8]) -> u16 {
    let tag = key.iter().position(|&byte| byte == b'{').and_then(|open| {
        let inner = &key[open + 1..];
        let close = inner.iter().position(|&byte| byte == b'}')?;
        (close > 0).then(|| &inner[..close])
    });
    let crc = tag.unwrap_or(key).iter().fold(0_u16, |crc, &byte| {
        (0..8).fold(crc ^ u16::from(byte) << 8, |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 })
    });
    crc % SLOTS as u16
}

/// Where a command of the crate `redis` goes: to its first key, where that command has one.
pub(super) fn place_of(cmd: &Cmd) -> Place {
    let arguments: Vec<&[u8]> = cmd
        .args_iter()
        .map(|argument| match argument {
            redis::Arg::Simple(bytes) => bytes,
            _ => &[][..],
        })
        .collect();
    let name = arguments.first().map(|name| name.to_ascii_uppercase()).unwrap_or_default();
    let key = match &name[..] {
        b"XREAD" | b"XREADGROUP" => {
            let streams = arguments.iter().position(|argument| argument.eq_ignore_ascii_case(b"STREAMS"));
            streams.and_then(|at| arguments.get(at + 1))
        }
        b"XGROUP" | b"XINFO" | b"OBJECT" | b"MEMORY" => arguments.get(2),
        b"EVAL" | b"EVALSHA" | b"FCALL" => arguments.get(3),
        b"PING" | b"INFO" | b"CONFIG" | b"CLUSTER" | b"CLIENT" | b"SCRIPT" | b"TIME" | b"SCAN" | b"DBSIZE"
        | b"COMMAND" | b"FLUSHALL" | b"ACL" => None,
        _ => arguments.get(1),
    };
    key.map_or(Place::Any, |key| Place::Slot(slot_of(key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first is the check value of CRC-16/XMODEM; the others were given by `CLUSTER KEYSLOT` of a Redis 7.0.
    #[test]
    fn slots_are_those_of_the_server() {
        let table = [
            ("123456789", 0x31C3),
            ("foo", 12_182),
            ("{user1000}.following", slot_of(b"user1000")),
            ("foo{}{bar}", slot_of(b"foo{}{bar}")),
            ("foo{{bar}}zap", slot_of(b"{bar")),
            ("omma:frames:{s07}:cam-0001", slot_of(b"s07")),
        ];
        for (key, slot) in table {
            assert_eq!(slot_of(key.as_bytes()), slot, "{key}");
        }
        assert_ne!(slot_of(b"foo{}{bar}"), slot_of(b"bar"), "empty braces are no tag");
    }

    #[test]
    fn commands_are_sent_as_redis_takes_them() {
        let mut commands = Commands::default();
        commands.begin(Place::Slot(3), 3).arg(b"XACK").number(0).entry_id((u64::MAX, 10));
        commands.push(Place::Any, &[b"PING"]);
        assert_eq!(
            commands.bytes(),
            b"*3\r\n$4\r\nXACK\r\n$1\r\n0\r\n$23\r\n18446744073709551615-10\r\n*1\r\n$4\r\nPING\r\n"
        );
        assert_eq!(commands.command(1), (&b"*1\r\n$4\r\nPING\r\n"[..], Place::Any));
        assert_eq!(commands.command(0).1, Place::Slot(3));
    }

    #[test]
    fn commands_go_to_their_first_key() {
        let slot = Place::Slot(slot_of(b"k"));
        let table = [
            (vec!["XADD", "k", "*", "a", "b"], slot),
            (vec!["xreadgroup", "GROUP", "g", "c", "streams", "k", ">"], slot),
            (vec!["XGROUP", "CREATE", "k", "g", "0"], slot),
            (vec!["EVAL", "return 1", "1", "k"], slot),
            (vec!["PING"], Place::Any),
        ];
        for (words, place) in table {
            let mut cmd = Cmd::new();
            words.iter().for_each(|word| {
                cmd.arg(*word);
            });
            assert_eq!(place_of(&cmd), place, "{words:?}");
        }
    }
}
