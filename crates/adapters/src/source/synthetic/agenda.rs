//! Which camera one drawing thread serves next: pure, time is an argument.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use omma_frame::Mono;

use super::super::Keep;
use super::super::pace::Timetable;

/// The cameras of one thread, by when their next picture is due. A step costs one heap operation.
pub(super) struct Agenda {
    entries: Vec<Entry>,
    /// (due, number, entry): of cameras due at the same time, the one that is furthest behind comes first, so that
    /// without a pace all go in turn.
    queue: BinaryHeap<Reverse<(Mono, u64, usize)>>,
    unfinished: usize,
}

struct Entry {
    keep: Keep,
    table: Timetable,
    next: u64,
    end: u64,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Draw this picture, then call [`Agenda::drawn`]; or, if there is no room for it, [`Agenda::wake`] once there is.
    /// Until one of the two, the camera is left alone.
    Draw(Job),
    /// Nothing is due before then.
    Until(Mono),
    /// Every camera waits for room.
    Blocked,
    /// Every camera has ended.
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Job {
    pub entry: usize,
    pub number: u64,
    pub due: Mono,
    /// Older pictures of this live camera that are left out because this one is due as well.
    pub skipped: u64,
}

impl Agenda {
    pub fn new(cameras: impl IntoIterator<Item = (Keep, Timetable)>, frames: Option<u64>) -> Self {
        let end = frames.unwrap_or(u64::MAX);
        let entries: Vec<Entry> =
            cameras.into_iter().map(|(keep, table)| Entry { keep, table, next: 0, end }).collect();
        let mut agenda = Self { queue: BinaryHeap::with_capacity(entries.len()), unfinished: entries.len(), entries };
        (0..agenda.entries.len()).for_each(|entry| agenda.enqueue(entry));
        agenda
    }

    fn enqueue(&mut self, entry: usize) {
        let Entry { next, end, table, .. } = &self.entries[entry];
        if next >= end {
            self.unfinished -= 1;
        } else {
            self.queue.push(Reverse((table.due(*next), *next, entry)));
        }
    }

    pub fn step(&mut self, now: Mono) -> Step {
        let Some(&Reverse((due, number, entry))) = self.queue.peek() else {
            return if self.unfinished == 0 { Step::Done } else { Step::Blocked };
        };
        if due > now {
            return Step::Until(due);
        }
        self.queue.pop();
        let Entry { keep, table, next, end } = &mut self.entries[entry];
        // A live camera does not draw what nobody could see in time: only the newest picture that is due.
        let newest = if *keep == Keep::Newest { table.newest_due(now).unwrap_or(number) } else { number };
        let number = newest.clamp(number, *end - 1);
        let job = Job { entry, number, due: table.due(number), skipped: number - *next };
        *next = number;
        Step::Draw(job)
    }

    /// The picture is in the mailbox; returns whether it was the camera's last.
    pub fn drawn(&mut self, entry: usize) -> bool {
        let before = self.unfinished;
        self.entries[entry].next += 1;
        self.enqueue(entry);
        self.unfinished < before
    }

    /// There is room for the picture that had none.
    pub fn wake(&mut self, entry: usize) {
        self.enqueue(entry);
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::Pace;
    use super::*;

    const MS: u64 = 1_000_000;

    fn agenda(cameras: usize, keep: Keep, frames: Option<u64>) -> Agenda {
        // 10 frames/s, phases spread over the period.
        let table = |i| Timetable::new(Mono(0), Pace::PerSecond(10.0), i as f64 / cameras as f64);
        Agenda::new((0..cameras).map(|i| (keep, table(i))), frames)
    }

    /// Draws whatever is due, without taking any time for it.
    fn draw_all(agenda: &mut Agenda, now: Mono) -> (Vec<(usize, u64, u64)>, Step) {
        let mut jobs = Vec::new();
        loop {
            match agenda.step(now) {
                Step::Draw(job) => {
                    jobs.push((job.entry, job.number, job.skipped));
                    agenda.drawn(job.entry);
                }
                other => return (jobs, other),
            }
        }
    }

    #[test]
    fn phases_spread_the_load_over_the_period() {
        let mut agenda = agenda(4, Keep::All, None);
        let (jobs, step) = draw_all(&mut agenda, Mono(50 * MS));
        assert_eq!(jobs, [(0, 0, 0), (1, 0, 0), (2, 0, 0)]);
        assert_eq!(step, Step::Until(Mono(75 * MS)));
    }

    #[test]
    fn a_live_camera_that_is_behind_draws_the_newest_and_counts_the_rest() {
        let mut agenda = agenda(1, Keep::Newest, None);
        assert_eq!(draw_all(&mut agenda, Mono(520 * MS)), (vec![(0, 5, 5)], Step::Until(Mono(600 * MS))));
    }

    #[test]
    fn a_lossless_camera_that_is_behind_catches_up_in_order() {
        let mut agenda = agenda(1, Keep::All, None);
        assert_eq!(draw_all(&mut agenda, Mono(220 * MS)).0, [(0, 0, 0), (0, 1, 0), (0, 2, 0)]);
    }

    #[test]
    fn every_camera_ends_after_its_frames_even_if_it_slept_through_the_end() {
        for (keep, expect) in [(Keep::All, vec![(0, 0, 0), (0, 1, 0)]), (Keep::Newest, vec![(0, 1, 1)])] {
            assert_eq!(draw_all(&mut agenda(1, keep, Some(2)), Mono(10_000 * MS)), (expect, Step::Done));
        }
        assert_eq!(draw_all(&mut agenda(3, Keep::All, Some(0)), Mono(0)), (vec![], Step::Done));
    }

    #[test]
    fn a_camera_without_room_does_not_delay_the_others() {
        let mut agenda = agenda(2, Keep::All, None);
        assert!(matches!(agenda.step(Mono(60 * MS)), Step::Draw(Job { entry: 0, .. })));
        assert_eq!(draw_all(&mut agenda, Mono(160 * MS)).0, [(1, 0, 0), (1, 1, 0)]);
        agenda.wake(0);
        assert_eq!(draw_all(&mut agenda, Mono(160 * MS)).0, [(0, 0, 0), (0, 1, 0)]);
    }

    #[test]
    fn without_a_pace_all_cameras_go_in_turn() {
        let table = Timetable::new(Mono(0), Pace::Unlimited, 0.0);
        let mut agenda = Agenda::new([(Keep::All, table); 2], Some(2));
        assert_eq!(draw_all(&mut agenda, Mono(0)).0, [(0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 0)]);
    }
}
