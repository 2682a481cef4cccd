//! What comes out: tables of outputs and the detections in them.

use super::*;

#[test]
fn boxes_come_out_in_pixels_of_the_original_picture() {
    let things: [(&str, Thing, Option<Detection>); 7] = [
        // x / 0.25, (y - 16) / 0.25
        ("inside", (1, 0.9, [10.0, 20.0, 30.0, 40.0]), Some(detection(1, 0.9, [40.0, 16.0, 120.0, 96.0]))),
        ("the whole picture", (0, 0.5, [0.0, 16.0, 64.0, 48.0]), Some(detection(0, 0.5, [0.0, 0.0, 256.0, 128.0]))),
        ("half in the padding", (2, 0.8, [8.0, 8.0, 16.0, 24.0]), Some(detection(2, 0.8, [32.0, 0.0, 64.0, 32.0]))),
        ("over two edges", (2, 0.8, [-8.0, 40.0, 80.0, 90.0]), Some(detection(2, 0.8, [0.0, 96.0, 256.0, 128.0]))),
        ("all in the padding", (1, 0.9, [10.0, 0.0, 20.0, 15.0]), None),
        ("without an area", (1, 0.9, [10.0, 20.0, 10.0, 40.0]), None),
        ("inside out", (1, 0.9, [30.0, 40.0, 10.0, 20.0]), None),
    ];
    for family in FAMILIES {
        for (what, thing, expected) in &things {
            let encoded = family.encode(&[*thing]);
            let found = detections(&family.plan(), &views(&encoded), &letterboxed()).unwrap();
            assert!(close(&found, expected.as_slice(), 1e-3), "{what} by {family:?}: {found:?}");
        }
    }
}

#[test]
fn what_scores_too_little_does_not_come_out() {
    for family in FAMILIES {
        let things = [0.1, 0.3, 0.5].map(|score| (0, score, [score * 100.0, 0.0, score * 100.0 + 5.0, 5.0]));
        let encoded = family.encode(&things);
        for (score_min, expected) in [(0.0, 3), (0.2, 2), (0.4, 1), (0.6, 0)] {
            let plan = DetectionsPlan { score_min, ..family.plan() };
            let found = detections(&plan, &views(&encoded), &fit_one_to_one()).unwrap();
            assert_eq!(found.len(), expected, "{family:?} from {score_min}: {found:?}");
            assert!(found.is_sorted_by(|a, b| a.score >= b.score), "{found:?}");
        }
    }
}

#[test]
fn no_anchor_is_no_error() {
    for family in FAMILIES {
        assert_eq!(
            detections(&family.plan(), &views(&family.encode(&[])), &letterboxed()),
            Ok(Vec::new()),
            "{family:?}"
        );
    }
}

#[test]
fn doubles_are_suppressed_where_the_plan_says_so() {
    let things = [(0, 0.6, [1.0, 0.0, 21.0, 20.0]), (0, 0.9, [0.0, 0.0, 20.0, 20.0]), (1, 0.8, [0.0, 0.0, 20.0, 20.0])];
    for family in FAMILIES {
        for (nms, expected) in [
            (None, &[0.9, 0.8, 0.6][..]),
            (Some(NmsPlan::default()), &[0.9, 0.8]),
            (Some(NmsPlan { across_classes: true, ..NmsPlan::default() }), &[0.9]),
            (Some(NmsPlan { iou_max: 0.95, across_classes: false }), &[0.9, 0.8, 0.6]),
        ] {
            let plan = DetectionsPlan { nms, ..family.plan() };
            let found = detections(&plan, &views(&family.encode(&things)), &fit_one_to_one()).unwrap();
            let scores: Vec<_> = found.iter().map(|d| (d.score * 100.0).round() / 100.0).collect();
            assert_eq!(scores, expected, "{family:?} with {nms:?}");
        }
    }
}

#[test]
fn bounds_keep_the_best_and_equals_in_their_order() {
    let things: Vec<Thing> = (0..10)
        .map(|i| (i % 3, if i % 2 == 0 { 0.5 } else { 0.75 }, [i as f32 * 6.0, 0.0, i as f32 * 6.0 + 5.0, 5.0]))
        .collect();
    for family in FAMILIES {
        for (candidates_max, detections_max, expected) in [
            (10, 10, &[1, 3, 5, 7, 9, 0, 2, 4, 6, 8][..]),
            (6, 10, &[1, 3, 5, 7, 9, 0]),
            (10, 3, &[1, 3, 5]),
            (1, 3, &[1]),
        ] {
            let plan = DetectionsPlan { candidates_max, detections_max, ..family.plan() };
            let found = detections(&plan, &views(&family.encode(&things)), &fit_one_to_one()).unwrap();
            let order: Vec<_> = found.iter().map(|d| (d.x1 / 6.0).round() as usize).collect();
            assert_eq!(order, expected, "{family:?}, {candidates_max} and {detections_max}");
        }
    }
}

#[test]
fn only_the_classes_asked_for_come_out_and_the_second_best_class_does_not_count() {
    let things: Vec<Thing> = (0..3).map(|c| (c, 0.9, [c as f32 * 20.0, 0.0, c as f32 * 20.0 + 10.0, 10.0])).collect();
    for family in FAMILIES {
        for only in [vec![2, 0], vec![1], vec![7], vec![]] {
            let plan = DetectionsPlan { only_classes: Some(only.clone()), ..family.plan() };
            let found = detections(&plan, &views(&family.encode(&things)), &fit_one_to_one()).unwrap();
            let mut expected: Vec<_> = only.into_iter().filter(|&class| class < 3).collect();
            expected.sort_unstable();
            assert_eq!(found.iter().map(|d| d.class).collect::<Vec<_>>(), expected, "{family:?}");
        }
    }
}

#[test]
fn of_classes_with_equal_scores_the_first_is_taken() {
    let values = [32.0, 32.0, 8.0, 8.0, 0.25, 0.75, 0.75];
    for (axis, shape) in [(AnchorAxis::First, [1, 7]), (AnchorAxis::Last, [7, 1]), (AnchorAxis::Auto, [7, 1])] {
        let plan = DetectionsPlan::new(DetectionLayout::Anchors { tensor: None, axis });
        let found = detections(&plan, &[tensor("o", &shape, &values)], &fit_one_to_one()).unwrap();
        assert_eq!(found, [detection(1, 0.75, [28.0, 28.0, 36.0, 36.0])]);
    }
}

#[test]
fn boxes_are_measured_in_the_units_of_the_plan() {
    let values = [0.5, 0.5, 0.25, 0.125, 0.9];
    let layout = || DetectionLayout::Anchors { tensor: None, axis: AnchorAxis::Last };
    let plan = DetectionsPlan { units: BoxUnits::Normalized, ..DetectionsPlan::new(layout()) };
    let found = detections(&plan, &[tensor("o", &[5, 1], &values)], &fit_one_to_one()).unwrap();
    assert_eq!(found, [detection(0, 0.9, [24.0, 28.0, 40.0, 36.0])]);
}

#[test]
fn outputs_are_found_by_name_in_any_order() {
    let layout = |boxes: &str| DetectionLayout::BoxesAndScores {
        boxes: Some(boxes.to_owned()),
        scores: Some("scores".to_owned()),
        form: BoxForm::CornersXFirst,
        background: Background::None,
        activation: Activation::None,
    };
    let outputs = [
        tensor("scores", &[1, 2], &[0.1, 0.9]),
        tensor("other", &[], &[0.0]),
        tensor("boxes", &[1, 4], &[0.0, 0.0, 0.5, 0.5]),
    ];
    let found = detections(&DetectionsPlan::new(layout("boxes")), &outputs, &fit_one_to_one()).unwrap();
    assert_eq!(found, [detection(1, 0.9, [0.0, 0.0, 32.0, 32.0])]);
    let missing = detections(&DetectionsPlan::new(layout("rects")), &outputs, &fit_one_to_one());
    let given = "the model gives no output \"rects\", its outputs are: \"scores\", \"other\", \"boxes\"";
    assert_eq!(missing.map_err(|error| error.message), Err(given.to_owned()));
}

#[test]
fn class_numbers_are_whole_numbers_of_any_type_from_zero_or_one() {
    let cases = [
        (Values::I64(&[1, 3]), 0, Ok([1, 3])),
        (Values::I32(&[1, 3]), 1, Ok([0, 2])),
        (Values::U8(&[1, 3]), 1, Ok([0, 2])),
        (Values::F32(&[1.0, 2.999]), 0, Ok([1, 3])),
        (Values::I64(&[1, 0]), 1, Err("output \"classes\" has class 0 in row 1, expected a whole number from 1")),
    ];
    for (classes, first, expected) in cases {
        let outputs = [
            tensor("boxes", &[2, 4], &[0.0, 0.0, 0.5, 0.5, 0.5, 0.5, 1.0, 1.0]),
            TensorView { name: "classes", shape: &[2], values: classes },
            tensor("scores", &[2], &[0.9, 0.8]),
        ];
        let mut plan = DetectionsPlan { class_count: None, ..Family::Listed(BoxForm::CornersXFirst, false).plan() };
        if let DetectionLayout::Listed { class_first, .. } = &mut plan.layout {
            *class_first = first;
        }
        let found = detections(&plan, &outputs, &fit_one_to_one());
        let found = found.map(|found| found.iter().map(|d| d.class).collect::<Vec<_>>()).map_err(|e| e.message);
        assert_eq!(found, expected.map(|classes| classes.to_vec()).map_err(str::to_owned), "{classes:?} from {first}");
    }
}

#[test]
fn rows_beyond_the_count_are_padding() {
    let boxes = [0.0, 0.0, 0.5, 0.5, 0.5, 0.5, 1.0, 1.0, f32::NAN, 0.0, 0.0, 0.0];
    for (count, filled) in [(Values::I32(&[2]), 2), (Values::I64(&[0]), 0), (Values::F32(&[1.0]), 1)] {
        let outputs = [
            tensor("boxes", &[3, 4], &boxes),
            tensor("classes", &[3], &[2.0, 1.0, -1.0]),
            tensor("scores", &[3], &[0.9, 0.8, f32::NAN]),
            TensorView { name: "count", shape: &[1], values: count },
        ];
        let found = detections(&Family::Listed(BoxForm::CornersXFirst, true).plan(), &outputs, &fit_one_to_one());
        let classes = found.unwrap().iter().map(|d| d.class).collect::<Vec<_>>();
        assert_eq!(classes, [2, 1][..filled]);
    }
}

#[test]
fn the_dimension_of_the_anchors_is_told_where_the_shape_leaves_no_doubt() {
    // The grid of a 64 x 64 input has 64 + 16 + 4 = 84 anchors.
    type Case = ([usize; 2], Option<usize>, Result<&'static str, &'static str>);
    let cases: [Case; 9] = [
        ([7, 84], None, Ok("last")),
        ([84, 7], None, Ok("first")),
        ([90, 84], None, Ok("last")),
        ([7, 28], None, Ok("last")),
        ([28, 7], None, Ok("first")),
        ([20, 10], Some(6), Ok("first")),
        ([20, 10], Some(16), Ok("last")),
        (
            [20, 10],
            None,
            Err(
                "output \"o\" has shape [20, 10], which may be [4 + classes, anchors] or [anchors, 4 + classes]: say which",
            ),
        ),
        (
            [84, 84],
            None,
            Err(
                "output \"o\" has shape [84, 84], which may be [4 + classes, anchors] or [anchors, 4 + classes]: say which",
            ),
        ),
    ];
    for (shape, class_count, expected) in cases {
        let layout = DetectionLayout::Anchors { tensor: None, axis: AnchorAxis::Auto };
        let plan = DetectionsPlan { class_count, ..DetectionsPlan::new(layout) };
        // All of the second row or plane is hot: the score of class 0 if rows are planes, a whole anchor otherwise.
        let mut values = vec![0.0; shape[0] * shape[1]];
        values[4 * shape[1]] = 0.5;
        values[2 * shape[1]] = 4.0;
        values[3 * shape[1]] = 4.0;
        values[4] = 0.75;
        values[2] = 4.0;
        values[3] = 4.0;
        let found = detections(&plan, &[tensor("o", &shape, &values)], &fit_one_to_one());
        let read = found.map(|found| match found.first().map(|d| d.score) {
            Some(0.5) => "last",
            Some(0.75) => "first",
            _ => "neither",
        });
        assert_eq!(read, expected.map_err(|message| OutputError { message: message.to_owned() }), "{shape:?}");
    }
}

#[test]
fn a_score_a_little_above_one_is_rounding() {
    for family in [Family::Objectness, Family::AnchorsLast, Family::AnchorsFirst, Family::EndToEnd] {
        let encoded = family.encode(&[(0, 1.005, [10.0, 20.0, 30.0, 40.0])]);
        let found = detections(&family.plan(), &views(&encoded), &fit_one_to_one()).unwrap();
        assert_eq!(found, [detection(0, 1.0, [10.0, 20.0, 30.0, 40.0])], "{family:?}");
    }
}

#[test]
fn a_box_nobody_will_see_suppresses_none() {
    // The better box has its visible part in the padding only, and covers the other to more than half.
    let things = [(0, 0.9, [10.0, 0.0, 20.0, 16.0]), (0, 0.8, [10.0, 2.0, 20.0, 18.0])];
    let found = detections(&Family::AnchorsLast.plan(), &views(&Family::AnchorsLast.encode(&things)), &letterboxed());
    assert_eq!(found, Ok(vec![detection(0, 0.8, [40.0, 0.0, 80.0, 8.0])]));
}

#[test]
fn the_null_model_answers_nothing() {
    assert_eq!(open(&OutputPlan::Nothing).decode(&[], &letterboxed()), Ok(Output::Nothing));
}

#[test]
fn a_decoder_keeps_nothing_of_the_frame_before() {
    for family in FAMILIES {
        let plan = OutputPlan::Detections(family.plan());
        let mut decoder = open(&plan);
        let many: Vec<Thing> = (0..9).map(|i| (0, 0.9, [i as f32 * 7.0, 0.0, i as f32 * 7.0 + 5.0, 9.0])).collect();
        let one = [(1, 0.5, [10.0, 20.0, 30.0, 40.0])];
        let mut broken = family.encode(&many);
        broken[0].2[0] = f32::NAN;
        let fresh = open(&plan).decode(&views(&family.encode(&one)), &letterboxed());
        for before in [family.encode(&many), family.encode(&[]), broken] {
            let _ = decoder.decode(&views(&before), &letterboxed());
            assert_eq!(decoder.decode(&views(&family.encode(&one)), &letterboxed()), fresh, "{family:?}");
        }
    }
}
