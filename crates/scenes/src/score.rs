//! How good detections are: precision, recall and mean average precision against truths.
//!
//! Definition, in full, since figures under this name differ by it:
//! - A detection may match a truth of its class and picture that it overlaps with an IoU of at
//!   least 0.5. Detections of a picture choose in the order of their scores (equal ones in the
//!   order given), each the free truth it overlaps most; every truth is matched at most once.
//! - Ignored truths are not demanded. A detection that matched nothing and lies to at least
//!   half of its own area on an ignored truth of its class is dropped: neither right nor wrong.
//! - Over all pictures, detections of a class are ranked by score, equal ones counted as one
//!   step. The class's AP is the area under precision over recall, where precision at a recall
//!   is the best at that recall or any higher (all-point interpolation).
//! - mAP@0.5 is the mean AP of the classes that have truths.
//!
//! A scorer keeps 5 bytes a detection (8 with padding) until it is finished, and nothing of
//! the pictures.

use crate::scene::Truth;

/// Least overlap (IoU) of a match, and least share of a detection on an ignored truth.
const OVERLAP: f32 = 0.5;

/// A detection in pixels of the picture, corners in order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoredBox {
    pub class: u8,
    pub score: f32,
    pub x1: f32,
    pub y1: f32,
    pub x2: f32,
    pub y2: f32,
}

/// The result for one class.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassScore {
    pub name: String,
    /// Truths that were demanded, ignored ones not among them.
    pub truths: u64,
    /// None where there was no truth to find.
    pub ap50: Option<f64>,
    /// At the scorer's confidence.
    pub precision: f64,
    pub recall: f64,
}

/// The result over all pictures.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    pub pictures: u64,
    pub truths: u64,
    pub detections: u64,
    /// Detections that are no boxes: a class unknown, a number not finite, corners swapped.
    /// They count as nothing else.
    pub rejected: u64,
    /// 0 where no class has truths.
    pub map50: f64,
    /// Confidence from which detections count for precision and recall.
    pub confidence: f32,
    /// Over all classes together; 0 where nothing was detected.
    pub precision: f64,
    /// Over all classes together; 0 where there was nothing to find.
    pub recall: f64,
    pub per_class: Vec<ClassScore>,
}

#[derive(Default)]
struct Class {
    name: String,
    truths: u64,
    /// Score, and whether it matched; dropped ones are not kept.
    found: Vec<(f32, bool)>,
}

/// Accumulates pictures and tells the score at the end.
pub struct Scorer {
    classes: Vec<Class>,
    confidence: f32,
    pictures: u64,
    detections: u64,
    rejected: u64,
    order: Vec<u32>,
    taken: Vec<bool>,
}

impl Scorer {
    /// A scorer for these classes, whose precision and recall are told at a confidence of 0.5.
    pub fn new<S: Into<String>>(class_names: impl IntoIterator<Item = S>) -> Self {
        let class = |name: S| Class { name: name.into(), ..Class::default() };
        Self {
            classes: class_names.into_iter().map(class).collect(),
            confidence: 0.5,
            pictures: 0,
            detections: 0,
            rejected: 0,
            order: Vec::new(),
            taken: Vec::new(),
        }
    }

    /// Tells precision and recall at another confidence; average precision does not depend on it.
    pub fn at_confidence(mut self, confidence: f32) -> Self {
        self.confidence = confidence;
        self
    }

    /// Adds a picture: all that was to be found in it and all that was.
    /// Truths of classes the scorer does not know are passed over.
    pub fn add(&mut self, truths: &[Truth], detections: &[ScoredBox]) {
        self.pictures += 1;
        self.detections += detections.len() as u64;
        for truth in truths.iter().filter(|truth| !truth.ignore) {
            if let Some(class) = self.classes.get_mut(usize::from(truth.class)) {
                class.truths += 1;
            }
        }
        self.order.clear();
        for (i, detection) in (0u32..).zip(detections) {
            if usize::from(detection.class) < self.classes.len() && is_box(detection) {
                self.order.push(i);
            } else {
                self.rejected += 1;
            }
        }
        // A stable sort: equal scores stay in the order given.
        self.order.sort_by(|a, b| {
            let score = |i: &u32| detections[*i as usize].score;
            score(b).total_cmp(&score(a))
        });
        self.taken.clear();
        self.taken.resize(truths.len(), false);
        for i in &self.order {
            let detection = &detections[*i as usize];
            let matched = best_free(truths, &self.taken, detection);
            if let Some(truth) = matched {
                self.taken[truth] = true;
            } else if excused(truths, detection) {
                continue;
            }
            self.classes[usize::from(detection.class)].found.push((detection.score, matched.is_some()));
        }
    }

    pub fn finish(self) -> Score {
        let confidence = self.confidence;
        let (mut right, mut told, mut truths) = (0, 0, 0);
        let mut per_class = Vec::with_capacity(self.classes.len());
        for mut class in self.classes {
            let (hits, claims) = at(&class.found, confidence);
            right += hits;
            told += claims;
            truths += class.truths;
            class.found.sort_by(|a, b| b.0.total_cmp(&a.0));
            per_class.push(ClassScore {
                name: class.name,
                truths: class.truths,
                ap50: (class.truths > 0).then(|| average_precision(&class.found, class.truths)),
                precision: share(hits, claims),
                recall: share(hits, class.truths),
            });
        }
        let aps: Vec<f64> = per_class.iter().filter_map(|class| class.ap50).collect();
        Score {
            pictures: self.pictures,
            truths,
            detections: self.detections,
            rejected: self.rejected,
            map50: aps.iter().sum::<f64>() / aps.len().max(1) as f64,
            confidence,
            precision: share(right, told),
            recall: share(right, truths),
            per_class,
        }
    }
}

/// Matches and detections from a confidence on.
fn at(found: &[(f32, bool)], confidence: f32) -> (u64, u64) {
    found
        .iter()
        .filter(|(score, _)| *score >= confidence)
        .fold((0, 0), |(hits, claims), (_, hit)| (hits + u64::from(*hit), claims + 1))
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Area under the interpolated curve; `found` is sorted, best first.
fn average_precision(found: &[(f32, bool)], truths: u64) -> f64 {
    let mut curve: Vec<(f64, f64)> = Vec::new();
    let (mut hits, mut claims) = (0, 0);
    for step in found.chunk_by(|a, b| a.0 == b.0) {
        hits += step.iter().filter(|(_, hit)| *hit).count() as u64;
        claims += step.len() as u64;
        curve.push((share(hits, truths), share(hits, claims)));
    }
    // From the end backwards, the best precision so far is that of the recalls below.
    let (mut area, mut best) = (0.0, 0.0f64);
    for (i, (recall, precision)) in curve.iter().enumerate().rev() {
        best = best.max(*precision);
        let before = if i == 0 { 0.0 } else { curve[i - 1].0 };
        area += (recall - before) * best;
    }
    area
}

fn is_box(b: &ScoredBox) -> bool {
    [b.score, b.x1, b.y1, b.x2, b.y2].iter().all(|v| v.is_finite()) && b.x1 <= b.x2 && b.y1 <= b.y2
}

/// The truth of its class that a detection overlaps most and nothing has matched yet.
fn best_free(truths: &[Truth], taken: &[bool], detection: &ScoredBox) -> Option<usize> {
    let mut best = None;
    let mut most = OVERLAP;
    for (i, truth) in truths.iter().enumerate() {
        if truth.ignore || taken[i] || truth.class != detection.class {
            continue;
        }
        let shared = shared(truth, detection);
        let union = area(truth.x1, truth.y1, truth.x2, truth.y2) + area_of(detection) - shared;
        let iou = if union > 0.0 { shared / union } else { 0.0 };
        if iou > most || (iou == most && best.is_none()) {
            most = iou;
            best = Some(i);
        }
    }
    best
}

fn excused(truths: &[Truth], detection: &ScoredBox) -> bool {
    truths.iter().any(|truth| {
        truth.ignore && truth.class == detection.class && shared(truth, detection) >= OVERLAP * area_of(detection)
    })
}

fn shared(t: &Truth, d: &ScoredBox) -> f32 {
    area(t.x1.max(d.x1), t.y1.max(d.y1), t.x2.min(d.x2), t.y2.min(d.y2))
}

fn area(x1: f32, y1: f32, x2: f32, y2: f32) -> f32 {
    (x2 - x1).max(0.0) * (y2 - y1).max(0.0)
}

fn area_of(d: &ScoredBox) -> f32 {
    area(d.x1, d.y1, d.x2, d.y2)
}
