//! The score's definition, case by case, and what must hold for any pictures.

use omma_scenes::{ScoredBox, Scorer, Truth};
use proptest::prelude::*;

fn truth(class: u8, x: f32) -> Truth {
    Truth { class, x1: x, y1: 0.0, x2: x + 10.0, y2: 10.0, visible: 1.0, ignore: false, id: 0 }
}

fn ignored(class: u8, x: f32) -> Truth {
    Truth { ignore: true, ..truth(class, x) }
}

fn said(class: u8, score: f32, x: f32) -> ScoredBox {
    ScoredBox { class, score, x1: x, y1: 0.0, x2: x + 10.0, y2: 10.0 }
}

fn scorer() -> Scorer {
    Scorer::new(["a", "b"])
}

/// AP of class 0 from one picture.
fn ap(truths: &[Truth], detections: &[ScoredBox]) -> f64 {
    let mut scorer = scorer();
    scorer.add(truths, detections);
    scorer.finish().per_class[0].ap50.unwrap_or(-1.0)
}

#[test]
fn average_precision_by_hand() {
    let three = [truth(0, 0.0), truth(0, 100.0), truth(0, 200.0)];
    // (what it shows, truths, detections, AP worked out on paper)
    let cases: &[(&str, &[Truth], &[ScoredBox], f64)] = &[
        ("all found", &three, &[said(0, 0.9, 0.0), said(0, 0.8, 100.0), said(0, 0.7, 200.0)], 1.0),
        ("nothing said", &three, &[], 0.0),
        ("one of three found", &three, &[said(0, 0.9, 0.0)], 1.0 / 3.0),
        ("an error ranked last costs nothing", &three[..1], &[said(0, 0.9, 0.0), said(0, 0.1, 50.0)], 1.0),
        ("an error ranked first halves it", &three[..1], &[said(0, 0.1, 0.0), said(0, 0.9, 50.0)], 0.5),
        (
            // Ranked: right (p 1, r 1/3), wrong, right (p 2/3, r 2/3), wrong, right (p 3/5, r 1).
            "right and wrong by turns",
            &three,
            &[said(0, 0.9, 0.0), said(0, 0.8, 50.0), said(0, 0.7, 100.0), said(0, 0.6, 150.0), said(0, 0.5, 200.0)],
            (1.0 + 2.0 / 3.0 + 3.0 / 5.0) / 3.0,
        ),
        (
            // Ranked: wrong, right (p 1/2), right (p 2/3): interpolation lifts the first to 2/3.
            "precision at a recall is the best at any higher",
            &three[..2],
            &[said(0, 0.9, 50.0), said(0, 0.8, 0.0), said(0, 0.7, 100.0)],
            2.0 / 3.0,
        ),
        (
            "the second detection of a thing is wrong",
            &three[..2],
            &[said(0, 0.9, 0.0), said(0, 0.8, 1.0), said(0, 0.7, 100.0)],
            0.5 + 0.5 * 2.0 / 3.0,
        ),
        ("equal scores are one step", &three[..1], &[said(0, 0.9, 50.0), said(0, 0.9, 0.0)], 0.5),
        ("another class is no match", &three[..1], &[said(1, 0.9, 0.0)], 0.0),
        // Shifted by 3 of 10: IoU 7/13 = 0.54; by 4: 6/14 = 0.43.
        ("an overlap of 0.54 matches", &three[..1], &[said(0, 0.9, 3.0)], 1.0),
        ("an overlap of 0.43 does not", &three[..1], &[said(0, 0.9, 4.0)], 0.0),
        ("ignored truths are not demanded", &[truth(0, 0.0), ignored(0, 100.0)], &[said(0, 0.9, 0.0)], 1.0),
        (
            "detections on them are dropped, any number",
            &[truth(0, 0.0), ignored(0, 100.0)],
            &[said(0, 0.9, 100.0), said(0, 0.8, 101.0), said(0, 0.7, 0.0)],
            1.0,
        ),
        ("of their class only", &[truth(0, 0.0), ignored(1, 100.0)], &[said(0, 0.9, 100.0), said(0, 0.7, 0.0)], 0.5),
        ("a demanded truth comes before an ignored", &[ignored(0, 1.0), truth(0, 0.0)], &[said(0, 0.9, 1.0)], 1.0),
    ];
    for (what, truths, detections, want) in cases {
        let got = ap(truths, detections);
        assert!((got - want).abs() < 1e-9, "{what}: {got}, not {want}");
    }
}

#[test]
fn the_better_detection_takes_the_truth_it_overlaps_most() {
    // Both truths are within reach of the better one; it must leave the other for the second.
    let truths = [truth(0, 0.0), truth(0, 2.0)];
    assert_eq!(ap(&truths, &[said(0, 0.9, 2.0), said(0, 0.8, 0.0)]), 1.0);
}

#[test]
fn precision_and_recall_count_from_the_confidence_on() {
    let mut scorer = scorer().at_confidence(0.6);
    scorer.add(
        &[truth(0, 0.0), truth(0, 100.0), truth(1, 200.0), truth(1, 300.0)],
        &[said(0, 0.9, 0.0), said(0, 0.5, 100.0), said(1, 0.6, 200.0), said(1, 0.7, 50.0)],
    );
    let score = scorer.finish();
    assert_eq!((score.precision, score.recall), (2.0 / 3.0, 0.5));
    assert_eq!((score.per_class[0].precision, score.per_class[0].recall), (1.0, 0.5));
    assert_eq!((score.per_class[1].precision, score.per_class[1].recall), (0.5, 0.5));
    assert_eq!((score.pictures, score.truths, score.detections), (1, 4, 4));
}

#[test]
fn classes_without_truths_do_not_dilute_the_mean() {
    let mut scorer = scorer();
    scorer.add(&[truth(0, 0.0)], &[said(0, 0.9, 0.0), said(1, 0.9, 0.0)]);
    let score = scorer.finish();
    assert_eq!(score.map50, 1.0);
    assert_eq!(score.per_class[1].ap50, None);
}

#[test]
fn no_pictures_score_nothing() {
    let score = scorer().finish();
    assert_eq!((score.map50, score.precision, score.recall, score.pictures), (0.0, 0.0, 0.0, 0));
}

#[test]
fn what_is_no_box_is_rejected_and_harms_nothing() {
    let mut scorer = scorer();
    let good = said(0, 0.9, 0.0);
    let bad = [
        ScoredBox { class: 2, ..good },
        ScoredBox { score: f32::NAN, ..good },
        ScoredBox { x1: f32::INFINITY, ..good },
        ScoredBox { x1: 10.0, x2: 0.0, ..good },
        good,
    ];
    scorer.add(&[truth(0, 0.0), truth(9, 0.0)], &bad);
    let score = scorer.finish();
    assert_eq!((score.rejected, score.map50, score.truths), (4, 1.0, 1));
}

fn pictures() -> impl Strategy<Value = Vec<Vec<Truth>>> {
    let place = (0u8..2, 0f32..600.0, 0f32..300.0, 5f32..80.0, 5f32..80.0, any::<bool>());
    let truth = place.prop_map(|(class, x, y, w, h, ignore)| Truth {
        class,
        x1: x,
        y1: y,
        x2: x + w,
        y2: y + h,
        visible: 1.0,
        ignore,
        id: 0,
    });
    prop::collection::vec(prop::collection::vec(truth, 0..8), 1..6)
}

fn boxes() -> impl Strategy<Value = Vec<ScoredBox>> {
    let place = (0u8..3, 0f32..=1.0, 0f32..600.0, 0f32..300.0, 0f32..80.0, 0f32..80.0);
    prop::collection::vec(
        place.prop_map(|(class, score, x, y, w, h)| ScoredBox { class, score, x1: x, y1: y, x2: x + w, y2: y + h }),
        0..12,
    )
}

fn echo(truth: &Truth) -> ScoredBox {
    ScoredBox { class: truth.class, score: 0.8, x1: truth.x1, y1: truth.y1, x2: truth.x2, y2: truth.y2 }
}

proptest! {
    #[test]
    fn the_truth_itself_scores_full_marks(pictures in pictures()) {
        let mut scorer = scorer();
        for truths in &pictures {
            let detections: Vec<_> = truths.iter().map(echo).collect();
            scorer.add(truths, &detections);
        }
        let score = scorer.finish();
        if score.truths > 0 {
            prop_assert_eq!(score.map50, 1.0);
            prop_assert_eq!((score.precision, score.recall), (1.0, 1.0));
        }
    }

    #[test]
    fn silence_scores_zero(pictures in pictures()) {
        let mut scorer = scorer();
        for truths in &pictures {
            scorer.add(truths, &[]);
        }
        let score = scorer.finish();
        prop_assert_eq!((score.map50, score.precision, score.recall), (0.0, 0.0, 0.0));
    }

    #[test]
    fn every_figure_is_a_share_and_the_order_of_pictures_does_not_matter(
        pictures in prop::collection::vec((pictures(), boxes()), 1..6)
    ) {
        let all: Vec<_> = pictures.iter().map(|(p, d)| (p[0].clone(), d.clone())).collect();
        let score = |all: &[(Vec<Truth>, Vec<ScoredBox>)]| {
            let mut scorer = scorer();
            for (truths, detections) in all {
                scorer.add(truths, detections);
            }
            scorer.finish()
        };
        let forward = score(&all);
        for figure in [forward.map50, forward.precision, forward.recall] {
            prop_assert!((0.0..=1.0).contains(&figure), "{}", figure);
        }
        let backward: Vec<_> = all.into_iter().rev().collect();
        prop_assert_eq!(forward, score(&backward));
    }

    #[test]
    fn a_further_error_never_raises_the_score(pictures in pictures(), at in 0f32..=1.0) {
        let run = |extra: bool| {
            let mut scorer = scorer();
            for truths in &pictures {
                let mut detections: Vec<_> = truths.iter().step_by(2).map(echo).collect();
                if extra {
                    detections.push(said(0, at, 5000.0));
                }
                scorer.add(truths, &detections);
            }
            scorer.finish().map50
        };
        prop_assert!(run(true) <= run(false));
    }
}
