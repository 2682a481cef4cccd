//! Whose turn it is to be read: pure.
//!
//! Where not all streams fit into one turn, the next begins exactly where this one ended, so that none waits for longer
//! than a whole round, however the limit and the sizes of the shards go together.

use std::ops::Range;

/// Where the next turn begins.
#[derive(Debug, Default)]
pub(super) struct Rota {
    shard: usize,
    /// Within that shard's list.
    place: usize,
}

/// Streams of one turn.
#[derive(Debug, Default)]
pub(super) struct Turn {
    pub streams: Vec<u32>,
    /// Those of one shard each, as ranges of `streams`.
    pub parts: Vec<Range<usize>>,
    /// Others that are ready had no room.
    pub cut: bool,
}

impl Rota {
    /// The next `limit` streams that are ready, of shards that are held.
    pub fn turn(
        &mut self,
        by_shard: &[Vec<u32>],
        limit: usize,
        held: impl Fn(usize) -> bool,
        ready: impl Fn(u32) -> bool,
    ) -> Turn {
        let mut turn = Turn::default();
        let shards = by_shard.len();
        if shards == 0 {
            return turn;
        }
        let begin = self.shard % shards;
        let from = self.place.min(by_shard[begin].len());
        // The shard at which it begins comes once more at the end, with what lies before that place.
        let whole = |shard: usize| (shard, 0..by_shard[shard].len());
        let ranges = std::iter::once((begin, from..by_shard[begin].len()))
            .chain((begin + 1..shards).chain(0..begin).map(whole))
            .chain(std::iter::once((begin, 0..from)));
        for (shard, range) in ranges.filter(|(shard, _)| held(*shard)) {
            let start = turn.streams.len();
            for place in range {
                let stream = by_shard[shard][place];
                if !ready(stream) {
                    continue;
                }
                if turn.streams.len() >= limit {
                    turn.cut = true;
                    (self.shard, self.place) = (shard, place);
                    break;
                }
                turn.streams.push(stream);
            }
            if turn.streams.len() > start {
                turn.parts.push(start..turn.streams.len());
            }
            if turn.cut {
                break;
            }
        }
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stream_has_its_turn_whatever_the_limit_and_the_shards() {
        for sizes in [vec![5, 5, 5, 5], vec![1, 0, 7, 2], vec![31; 4], vec![9]] {
            let mut next = 0..;
            let by_shard: Vec<Vec<u32>> = sizes.iter().map(|&size| next.by_ref().take(size).collect()).collect();
            let streams: usize = sizes.iter().sum();
            for limit in 1..=streams + 1 {
                let mut rota = Rota::default();
                let mut asked = vec![0; streams];
                let turns = 3 * streams;
                for _ in 0..turns {
                    let turn = rota.turn(&by_shard, limit, |_| true, |_| true);
                    assert_eq!((turn.streams.len(), turn.cut), (limit.min(streams), limit < streams));
                    turn.streams.iter().for_each(|&stream| asked[stream as usize] += 1);
                }
                let (least, most) = (asked.iter().min(), asked.iter().max());
                let apart = most.zip(least).map(|(most, least): (&i32, &i32)| most - least);
                assert!(apart <= Some(1), "{sizes:?}, {limit}: {asked:?}");
            }
        }
    }

    #[test]
    fn parts_are_of_one_shard_and_neither_foreign_nor_unready_streams_are_in_them() {
        let by_shard = [vec![0, 1, 2], vec![3, 4], vec![5, 6, 7]];
        let mut rota = Rota::default();
        let mut turn = |limit| {
            let turn = rota.turn(&by_shard, limit, |shard| shard != 1, |stream| stream != 6);
            turn.parts.iter().map(|part| turn.streams[part.clone()].to_vec()).collect::<Vec<_>>()
        };
        assert_eq!(turn(2), [vec![0, 1]]);
        assert_eq!(turn(4), [vec![2], vec![5, 7], vec![0]]);
        assert_eq!(turn(9), [vec![1, 2], vec![5, 7], vec![0]]);
    }
}
