//! What fails a frame, and the words that say why; and what is wrong in a plan.

use super::*;

#[test]
fn a_shape_that_does_not_fit_says_what_would() {
    type Case = (Family, &'static [(&'static str, &'static [usize])], &'static str);
    let cases: [Case; 12] = [
        (Family::AnchorsLast, &[], "the model gives 0 outputs, expected at least 1"),
        (
            Family::AnchorsLast,
            &[("o", &[8, 10])],
            "output \"o\" has shape [8, 10], expected [4 + classes, anchors] with 3 classes",
        ),
        (Family::AnchorsLast, &[("o", &[70])], "output \"o\" has shape [70], expected [4 + classes, anchors]"),
        (
            Family::AnchorsLast,
            &[("o", &[2, 7, 10])],
            "output \"o\" has shape [2, 7, 10], expected [4 + classes, anchors]",
        ),
        (
            Family::AnchorsFirst,
            &[("o", &[10, 4])],
            "output \"o\" has shape [10, 4], expected [anchors, 4 + classes] with 3 classes",
        ),
        (
            Family::Objectness,
            &[("o", &[10, 7])],
            "output \"o\" has shape [10, 7], expected [anchors, 5 + classes] with 3 classes",
        ),
        (
            Family::EndToEnd,
            &[("o", &[10, 7])],
            "output \"o\" has shape [10, 7], expected [rows, 6] (x1, y1, x2, y2, score, class)",
        ),
        (FAMILIES[4], &[("b", &[10, 4])], "the model gives 1 outputs, expected at least 2"),
        (FAMILIES[4], &[("s", &[10, 3]), ("b", &[10, 4])], "output \"s\" has shape [10, 3], expected [anchors, 4]"),
        (
            FAMILIES[4],
            &[("b", &[10, 4]), ("s", &[10, 4])],
            "output \"s\" has shape [10, 4], expected [10, 3] to go with \"b\"",
        ),
        (
            FAMILIES[5],
            &[("b", &[10, 4]), ("s", &[9, 4])],
            "output \"s\" has shape [9, 4], expected [10, 3 + background] to go with \"b\"",
        ),
        (
            FAMILIES[9],
            &[("b", &[5, 4]), ("c", &[5]), ("s", &[4])],
            "output \"s\" has shape [4], expected [5], one value per row of \"b\"",
        ),
    ];
    for (family, outputs, expected) in cases {
        let zeros: Vec<Vec<f32>> = outputs.iter().map(|(_, shape)| vec![0.0; shape.iter().product()]).collect();
        let outputs: Vec<_> =
            outputs.iter().zip(&zeros).map(|((name, shape), zeros)| tensor(name, shape, zeros)).collect();
        let plan = OutputPlan::Detections(family.plan());
        assert_eq!(message(open(&plan).decode(&outputs, &letterboxed())), expected);
    }
}

#[test]
fn values_of_another_type_or_number_fail_the_frame() {
    let plan = OutputPlan::Detections(Family::AnchorsLast.plan());
    let cases = [
        (TensorView { name: "o", shape: &[7, 1], values: Values::I64(&[0; 7]) }, "output \"o\" is i64, expected f32"),
        (tensor("o", &[7, 2], &[0.0; 13]), "output \"o\" has 13 values, expected as many as its shape [7, 2] holds"),
        (
            tensor("o", &[7, usize::MAX, 2], &[]),
            "output \"o\" has 0 values, expected as many as its shape [7, 18446744073709551615, 2] holds",
        ),
    ];
    for (output, expected) in cases {
        assert_eq!(message(open(&plan).decode(&[output], &letterboxed())), expected);
    }
}

#[test]
fn a_value_that_cannot_be_believed_fails_the_frame_with_its_place() {
    const THINGS: [Thing; 2] = [(0, 0.9, [10.0, 20.0, 30.0, 40.0]), (2, 0.5, [10.0, 20.0, 30.0, 40.0])];
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    // Which value of which tensor is replaced by what.
    let cases: [(Family, usize, usize, f32, &str); 21] = [
        (
            Family::AnchorsLast,
            0,
            1,
            nan,
            "output \"output\" has [NaN, 30.0, 20.0, 20.0] at anchor 1, expected a box of finite numbers",
        ),
        (
            Family::AnchorsLast,
            0,
            4,
            inf,
            "output \"output\" has [20.0, 30.0, inf, 20.0] at anchor 0, expected a box of finite numbers",
        ),
        (
            Family::AnchorsLast,
            0,
            11,
            nan,
            "output \"output\" has NaN as the score of class 1 at anchor 1, expected a score from 0 to 1",
        ),
        (
            Family::AnchorsLast,
            0,
            11,
            -nan,
            "output \"output\" has NaN as the score of class 1 at anchor 1, expected a score from 0 to 1",
        ),
        (
            Family::AnchorsLast,
            0,
            11,
            inf,
            "output \"output\" has inf at anchor 1, expected a score from 0 to 1 (raw logits, or another layout?)",
        ),
        (
            Family::AnchorsLast,
            0,
            8,
            7.5,
            "output \"output\" has 7.5 at anchor 0, expected a score from 0 to 1 (raw logits, or another layout?)",
        ),
        (Family::AnchorsFirst, 0, 13, nan, "output \"output\" has NaN at anchor 1, expected a score from 0 to 1"),
        (
            Family::AnchorsFirst,
            0,
            8,
            nan,
            "output \"output\" has [20.0, NaN, 20.0, 20.0] at anchor 1, expected a box of finite numbers",
        ),
        (Family::Objectness, 0, 4, nan, "output \"output\" has NaN at anchor 0, expected a score from 0 to 1"),
        (Family::Objectness, 0, 13, nan, "output \"output\" has NaN at anchor 1, expected a score from 0 to 1"),
        (
            Family::Objectness,
            0,
            4,
            inf,
            "output \"output\" has inf at anchor 0, expected a score from 0 to 1 (raw logits, or another layout?)",
        ),
        (
            Family::Objectness,
            0,
            15,
            1.8,
            "output \"output\" has 1.8 at anchor 1, expected a score from 0 to 1 (raw logits, or another layout?)",
        ),
        (Family::EndToEnd, 0, 10, nan, "output \"output\" has NaN at row 1, expected a score from 0 to 1"),
        (Family::EndToEnd, 0, 11, -1.0, "output \"output\" has class -1 in row 1, expected a whole number from 0 to 2"),
        (Family::EndToEnd, 0, 11, nan, "output \"output\" has class NaN in row 1, expected a whole number from 0 to 2"),
        (Family::EndToEnd, 0, 5, 1.5, "output \"output\" has class 1.5 in row 0, expected a whole number from 0 to 2"),
        (Family::EndToEnd, 0, 11, 3.0, "output \"output\" has class 3 in row 1, expected a whole number from 0 to 2"),
        (FAMILIES[9], 1, 0, 80.0, "output \"classes\" has class 80 in row 0, expected a whole number from 0 to 2"),
        (FAMILIES[6], 1, 0, nan, "output \"scores\" has NaN at anchor 0, expected finite numbers"),
        (FAMILIES[8], 1, 4, inf, "output \"scores\" has inf at anchor 1, expected finite numbers"),
        (FAMILIES[9], 3, 0, 3.0, "output \"count\" is 3, expected a whole number from 0 to 2"),
    ];
    for (family, which, at, value, expected) in cases {
        let mut encoded = family.encode(&THINGS);
        encoded[which].2[at] = value;
        let plan = OutputPlan::Detections(family.plan());
        let found = message(open(&plan).decode(&views(&encoded), &letterboxed()));
        assert_eq!(found, expected, "{family:?}, value {at} of tensor {which} set to {value}");
    }
}

#[test]
fn an_output_of_nothing_but_nan_is_never_an_empty_picture() {
    for family in FAMILIES {
        let mut encoded = family.encode(&[(0, 0.9, [10.0, 20.0, 30.0, 40.0])]);
        for (name, _, values) in &mut encoded {
            if *name != "count" {
                values.fill(f32::NAN);
            }
        }
        assert!(detections(&family.plan(), &views(&encoded), &letterboxed()).is_err(), "{family:?}");
    }
}

#[test]
fn a_fit_without_scale_is_an_error_and_not_an_empty_picture() {
    let encoded = Family::AnchorsLast.encode(&[(0, 0.9, [10.0, 20.0, 30.0, 40.0])]);
    for (scale_x, offset_y) in [(0.0, 0.0), (f32::NAN, 0.0), (-1.0, 0.0), (1.0, f32::INFINITY)] {
        let fit = Fit { scale_x, offset_y, ..fit_one_to_one() };
        let found = detections(&Family::AnchorsLast.plan(), &views(&encoded), &fit);
        assert!(found.is_err_and(|error| error.message.starts_with("boxes cannot be mapped to the picture")));
    }
}

#[test]
fn a_plan_names_every_parameter_that_cannot_be_right() {
    let layout = || DetectionLayout::EndToEnd { tensor: None };
    let wrong = DetectionsPlan {
        score_min: f32::NAN,
        candidates_max: 0,
        detections_max: 0,
        nms: Some(NmsPlan { iou_max: 1.5, across_classes: false }),
        only_classes: Some(vec![0, 80]),
        class_count: Some(80),
        ..DetectionsPlan::new(layout())
    };
    let none = DetectionsPlan { only_classes: Some(vec![]), class_count: Some(0), ..DetectionsPlan::new(layout()) };
    let cases: [(OutputPlan, &[&str]); 7] = [
        (OutputPlan::Nothing, &[]),
        (OutputPlan::Embedding(EmbeddingPlan::default()), &[]),
        (OutputPlan::Tensors(TensorsPlan { names: vec![], values_max: 0 }), &["values_max is 0, expected at least 1"]),
        (
            OutputPlan::Classes(ClassesPlan { top: 0, score_min: -0.5, ..ClassesPlan::default() }),
            &["score_min is -0.5, expected 0 to 1", "top is 0, expected at least 1"],
        ),
        (
            OutputPlan::Detections(wrong),
            &[
                "score_min is NaN, expected 0 to 1",
                "iou_max is 1.5, expected 0 to 1",
                "candidates_max is 0, expected at least 1",
                "detections_max is 0, expected at least 1",
                "only_classes is class 80, expected classes below class_count",
            ],
        ),
        (
            OutputPlan::Detections(none),
            &["class_count is 0, expected at least 1", "only_classes is an empty list, expected at least one class"],
        ),
        (OutputPlan::Detections(FAMILIES[6].plan()), &[]),
    ];
    for (plan, expected) in cases {
        let found: Vec<_> =
            plan.problems().iter().map(|p| format!("{} is {}, expected {}", p.key, p.found, p.expected)).collect();
        assert_eq!(found, expected);
    }
}
