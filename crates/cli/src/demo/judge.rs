//! The demo's own sink: watches each camera's order, counts, and keeps a sample of results to hold against the truth.
//!
//! Runs on a writer thread. It costs one lock per call and a copy of every so manieth result; the scenes are drawn
//! again and scored only after the run, so that measuring does not disturb what is measured.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use omma_engine::cameras::Camera;
use omma_engine::sink::{Sink, SinkError};
use omma_frame::{Detection, FrameResult, Outcome, Output};
use omma_scenes::{CLASSES, Score, ScoredBox, Scorer, Scratch};
use parking_lot::Mutex;

use crate::cast::Cast;

/// For precision and recall; also the weakest find that the contact sheet shows.
pub const CONFIDENCE: f32 = 0.4;
/// Results kept at most.
const SAMPLES_MAX: usize = 4096;

/// One result as it came out of the pipeline.
#[derive(Clone)]
pub struct Sample {
    pub camera: usize,
    pub sequence: u64,
    pub detections: Vec<Detection>,
}

#[derive(Default)]
pub struct Seen {
    pub samples: Vec<Sample>,
    /// Results of each camera.
    pub published: Vec<u64>,
    /// Results that came after a later one of the same camera, or twice.
    pub out_of_order: u64,
    /// By camera: the sequence number that must be exceeded next.
    next: Vec<u64>,
}

pub struct Judge {
    seen: Arc<Mutex<Seen>>,
    every: u64,
}

impl Judge {
    /// Keeps the result of every `every`th picture of each camera; cameras take turns.
    pub fn new(cameras: usize, every: u64) -> (Self, Arc<Mutex<Seen>>) {
        let seen = Seen { published: vec![0; cameras], next: vec![0; cameras], ..Seen::default() };
        let seen = Arc::new(Mutex::new(seen));
        (Self { seen: Arc::clone(&seen), every: every.max(1) }, seen)
    }
}

impl Sink for Judge {
    fn publish(&mut self, results: &[FrameResult], _: &[Arc<Camera>]) -> Result<(), SinkError> {
        let mut seen = self.seen.lock();
        for result in results {
            let camera = result.camera.slot();
            if result.sequence < seen.next[camera] {
                seen.out_of_order += 1;
            }
            seen.next[camera] = result.sequence + 1;
            let Outcome::Inferred(Output::Detections(detections)) = &result.outcome else { continue };
            seen.published[camera] += 1;
            let turn = (result.sequence + camera as u64).is_multiple_of(self.every);
            if turn && seen.samples.len() < SAMPLES_MAX {
                seen.samples.push(Sample { camera, sequence: result.sequence, detections: detections.clone() });
            }
        }
        Ok(())
    }
}

/// Draws the scenes of the samples again, on `threads` threads, and scores the results against what is in them.
pub fn score(cast: &Cast, samples: &[Sample], threads: usize) -> Score {
    let next = AtomicUsize::new(0);
    let truths = Mutex::new(vec![None; samples.len()]);
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                let (mut scratch, mut rgb) = (Scratch::default(), cast.blank());
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(sample) = samples.get(at) else { return };
                    if let Ok(found) = cast.draw(sample.camera, sample.sequence, &mut scratch, &mut rgb) {
                        truths.lock()[at] = Some(found.to_vec());
                    }
                }
            });
        }
    });
    let mut scorer = Scorer::new(CLASSES).at_confidence(CONFIDENCE);
    for (sample, truths) in samples.iter().zip(truths.into_inner()) {
        let boxes: Vec<ScoredBox> = sample.detections.iter().map(scored).collect();
        if let Some(truths) = truths {
            scorer.add(&truths, &boxes);
        }
    }
    scorer.finish()
}

fn scored(found: &Detection) -> ScoredBox {
    let Detection { class, score, x1, y1, x2, y2 } = *found;
    ScoredBox { class: u8::try_from(class).unwrap_or(u8::MAX), score, x1, y1, x2, y2 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use omma_frame::{CameraIndex, ServedBy, Size, Timing, Token, UnixNanos};

    fn result(camera: u32, sequence: u64, detections: Vec<Detection>) -> FrameResult {
        FrameResult {
            camera: CameraIndex(camera),
            sequence,
            token: Token(0, 0),
            captured_at: UnixNanos(0),
            size: Size { width: 640, height: 360 },
            served_by: ServedBy::default(),
            timing: Timing::default(),
            outcome: Outcome::Inferred(Output::Detections(detections)),
            name: None,
        }
    }

    #[test]
    fn what_comes_late_or_twice_is_noticed_and_gaps_are_not() {
        for (sequences, out_of_order) in
            [(&[0, 1, 2][..], 0), (&[0, 5, 9], 0), (&[0, 2, 1], 1), (&[3, 3], 1), (&[2, 1, 0], 2)]
        {
            let (mut judge, seen) = Judge::new(2, 1);
            let results: Vec<_> = sequences.iter().map(|&sequence| result(1, sequence, vec![])).collect();
            judge.publish(&results, &[]).unwrap();
            let seen = seen.lock();
            assert_eq!(seen.out_of_order, out_of_order, "{sequences:?}");
            assert_eq!(seen.published, [0, sequences.len() as u64]);
        }
    }

    #[test]
    fn the_truth_itself_scores_full_marks_and_silence_none() {
        let cast = Cast::new(7, 3, Size { width: 320, height: 180 }, 2);
        let (mut scratch, mut rgb) = (Scratch::default(), cast.blank());
        let mut samples = Vec::new();
        for (camera, sequence) in (0..3).flat_map(|camera| [(camera, 10), (camera, 60), (camera, 110)]) {
            let truths = cast.draw(camera, sequence, &mut scratch, &mut rgb).unwrap();
            let detections = truths
                .iter()
                .map(|t| Detection { class: t.class.into(), score: 0.9, x1: t.x1, y1: t.y1, x2: t.x2, y2: t.y2 })
                .collect();
            samples.push(Sample { camera, sequence, detections });
        }
        let full = score(&cast, &samples, 2);
        assert!(full.truths > 5, "the scenes are not empty");
        assert_eq!((full.pictures, full.map50, full.recall), (9, 1.0, 1.0));
        samples.iter_mut().for_each(|sample| sample.detections.clear());
        assert_eq!(score(&cast, &samples, 1).map50, 0.0);
    }
}
