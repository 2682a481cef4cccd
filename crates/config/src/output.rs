//! `[models.output]`: how a model's answer is read. Limits that are not written are the decoder's own.

use crate::files::labels;
use crate::problem::quoted;
use crate::read::{ClassRef, Table};
use crate::schema::{Word, meant};

/// How a model's answer is read; `None` leaves a setting to the decoder, which is perhaps only known once the model's
/// outputs are.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OutputConfig {
    pub decoder: Decoder,
    pub score_min: Option<f32>,
    pub iou_max: Option<f32>,
    pub class_agnostic: Option<bool>,
    pub candidates_max: Option<usize>,
    pub detections_max: Option<usize>,
    /// Only these classes come out; by number.
    pub only_classes: Option<Vec<u32>>,
    pub top_k: Option<usize>,
    pub activation: Option<Activation>,
    pub normalize: Option<bool>,
    /// The output that is read, where it is one.
    pub tensor: Option<String>,
    /// The outputs that are given as they are; empty: all.
    pub tensors: Vec<String>,
    pub values_max: Option<usize>,
    pub anchor_axis: Option<AnchorAxis>,
    pub boxes: Option<String>,
    pub scores: Option<String>,
    pub classes: Option<String>,
    /// The number that the model gives its first class.
    pub class_first: Option<u32>,
    pub count: Option<String>,
    pub box_form: Option<BoxForm>,
    pub box_units: Option<BoxUnits>,
    pub background: Option<Background>,
    /// Of class 0, 1, ...; empty: classes have numbers only.
    pub labels: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Decoder {
    /// By the shapes of the model's outputs.
    #[default]
    Auto,
    /// Boxes with an objectness.
    YoloV5,
    /// Boxes without: v8, v9, v11.
    YoloV8,
    /// Rows of x1, y1, x2, y2, score, class.
    YoloEnd2End,
    /// Boxes, and a score of each class for each box.
    Ssd,
    /// TensorFlow's detection postprocessing: boxes, classes and scores in lists.
    Listed,
    Classes,
    Embedding,
    /// Outputs as the model gave them.
    Tensors,
    Nothing,
}

/// From what a model computes to scores from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    None,
    Softmax,
    Sigmoid,
}

/// Which dimension of a `yolov8` output counts the boxes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnchorAxis {
    Auto,
    First,
    Last,
}

/// The four numbers of a box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BoxForm {
    /// x1, y1, x2, y2
    CornersXFirst,
    /// y1, x1, y2, x2
    CornersYFirst,
    /// centre x, centre y, width, height
    Center,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BoxUnits {
    /// Pixels of the model's input.
    InputPixels,
    /// 0 to 1 over the model's input.
    Normalized,
}

/// The column of scores that means "nothing here".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Background {
    None,
    First,
    Last,
}

impl Word for Decoder {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("auto", Self::Auto),
        ("yolov5", Self::YoloV5),
        ("yolov8", Self::YoloV8),
        ("yolo_end2end", Self::YoloEnd2End),
        ("ssd", Self::Ssd),
        ("listed", Self::Listed),
        ("classes", Self::Classes),
        ("embedding", Self::Embedding),
        ("tensors", Self::Tensors),
        ("nothing", Self::Nothing),
    ];
}

impl Word for Activation {
    const WORDS: &'static [(&'static str, Self)] =
        &[("none", Self::None), ("softmax", Self::Softmax), ("sigmoid", Self::Sigmoid)];
}

impl Word for AnchorAxis {
    const WORDS: &'static [(&'static str, Self)] =
        &[("auto", Self::Auto), ("first", Self::First), ("last", Self::Last)];
}

impl Word for BoxForm {
    const WORDS: &'static [(&'static str, Self)] =
        &[("xyxy", Self::CornersXFirst), ("yxyx", Self::CornersYFirst), ("cxcywh", Self::Center)];
}

impl Word for BoxUnits {
    const WORDS: &'static [(&'static str, Self)] = &[("pixels", Self::InputPixels), ("normalized", Self::Normalized)];
}

impl Word for Background {
    const WORDS: &'static [(&'static str, Self)] =
        &[("none", Self::None), ("first", Self::First), ("last", Self::Last)];
}

pub(crate) fn read(table: &Table<'_>) -> OutputConfig {
    let fraction = |name| table.number_if(name).map(|value| value as f32);
    let labels = read_labels(table);
    OutputConfig {
        decoder: table.word_or("decoder", Decoder::Auto),
        score_min: fraction("score_min"),
        iou_max: fraction("iou_max"),
        class_agnostic: table.flag_if("class_agnostic"),
        candidates_max: table.count_if("candidates_max"),
        detections_max: table.count_if("detections_max"),
        only_classes: table.classes("only_classes").map(|classes| resolve(table, &classes, &labels)),
        top_k: table.count_if("top_k"),
        activation: table.word_if("activation"),
        normalize: table.flag_if("normalize"),
        tensor: table.text("tensor"),
        tensors: table.texts("tensors").unwrap_or_default(),
        values_max: table.count_if("values_max"),
        anchor_axis: table.word_if("anchor_axis"),
        boxes: table.text("boxes"),
        scores: table.text("scores"),
        classes: table.text("classes"),
        class_first: table.small_if("class_first"),
        count: table.text("count"),
        box_form: table.word_if("box_form"),
        box_units: table.word_if("box_units"),
        background: table.word_if("background"),
        labels,
    }
}

fn read_labels(table: &Table<'_>) -> Vec<String> {
    let inline = table.texts("labels");
    let file = labels(table, "labels_file");
    match inline {
        Some(inline) => {
            if table.has("labels_file") {
                table.problem("labels_file", "both labels and labels_file", "one of them");
            }
            inline
        }
        None => file,
    }
}

/// Classes by name become numbers: the first class of that name.
fn resolve(table: &Table<'_>, classes: &[ClassRef], labels: &[String]) -> Vec<u32> {
    let mut numbers = Vec::new();
    for (index, class) in classes.iter().enumerate() {
        let number = match class {
            ClassRef::Number(number) if labels.is_empty() || (*number as usize) < labels.len() => *number,
            ClassRef::Number(number) => {
                let expected = format!("0 to {}, as there are {} labels", labels.len() - 1, labels.len());
                table.item_problem("only_classes", index, number.to_string(), expected, None);
                continue;
            }
            ClassRef::Name(name) => match labels.iter().position(|label| label == name) {
                Some(place) => u32::try_from(place).unwrap_or(u32::MAX),
                None => {
                    let expected =
                        if labels.is_empty() { "a class number, as there are no labels" } else { "one of the labels" };
                    let known: Vec<&str> = labels.iter().map(String::as_str).collect();
                    table.item_problem("only_classes", index, quoted(name), expected, meant(name, &known));
                    continue;
                }
            },
        };
        numbers.push(number);
    }
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}
