//! Guessing the decoder from what a model says of its outputs.
//!
//! Runs once per model, never on a frame. A guess is made only where the shapes leave one reading; everything else is
//! refused with the readings that are possible, for a wrong decoder would give plausible boxes of wrong things.

use std::fmt::Write as _;

use omma_frame::Size;

use super::yolo::grid_anchors;
use super::{
    Activation, AnchorAxis, BoxForm, ClassesPlan, Count, DetectionLayout, DetectionsPlan, EmbeddingPlan, OutputPlan,
};
use crate::tensor::{DType, TensorInfo};

/// A decoder, and what in the outputs spoke for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Guess {
    pub plan: OutputPlan,
    pub why: String,
}

/// A number of rows that a model which suppresses doubles itself may give; grids have more.
const END_TO_END_ROWS_MAX: usize = 1000;

/// Guesses how a model's outputs are to be read. The first dimension of `outputs` is the batch; `input` is the size of
/// the model's input; `class_count` the number of labels, if there are any, which settles most doubts.
///
/// # Errors
/// The outputs fit no decoder, or more than one; the message says which and what would help.
pub fn guess(outputs: &[TensorInfo], input: Size, class_count: Option<usize>) -> Result<Guess, String> {
    // No labels are no hint.
    let class_count = class_count.filter(|&count| count > 0);
    if let Some(guess) = tensorflow_postprocessed(outputs, class_count) {
        return Ok(guess);
    }
    let Some((first, others)) = outputs.split_first() else {
        return Err("the model gives no outputs".to_owned());
    };
    if first.dtype != DType::F32 {
        let (name, dtype) = (&first.name, first.dtype.name());
        return Err(format!("output \"{name}\" is {dtype}, and only f32 can be guessed: name the decoder"));
    }
    // YOLO v5 exports may carry the raw maps of their three strides along, which the first output already contains.
    if !others.iter().all(|other| frame_shape(other).len() >= 4) {
        return Err(several(first, others));
    }
    match frame_shape(first)[..] {
        [length] => vector(first, length, class_count),
        [rows, columns] => matrix(first, rows, columns, input, class_count),
        _ => Err(format!("{} fits no decoder: expected a vector or a matrix per frame", describe(first))),
    }
}

/// The dimensions of one frame: without the batch, and without dimensions of one as long as two others are left, or
/// one other that is larger.
fn frame_shape(tensor: &TensorInfo) -> Vec<Option<usize>> {
    let mut shape: Vec<_> = tensor.shape.iter().skip(1).copied().collect();
    let larger = shape.iter().filter(|&&dim| dim != Some(1)).count();
    while shape.len() > larger.max(1) {
        let Some(one) = shape.iter().position(|&dim| dim == Some(1)) else { break };
        shape.remove(one);
    }
    shape
}

fn describe(tensor: &TensorInfo) -> String {
    let mut text = format!("output \"{}\" [", tensor.name);
    for (at, dim) in frame_shape(tensor).iter().enumerate() {
        let comma = if at == 0 { "" } else { ", " };
        let _ = match dim {
            Some(dim) => write!(text, "{comma}{dim}"),
            None => write!(text, "{comma}?"),
        };
    }
    text.push(']');
    text
}

/// TensorFlow's postprocessing is known by the names that it gives its outputs.
fn tensorflow_postprocessed(outputs: &[TensorInfo], class_count: Option<usize>) -> Option<Guess> {
    let named = |part: &str| outputs.iter().map(|tensor| &tensor.name).find(|name| **name == *part).cloned();
    let layout = DetectionLayout::Listed {
        boxes: Some(named("detection_boxes")?),
        classes: Some(named("detection_classes")?),
        class_first: 1,
        scores: Some(named("detection_scores")?),
        count: named("num_detections").map_or(Count::None, Count::Named),
        form: BoxForm::CornersYFirst,
    };
    let plan = DetectionsPlan { class_count, ..DetectionsPlan::new(layout) };
    let why = "outputs detection_boxes, detection_classes and detection_scores are what TensorFlow's detection \
               postprocessing gives: y1, x1, y2, x2 from 0 to 1, classes counted from 1";
    Some(Guess { plan: OutputPlan::Detections(plan), why: why.to_owned() })
}

fn several(first: &TensorInfo, others: &[TensorInfo]) -> String {
    let all = std::iter::once(first).chain(others).map(describe).collect::<Vec<_>>().join(", ");
    let shapes: Vec<_> = std::iter::once(first).chain(others).map(frame_shape).collect();
    let boxes = |shape: &Vec<Option<usize>>| shape.len() == 2 && shape[1] == Some(4);
    let hint = if shapes.len() == 2 && shapes.iter().any(boxes) {
        "boxes and scores, it seems, but shapes do not tell the order of the corners, the background class and the \
         activation: name the decoder"
    } else if shapes.len() == 2 && shapes[1].len() == 3 {
        "a segmentation model, it seems, whose masks no decoder reads: name the decoder, or take raw tensors"
    } else {
        "no decoder reads such a set: name the decoder, or take raw tensors"
    };
    format!("the model gives {} outputs: {all}; {hint}", shapes.len())
}

fn vector(tensor: &TensorInfo, length: Option<usize>, class_count: Option<usize>) -> Result<Guess, String> {
    let (what, name) = (describe(tensor), tensor.name.to_lowercase());
    let says = |words: &[&str]| words.iter().any(|word| name.contains(word));
    let classes = |reason: &str| {
        let (activation, how) = if says(&["prob", "softmax"]) {
            (Activation::None, "its name says that softmax was applied")
        } else {
            (Activation::Softmax, "taken for logits, softmax is applied")
        };
        let plan = ClassesPlan { activation, ..ClassesPlan::default() };
        Ok(Guess { plan: OutputPlan::Classes(plan), why: format!("{what} is a classifier's: {reason}; {how}") })
    };
    let embedding = |reason: &str| {
        let plan = OutputPlan::Embedding(EmbeddingPlan::default());
        Ok(Guess { plan, why: format!("{what} is an embedding: {reason}") })
    };
    let Some(length) = length else {
        return Err(format!("{what} has a length that varies: name the decoder, classes or embedding"));
    };
    if says(&["embed", "feature"]) {
        return embedding("its name says so");
    }
    if let Some(count) = class_count {
        if count == length {
            return classes(&format!("there are {count} labels"));
        }
        return Err(format!("{what} does not go with {count} labels: expected as many values as labels"));
    }
    if says(&["logit", "prob", "softmax", "class"]) {
        return classes("its name says so");
    }
    match length {
        1000 | 1001 | 21_841 | 21_843 => classes("ImageNet has that many classes"),
        _ if length % 64 == 0 => embedding("its length is a multiple of 64, as widths of layers are"),
        _ => classes("its length is no usual width of a layer"),
    }
}

fn matrix(
    tensor: &TensorInfo,
    rows: Option<usize>,
    columns: Option<usize>,
    input: Size,
    class_count: Option<usize>,
) -> Result<Guess, String> {
    let what = describe(tensor);
    let grid = grid_anchors(input);
    let is_grid = |dim: usize| dim > 0 && (dim == grid || dim == 3 * grid);
    let guessed = |layout, classes: Option<usize>, why: String| {
        let plan = DetectionsPlan { class_count: classes, ..DetectionsPlan::new(layout) };
        Ok(Guess { plan: OutputPlan::Detections(plan), why: format!("{what} {why}") })
    };
    let end_to_end = || {
        let why = "has rows of x1, y1, x2, y2, score, class, as exports with suppression inside have";
        guessed(DetectionLayout::EndToEnd { tensor: None }, class_count, why.to_owned())
    };
    if columns == Some(6) && rows.is_some_and(|rows| rows <= END_TO_END_ROWS_MAX && !is_grid(rows)) {
        return end_to_end();
    }
    let anchors_last = match (rows, columns) {
        (Some(_), None) => true,
        (None, Some(_)) => false,
        (Some(rows), Some(columns)) if is_grid(rows) != is_grid(columns) => is_grid(columns),
        (Some(rows), Some(columns)) if columns / 4 >= rows => true,
        (Some(rows), Some(columns)) if rows / 4 >= columns => false,
        _ => return Err(format!("{what} does not tell which dimension holds the anchors: name the decoder")),
    };
    let (anchors, numbers) = if anchors_last { (columns, rows) } else { (rows, columns) };
    let numbers = numbers.unwrap_or_default();
    let count = anchors.map_or("the".to_owned(), |anchors| anchors.to_string());
    let without = |axis| {
        let classes = numbers - 4;
        let why = format!("holds 4 box numbers and {classes} class scores for {count} anchors, as YOLO v8 and v11 do");
        guessed(DetectionLayout::Anchors { tensor: None, axis }, Some(classes), why)
    };
    let with_objectness = || {
        let classes = numbers - 5;
        let why = format!(
            "holds 4 box numbers, objectness and {classes} class scores for {count} anchors, as YOLO v5 and v7 do"
        );
        guessed(DetectionLayout::Objectness { tensor: None }, Some(classes), why)
    };
    let misses = |expected: &str| {
        let labels = class_count.map_or("1 label or more".to_owned(), |count| format!("{count} labels"));
        Err(format!("{what} does not go with {labels}: expected {expected} numbers per anchor"))
    };
    let fits = |before: usize| {
        numbers.checked_sub(before).is_some_and(|left| left > 0 && class_count.is_none_or(|count| left == count))
    };
    if anchors_last {
        return if fits(4) { without(AnchorAxis::Last) } else { misses("4 + classes") };
    }
    if anchors == Some(3 * grid) && grid > 0 {
        // Three anchors per cell: only the families with objectness have them.
        return if fits(5) { with_objectness() } else { misses("5 + classes") };
    }
    match (fits(4), fits(5), class_count) {
        (true, false, Some(_)) => without(AnchorAxis::First),
        (false, true, Some(_)) => with_objectness(),
        (false, false, Some(_)) if numbers == 6 && anchors.is_none() => end_to_end(),
        (false, false, _) => misses("4 + classes or 5 + classes"),
        // COCO's 80 classes.
        _ if numbers == 84 => without(AnchorAxis::First),
        _ if numbers == 85 => with_objectness(),
        _ => Err(format!(
            "{what} may hold {} classes, or objectness and {} classes: give the labels, or name the decoder",
            numbers.saturating_sub(4),
            numbers.saturating_sub(5)
        )),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::picture::{Fit, Resize};
    use crate::tensor::{TensorView, Values};

    const INPUT: Size = Size { width: 320, height: 320 };

    fn info(name: &str, shape: &[usize]) -> TensorInfo {
        // Zero stands for a dimension that may vary.
        let shape = shape.iter().map(|&dim| (dim > 0).then_some(dim)).collect();
        TensorInfo { name: name.to_owned(), dtype: DType::F32, shape }
    }

    fn layout(outputs: &[TensorInfo], classes: Option<usize>) -> String {
        match guess(outputs, INPUT, classes) {
            Ok(Guess { plan: OutputPlan::Detections(plan), .. }) => {
                let count = plan.class_count.map_or("?".to_owned(), |count| count.to_string());
                match plan.layout {
                    DetectionLayout::Anchors { axis, .. } => format!("anchors {axis:?} {count}").to_lowercase(),
                    DetectionLayout::Objectness { .. } => format!("objectness {count}"),
                    DetectionLayout::EndToEnd { .. } => format!("end to end {count}"),
                    other => format!("{other:?}"),
                }
            }
            Ok(Guess { plan: OutputPlan::Classes(plan), .. }) => {
                format!("classes {:?}", plan.activation).to_lowercase()
            }
            Ok(Guess { plan: OutputPlan::Embedding(_), .. }) => "embedding".to_owned(),
            Ok(other) => format!("{other:?}"),
            Err(message) => format!("refused: {message}"),
        }
    }

    #[test]
    fn one_output_is_told_by_its_shape() {
        // The grid of a 320 x 320 input has 2100 cells.
        let cases: [(&[usize], Option<usize>, &str); 25] = [
            (&[1, 84, 2100], None, "anchors last 80"),
            (&[0, 84, 2100], Some(80), "anchors last 80"),
            (&[8, 84, 0], None, "anchors last 80"),
            (&[1, 7, 400], None, "anchors last 3"),
            (&[1, 6, 2100], None, "anchors last 2"),
            (&[1, 2100, 84], None, "anchors first 80"),
            (&[1, 2100, 6], Some(2), "anchors first 2"),
            (&[1, 0, 7], Some(3), "anchors first 3"),
            (&[1, 6300, 85], None, "objectness 80"),
            (&[1, 6300, 6], None, "objectness 1"),
            (&[1, 6300, 8], Some(3), "objectness 3"),
            (&[1, 2100, 85], None, "objectness 80"),
            (&[1, 25_200, 85], None, "objectness 80"),
            (&[1, 2100, 8], Some(3), "objectness 3"),
            (&[1, 300, 6], None, "end to end ?"),
            (&[1, 1, 20, 6], Some(80), "end to end 80"),
            (&[1, 0, 6], Some(80), "end to end 80"),
            (&[1, 1000], None, "classes softmax"),
            (&[0, 1001, 1, 1], None, "classes softmax"),
            (&[0, 1000], Some(1000), "classes softmax"),
            (&[1, 7], None, "classes softmax"),
            (&[1, 1], None, "classes softmax"),
            (&[1, 128], Some(128), "classes softmax"),
            (&[1, 128], None, "embedding"),
            (&[1, 512, 1, 1], None, "embedding"),
        ];
        for (shape, classes, expected) in cases {
            assert_eq!(layout(&[info("output0", shape)], classes), expected, "{shape:?} with {classes:?} classes");
        }
    }

    #[test]
    fn what_is_guessed_reads_the_output_it_was_guessed_from() {
        let shapes: [&[usize]; 9] = [
            &[1, 84, 2100],
            &[1, 7, 400],
            &[1, 2100, 84],
            &[1, 6300, 85],
            &[1, 2100, 85],
            &[1, 1, 20, 6],
            &[1, 1000],
            &[1, 512, 1, 1],
            &[1, 1],
        ];
        for shape in shapes {
            let guess = guess(&[info("o", shape)], INPUT, None).unwrap_or_else(|why| panic!("{shape:?}: {why}"));
            let values = vec![0.01; shape.iter().product()];
            let output = TensorView { name: "o", shape: &shape[1..], values: Values::F32(&values) };
            let fit = Fit::new(INPUT, INPUT, Resize::Stretch);
            let read = guess.plan.factory(INPUT).open().decode(&[output], &fit);
            assert!(read.is_ok(), "{shape:?}: {read:?}");
        }
    }

    #[test]
    fn a_name_tells_what_a_vector_is() {
        let cases = [
            ("image_embeds", 1000, "embedding"),
            ("features", 30, "embedding"),
            ("probabilities", 128, "classes none"),
            ("Softmax_12", 10, "classes none"),
            ("logits", 256, "classes softmax"),
        ];
        for (name, length, expected) in cases {
            assert_eq!(layout(&[info(name, &[1, length])], None), expected, "{name}");
        }
    }

    #[test]
    fn what_has_no_or_more_than_one_reading_is_refused_with_a_reason() {
        type Case = (&'static [(&'static str, &'static [usize])], Option<usize>, &'static str);
        let cases: [Case; 14] = [
            (&[], None, "the model gives no outputs"),
            (
                &[("o", &[1, 84, 2100])],
                Some(3),
                "output \"o\" [84, 2100] does not go with 3 labels: expected 4 + classes numbers per anchor",
            ),
            (
                &[("o", &[1, 6300, 85])],
                Some(3),
                "output \"o\" [6300, 85] does not go with 3 labels: expected 5 + classes numbers per anchor",
            ),
            (
                &[("o", &[1, 2100, 9])],
                Some(3),
                "output \"o\" [2100, 9] does not go with 3 labels: expected 4 + classes or 5 + classes numbers per anchor",
            ),
            (
                &[("o", &[1, 2100, 9])],
                None,
                "output \"o\" [2100, 9] may hold 5 classes, or objectness and 4 classes: give the labels, or name the decoder",
            ),
            (
                &[("o", &[1, 0, 6])],
                None,
                "output \"o\" [?, 6] may hold 2 classes, or objectness and 1 classes: give the labels, or name the decoder",
            ),
            (
                &[("o", &[1, 4, 2100])],
                None,
                "output \"o\" [4, 2100] does not go with 1 label or more: expected 4 + classes numbers per anchor",
            ),
            (
                &[("o", &[1, 80, 90])],
                None,
                "output \"o\" [80, 90] does not tell which dimension holds the anchors: name the decoder",
            ),
            (
                &[("o", &[0, 0, 0])],
                None,
                "output \"o\" [?, ?] does not tell which dimension holds the anchors: name the decoder",
            ),
            (
                &[("o", &[1, 0])],
                None,
                "output \"o\" [?] has a length that varies: name the decoder, classes or embedding",
            ),
            (
                &[("o", &[1, 1000])],
                Some(80),
                "output \"o\" [1000] does not go with 80 labels: expected as many values as labels",
            ),
            (
                &[("o", &[1, 3, 40, 40])],
                None,
                "output \"o\" [3, 40, 40] fits no decoder: expected a vector or a matrix per frame",
            ),
            (
                &[("b", &[1, 3000, 4]), ("s", &[1, 3000, 21])],
                None,
                "the model gives 2 outputs: output \"b\" [3000, 4], output \"s\" [3000, 21]; boxes and scores, it seems, but shapes do not tell the order of the corners, the background class and the activation: name the decoder",
            ),
            (
                &[("o", &[1, 116, 2100]), ("p", &[1, 32, 80, 80])],
                None,
                "the model gives 2 outputs: output \"o\" [116, 2100], output \"p\" [32, 80, 80]; a segmentation model, it seems, whose masks no decoder reads: name the decoder, or take raw tensors",
            ),
        ];
        for (outputs, classes, expected) in cases {
            let outputs: Vec<_> = outputs.iter().map(|(name, shape)| info(name, shape)).collect();
            assert_eq!(guess(&outputs, INPUT, classes), Err(expected.to_owned()));
        }
    }

    #[test]
    fn a_guess_says_why() {
        let cases: [(&[usize], &str); 3] = [
            (
                &[1, 84, 2100],
                "output \"o\" [84, 2100] holds 4 box numbers and 80 class scores for 2100 anchors, as YOLO v8 and v11 do",
            ),
            (
                &[1, 300, 6],
                "output \"o\" [300, 6] has rows of x1, y1, x2, y2, score, class, as exports with suppression inside have",
            ),
            (
                &[1, 1000],
                "output \"o\" [1000] is a classifier's: ImageNet has that many classes; taken for logits, softmax is applied",
            ),
        ];
        for (shape, why) in cases {
            assert_eq!(guess(&[info("o", shape)], INPUT, None).map(|guess| guess.why), Ok(why.to_owned()));
        }
    }

    #[test]
    fn outputs_of_known_names_need_no_guess_of_their_order() {
        let outputs = [
            info("num_detections", &[1]),
            info("detection_boxes", &[1, 100, 4]),
            info("detection_scores", &[1, 100]),
            info("detection_classes", &[1, 100]),
        ];
        let Ok(Guess { plan: OutputPlan::Detections(plan), .. }) = guess(&outputs, INPUT, None) else {
            panic!("expected detections")
        };
        let named = |name: &str| Some(name.to_owned());
        assert_eq!(
            plan.layout,
            DetectionLayout::Listed {
                boxes: named("detection_boxes"),
                classes: named("detection_classes"),
                class_first: 1,
                scores: named("detection_scores"),
                count: Count::Named("num_detections".to_owned()),
                form: BoxForm::CornersYFirst,
            }
        );
    }

    #[test]
    fn raw_maps_beside_a_yolo_v5_output_do_not_disturb() {
        let outputs =
            [info("output", &[1, 6300, 85]), info("339", &[1, 3, 40, 40, 85]), info("391", &[1, 3, 20, 20, 85])];
        assert_eq!(layout(&outputs, None), "objectness 80");
    }

    #[test]
    fn integers_are_not_guessed() {
        let outputs = [TensorInfo { dtype: DType::I64, ..info("ids", &[1, 10]) }];
        assert_eq!(
            layout(&outputs, None),
            "refused: output \"ids\" is i64, and only f32 can be guessed: name the decoder"
        );
    }

    proptest! {
        #[test]
        fn any_outputs_are_guessed_or_refused(
            shapes in prop::collection::vec(prop::collection::vec(prop_oneof![0..8usize, 0..3000usize, Just(usize::MAX)], 0..6), 0..5),
            classes in prop::option::of(prop_oneof![0..100usize, Just(usize::MAX)]),
            width: u32, height: u32,
        ) {
            let outputs: Vec<_> = shapes.iter().map(|shape| info("x", shape)).collect();
            match guess(&outputs, Size { width, height }, classes) {
                Ok(guess) => prop_assert_eq!(guess.plan.problems(), []),
                Err(message) => prop_assert!(!message.is_empty()),
            }
        }
    }
}
