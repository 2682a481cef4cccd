//! Output decoders: what the numbers of a model mean.
//!
//! An [`OutputPlan`] says in plain data which decoder reads a model and with which limits; [`OutputPlan::factory`]
//! makes the decoders. A decoder runs on its instance's thread, keeps its buffers from frame to frame and allocates
//! nothing per frame but the result itself. Its work is bounded by the size of the tensor and by
//! `candidates_max * detections_max` comparisons.
//!
//! What is never done: to answer "nothing found" for an output that could not be read. A score that is not a number,
//! a box without finite corners, a tensor of another shape or type fails the frame by name ([`OutputError`]), with the
//! tensor, the place in it and what would have been right.

mod classes;
mod detections;
mod embedding;
mod guess;
mod listed;
mod scan;
mod ssd;
mod tensors;
#[cfg(test)]
mod tests;
mod view;
mod yolo;

use std::sync::Arc;

use omma_frame::{Output, Size};

pub use guess::{Guess, guess};

use super::{OutputDecoder, OutputDecoderFactory, OutputError};
use crate::picture::Fit;
use crate::tensor::TensorView;

/// How one frame's outputs are read. Shapes are given without the batch dimension; dimensions of one may stand
/// anywhere in them (`[1, 84, 8400]` is read as `[84, 8400]`). A tensor is found by its name, or, where the plan names
/// none, by its position among the model's outputs.
#[derive(Debug, Clone, PartialEq)]
pub enum OutputPlan {
    /// The null model: outputs are not looked at.
    Nothing,
    /// Tensors are copied out as they are.
    Tensors(TensorsPlan),
    Classes(ClassesPlan),
    Embedding(EmbeddingPlan),
    Detections(DetectionsPlan),
}

/// Raw tensors. Integers become `f32` (exact up to 2^24).
#[derive(Debug, Clone, PartialEq)]
pub struct TensorsPlan {
    /// Which, in this order; empty: all, in the model's order.
    pub names: Vec<String>,
    /// The most values of one frame, over all its tensors; more fail the frame.
    pub values_max: usize,
}

impl Default for TensorsPlan {
    fn default() -> Self {
        Self { names: Vec::new(), values_max: 1 << 20 }
    }
}

/// From what a model computes to scores from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// They are scores already.
    None,
    /// One class of many: the scores of all classes sum to 1.
    Softmax,
    /// Each class for itself.
    Sigmoid,
}

/// A classifier: one tensor `[classes]`.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassesPlan {
    pub tensor: Option<String>,
    pub activation: Activation,
    /// How many classes are given, best first, ties by class number.
    pub top: usize,
    /// Classes with a lower score are not given.
    pub score_min: f32,
}

impl Default for ClassesPlan {
    fn default() -> Self {
        Self { tensor: None, activation: Activation::Softmax, top: 5, score_min: 0.0 }
    }
}

/// An embedding: one tensor `[length]`.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbeddingPlan {
    pub tensor: Option<String>,
    /// Divide by the L2 norm, so that the dot product of two embeddings is their cosine. A vector of zeros has no
    /// direction and fails the frame.
    pub normalize: bool,
}

impl Default for EmbeddingPlan {
    fn default() -> Self {
        Self { tensor: None, normalize: true }
    }
}

/// A detector.
///
/// A candidate is an anchor (or row) whose best score is at least `score_min` and above zero; a score of exactly zero
/// is padding. Its class is the one with the best score, the lower number on a tie. Of the candidates, the
/// `candidates_max` best are looked at (score falling, then position rising), boxes that lie outside the picture or
/// have no area in it are dropped, suppression takes out doubles, and at most `detections_max` come out, best first.
///
/// Scores up to 1.01 count as rounding and come out as 1; higher ones, and scores that are not a number, fail the
/// frame wherever they stand among the values that had to be read. Corners must be finite for the candidates that are
/// looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct DetectionsPlan {
    pub layout: DetectionLayout,
    pub units: BoxUnits,
    pub score_min: f32,
    pub candidates_max: usize,
    pub detections_max: usize,
    /// `None` where the model has suppressed doubles itself.
    pub nms: Option<NmsPlan>,
    /// Only these classes come out. Applied to an anchor's best class: a dog that looks a little like a cat is no cat.
    pub only_classes: Option<Vec<u32>>,
    /// How many classes the model must have; `None`: as many as its tensor holds, which then takes for classes
    /// whatever else an export appends to the scores (mask coefficients, key points, angles).
    pub class_count: Option<usize>,
}

impl DetectionsPlan {
    /// The usual parameters of a layout: YOLO boxes in pixels, SSD boxes normalised, suppression where the model does
    /// none itself.
    #[must_use]
    pub fn new(layout: DetectionLayout) -> Self {
        let (units, nms) = match layout {
            DetectionLayout::Objectness { .. } | DetectionLayout::Anchors { .. } => {
                (BoxUnits::InputPixels, Some(NmsPlan::default()))
            }
            DetectionLayout::EndToEnd { .. } => (BoxUnits::InputPixels, None),
            DetectionLayout::BoxesAndScores { .. } => (BoxUnits::Normalized, Some(NmsPlan::default())),
            DetectionLayout::Listed { .. } => (BoxUnits::Normalized, None),
        };
        Self {
            layout,
            units,
            score_min: 0.25,
            candidates_max: 1000,
            detections_max: 300,
            nms,
            only_classes: None,
            class_count: None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NmsPlan {
    /// The largest intersection over union of two boxes that both stay.
    pub iou_max: f32,
    /// Suppress across classes too: one thing, one box.
    pub across_classes: bool,
}

impl Default for NmsPlan {
    fn default() -> Self {
        Self { iou_max: 0.45, across_classes: false }
    }
}

/// Where boxes and scores lie in the outputs.
#[derive(Debug, Clone, PartialEq)]
pub enum DetectionLayout {
    /// YOLO v5 and v7, also YOLOX and v6: `[anchors, 5 + classes]`, a row is centre x, centre y, width, height,
    /// objectness, class scores. A score is objectness times class score.
    Objectness { tensor: Option<String> },
    /// YOLO v8, v9, v11: `[4 + classes, anchors]` or transposed, centre x, centre y, width, height, class scores.
    Anchors { tensor: Option<String>, axis: AnchorAxis },
    /// YOLO v10 and other exports with suppression inside: `[rows, 6]`, a row is x1, y1, x2, y2, score, class.
    EndToEnd { tensor: Option<String> },
    /// SSD, DETR: `[anchors, 4]` and `[anchors, classes]`; by position, boxes come first.
    BoxesAndScores {
        boxes: Option<String>,
        scores: Option<String>,
        form: BoxForm,
        background: Background,
        activation: Activation,
    },
    /// TensorFlow's detection postprocessing: `[rows, 4]`, `[rows]` class numbers (whole numbers of any type), `[rows]`
    /// scores; by position, in this order. Rows beyond `count` (a single number), if there is one, are padding.
    Listed {
        boxes: Option<String>,
        classes: Option<String>,
        /// The number that the model gives its first class: 0, or 1 where 0 stands for the background.
        class_first: u32,
        scores: Option<String>,
        count: Count,
        form: BoxForm,
    },
}

/// Which dimension of a `[4 + classes, anchors]` tensor is which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AnchorAxis {
    /// Told by the number of classes, or by the number of anchors that strides 8, 16 and 32 give for the input, or by
    /// one dimension being at least four times the other. A shape that stays ambiguous fails the frame.
    #[default]
    Auto,
    /// `[4 + classes, anchors]`
    Last,
    /// `[anchors, 4 + classes]`
    First,
}

/// The four numbers of a box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BoxForm {
    /// x1, y1, x2, y2
    CornersXFirst,
    /// y1, x1, y2, x2, as TensorFlow has them
    CornersYFirst,
    /// centre x, centre y, width, height
    Center,
}

/// What the four numbers are measured in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BoxUnits {
    /// Pixels of the model's input.
    InputPixels,
    /// 0 to 1 over the model's input, whatever was letterboxed into it.
    Normalized,
}

/// Which column of the scores stands for "nothing here". It is never a detection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Background {
    None,
    /// Column 0; column 1 is class 0.
    First,
    Last,
}

/// Whether a model says how many of its rows are filled.
#[derive(Debug, Clone, PartialEq)]
pub enum Count {
    None,
    /// The fourth output.
    ByPosition,
    Named(String),
}

/// One thing in a plan that cannot be right. Decoders of such a plan do not panic, but give nothing of use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanProblem {
    /// The parameter's name in the plan and in configurations.
    pub key: &'static str,
    pub found: String,
    pub expected: &'static str,
}

impl OutputPlan {
    /// Everything that is wrong with the parameters.
    #[must_use]
    pub fn problems(&self) -> Vec<PlanProblem> {
        let mut problems = Vec::new();
        let mut fraction = |key, value: f32| {
            if !(0.0..=1.0).contains(&value) {
                problems.push(PlanProblem { key, found: value.to_string(), expected: "0 to 1" });
            }
        };
        match self {
            Self::Nothing | Self::Tensors(_) | Self::Embedding(_) => {}
            Self::Classes(plan) => fraction("score_min", plan.score_min),
            Self::Detections(plan) => {
                fraction("score_min", plan.score_min);
                if let Some(nms) = plan.nms {
                    fraction("iou_max", nms.iou_max);
                }
            }
        }
        let mut positive = |key, value: usize| {
            if value == 0 {
                problems.push(PlanProblem { key, found: "0".to_owned(), expected: "at least 1" });
            }
        };
        match self {
            Self::Nothing | Self::Embedding(_) => {}
            Self::Tensors(plan) => positive("values_max", plan.values_max),
            Self::Classes(plan) => positive("top", plan.top),
            Self::Detections(plan) => {
                positive("candidates_max", plan.candidates_max);
                positive("detections_max", plan.detections_max);
                if let Some(count) = plan.class_count {
                    positive("class_count", count);
                }
                if let Some(only) = &plan.only_classes {
                    if only.is_empty() {
                        let found = "an empty list".to_owned();
                        problems.push(PlanProblem { key: "only_classes", found, expected: "at least one class" });
                    }
                    if let Some((found, _)) = plan
                        .class_count
                        .and_then(|count| only.iter().map(|&class| (class, count)).find(|&(c, n)| c as usize >= n))
                    {
                        let found = format!("class {found}");
                        problems.push(PlanProblem {
                            key: "only_classes",
                            found,
                            expected: "classes below class_count",
                        });
                    }
                }
            }
        }
        problems
    }

    /// Makes the decoders. `input` is the size of the model's input, which normalised boxes and the expected number of
    /// anchors are measured by.
    #[must_use]
    pub fn factory(&self, input: Size) -> Arc<dyn OutputDecoderFactory> {
        Arc::new(Factory { plan: self.clone(), input })
    }
}

struct Factory {
    plan: OutputPlan,
    input: Size,
}

impl OutputDecoderFactory for Factory {
    fn open(&self) -> Box<dyn OutputDecoder> {
        match &self.plan {
            OutputPlan::Nothing => Box::new(NothingDecoder),
            OutputPlan::Tensors(plan) => Box::new(tensors::TensorsDecoder::new(plan.clone())),
            OutputPlan::Classes(plan) => Box::new(classes::ClassesDecoder::new(plan.clone())),
            OutputPlan::Embedding(plan) => Box::new(embedding::EmbeddingDecoder::new(plan.clone())),
            OutputPlan::Detections(plan) => Box::new(detections::DetectionsDecoder::new(plan.clone(), self.input)),
        }
    }
}

struct NothingDecoder;

impl OutputDecoder for NothingDecoder {
    fn decode(&mut self, _outputs: &[TensorView<'_>], _fit: &Fit) -> Result<Output, OutputError> {
        Ok(Output::Nothing)
    }
}
