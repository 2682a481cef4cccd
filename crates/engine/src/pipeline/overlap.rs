//! When the next request leaves for a server that is busy: as long before the answer to the last one as its way takes.
//!
//! A server that is sent its next batch once it has answered stands idle for the way there and back. One that is sent it
//! earlier does not; but the frames that come meanwhile miss the batch. How early is early enough shows in what it gains:
//! the time by which its answer follows the last one sooner than it would have if it had been sent then. As long as all of
//! it is gained there is more to gain; what is not gained was too much.
//!
//! How long a batch takes that finds the server idle is learned by size, of those that did. Where none would, every so many
//! are left to. Pure: times go in, a time comes out. Costs a look through the few requests under way.

use std::time::Duration;

use omma_frame::Mono;

/// The parts of a batch's own time by which the next one may leave early: at most, at first, and at least.
const EARLY_DIVISORS: [u32; 3] = [4, 16, 64];
/// The part of a batch's own time that need not be gained. Answers come a little sooner or later than expected; to be too
/// late costs the server that time, to be too early costs those who come meanwhile a batch, and they are few.
const SLACK_DIVISOR: u32 = 32;
/// What one batch says of those to come; one that took very much less tells that the others had met something.
const WEIGHT: u32 = 8;
const WEIGHT_QUICKER: u32 = 2;
/// One in so many batches is sent to an idle server.
const UNTIL_PROBE: u32 = 32;

/// The requests under way to one model's servers, which run `useful` of them at a time.
pub(super) struct Overlap {
    useful: usize,
    out: Vec<Sent>,
    /// What a batch takes from its leaving to its answer if nothing is before it, by its frames.
    alone: Vec<Option<Duration>>,
    /// `None`: nothing was learned of it.
    early: Option<Duration>,
    /// Batches in a row that did not find the server idle.
    since_probe: u32,
}

struct Sent {
    at: Mono,
    frames: usize,
    /// Where it was sent behind others.
    behind: Option<Behind>,
}

#[derive(Clone, Copy)]
struct Behind {
    /// When the first answer after it came.
    answered: Option<Mono>,
}

/// When a batch is to leave, and when the answer that it leaves before is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Next {
    pub at: Mono,
    pub back: Mono,
}

impl Overlap {
    pub(super) fn new(useful: usize) -> Self {
        Self { useful, out: Vec::new(), alone: Vec::new(), early: None, since_probe: 0 }
    }

    /// A batch leaves.
    pub(super) fn sent(&mut self, at: Mono, frames: usize) {
        let busy = self.out.len() >= self.useful;
        self.since_probe = if busy { self.since_probe.saturating_add(1) } else { 0 };
        self.out.push(Sent { at, frames, behind: busy.then_some(Behind { answered: None }) });
    }

    /// The batch that left at that time has been answered, or given up.
    pub(super) fn ended(&mut self, at: Mono, now: Mono, well: bool) {
        let Some(place) = self.out.iter().position(|sent| sent.at == at) else { return };
        let ended = self.out.swap_remove(place);
        for behind in self.out.iter_mut().filter_map(|sent| sent.behind.as_mut()) {
            behind.answered.get_or_insert(now);
        }
        if !well {
            return;
        }
        match ended.behind {
            None => self.learn_alone(ended.frames, now.since(at)),
            Some(Behind { answered: Some(before) }) => {
                self.learn_early(ended.frames, before.since(at), now.since(before));
            }
            // It has overtaken what it was sent behind.
            Some(Behind { answered: None }) => {}
        }
    }

    fn learn_alone(&mut self, frames: usize, took: Duration) {
        if self.alone.len() <= frames {
            self.alone.resize(frames + 1, None);
        }
        let known = &mut self.alone[frames];
        *known = Some(known.map_or(took, |known| {
            let weight = if took < known * 3 / 4 { WEIGHT_QUICKER } else { WEIGHT };
            (known * (weight - 1) + took.min(known * 2)) / weight
        }));
    }

    /// A batch left `early` before an answer, and its own came `after` it.
    fn learn_early(&mut self, frames: usize, early: Duration, after: Duration) {
        let Some(alone) = self.alone.get(frames).copied().flatten() else { return };
        if after > alone {
            // The server has become slower.
            self.learn_alone(frames, after);
        }
        let (gained, meant) = (alone.saturating_sub(after), self.early(alone));
        let in_vain = early.saturating_sub(gained + alone / SLACK_DIVISOR);
        let learned = if !in_vain.is_zero() {
            meant.saturating_sub(in_vain / WEIGHT)
        } else if early >= meant / 2 {
            meant + meant / WEIGHT
        } else {
            // It left later than was meant, and says nothing of more.
            meant
        };
        let [most, _, least] = EARLY_DIVISORS.map(|divisor| alone / divisor);
        self.early = Some(learned.clamp(least, most));
    }

    /// How long before an answer to batches that take so long alone the next one leaves.
    fn early(&self, alone: Duration) -> Duration {
        self.early.unwrap_or(alone / EARLY_DIVISORS[1])
    }

    /// When a batch should leave, if each of the server's places is taken by one and none waits behind them.
    pub(super) fn next(&self) -> Option<Next> {
        if self.out.len() != self.useful || self.since_probe >= UNTIL_PROBE {
            return None;
        }
        self.out.iter().filter_map(|sent| self.after(sent)).min_by_key(|next| next.back)
    }

    /// What should leave before the answer to this one.
    fn after(&self, sent: &Sent) -> Option<Next> {
        let alone = self.usual(sent.frames)?;
        let early = self.early(alone);
        let (from, takes) = match sent.behind {
            None => (sent.at, alone),
            Some(Behind { answered }) => {
                let before = answered?;
                (before, alone.saturating_sub(early.min(before.since(sent.at))))
            }
        };
        Some(Next { at: from.plus(takes.saturating_sub(early)), back: from.plus(takes) })
    }

    /// What so many frames take alone, or the nearest number of which that is known.
    fn usual(&self, frames: usize) -> Option<Duration> {
        let known = self.alone.iter().enumerate().filter_map(|(of, took)| Some((of, (*took)?)));
        known.min_by_key(|(of, _)| of.abs_diff(frames)).map(|(_, took)| took)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: u64 = 1000;

    /// A server that takes `service` for a batch, and its ways there and back, which are one `way` together.
    struct Server {
        service: u64,
        way: u64,
        free_at: u64,
    }

    impl Server {
        fn answers(&mut self, sent: u64) -> u64 {
            let began = self.free_at.max(sent + self.way / 2);
            self.free_at = began + self.service;
            self.free_at + self.way / 2
        }
    }

    /// Sends batches of one frame, each as soon as it is worth it; the mean time between answers of the last half.
    fn pace(overlap: &mut Overlap, server: &mut Server, batches: usize, from: u64) -> u64 {
        let (mut now, mut answers) = (from, Vec::new());
        let mut under_way: Vec<(u64, u64)> = Vec::new();
        while answers.len() < batches {
            let next = match under_way.len() {
                0 => Some(now),
                1 => overlap.next().map(|next| next.at.0.max(now)),
                _ => None,
            };
            let first = under_way.iter().map(|(_, back)| *back).min();
            match (next, first) {
                (Some(next), back) if back.is_none_or(|back| next < back) => {
                    now = next;
                    overlap.sent(Mono(now), 1);
                    under_way.push((now, server.answers(now)));
                }
                (_, Some(back)) => {
                    let at = under_way.iter().position(|sent| sent.1 == back).expect("it is under way");
                    let (sent, _) = under_way.remove(at);
                    overlap.ended(Mono(sent), Mono(back), true);
                    answers.push(back);
                    now = back;
                }
                (_, None) => unreachable!("something is under way"),
            }
        }
        for (sent, back) in under_way {
            overlap.ended(Mono(sent), Mono(back), true);
        }
        let half = &answers[batches / 2..];
        (half[half.len() - 1] - half[0]) / (half.len() as u64 - 1)
    }

    #[test]
    fn the_way_is_hidden_and_little_more_than_it() {
        for (service, way) in [(8500, 1500), (8500, 300), (2000, 400), (100_000, 5000), (500, 100)] {
            let (mut overlap, mut server) =
                (Overlap::new(1), Server { service: service * US, way: way * US, free_at: 0 });
            let pace = pace(&mut overlap, &mut server, 2000, 1);
            // One batch in 32 is a probe and pays for the way.
            let most = service * US + way * US / 16 + 50 * US;
            assert!(pace <= most, "{service} us and {way} us of way: one in {pace} ns, expected at most {most}");
            let early = overlap.early.expect("learned").as_micros() as u64;
            assert!(early <= way * 5 / 4 + service / 16, "{way} us of way, {early} us early");
        }
    }

    #[test]
    fn a_server_that_becomes_slower_or_quicker_is_followed() {
        let (mut overlap, mut server) = (Overlap::new(1), Server { service: 8000 * US, way: 1000 * US, free_at: 0 });
        let mut from = 1;
        for service in [8000, 16_000, 4000, 9000] {
            server.service = service * US;
            from = from.max(server.free_at + server.way);
            let pace = pace(&mut overlap, &mut server, 4000, from);
            from = server.free_at + server.way;
            assert!(pace <= (service + 200) * US, "{service} us: one in {pace} ns");
            let early = overlap.early.expect("learned").as_micros();
            assert!(early <= 1400, "{service} us: {early} us early");
        }
    }

    #[test]
    fn nothing_is_expected_of_what_is_not_known() {
        let mut overlap = Overlap::new(1);
        assert_eq!(overlap.next(), None, "the server is idle");
        overlap.sent(Mono(1000), 4);
        assert_eq!(overlap.next(), None, "nobody knows how long it takes");
        overlap.ended(Mono(1000), Mono(9000), false);
        overlap.sent(Mono(10_000), 4);
        assert_eq!(overlap.next(), None, "a failure says nothing");
        overlap.ended(Mono(10_000), Mono(10_000 + 8_000_000), true);
        overlap.sent(Mono(20_000_000), 3);
        let back = Mono(28_000_000);
        assert_eq!(overlap.next(), Some(Next { at: Mono(back.0 - 500_000), back }), "a sixteenth before it");
        overlap.sent(Mono(21_000_000), 1);
        assert_eq!(overlap.next(), None, "one waits behind it already");
    }
}
