//! What every detector must do, whatever its layout. Here: models of each layout, drawn by hand, that the tests share.

mod laws;
mod reads;
mod refuses;

use omma_frame::Detection;

use super::*;
use crate::picture::Resize;
use crate::tensor::Values;

const INPUT: Size = Size { width: 64, height: 64 };
/// Twice as wide as high: letterboxed into the input at scale 0.25 with 16 rows of padding above and below.
const PICTURE: Size = Size { width: 256, height: 128 };

pub(super) fn tensor<'a>(name: &'a str, shape: &'a [usize], values: &'a [f32]) -> TensorView<'a> {
    TensorView { name, shape, values: Values::F32(values) }
}

pub(super) fn open(plan: &OutputPlan) -> Box<dyn OutputDecoder> {
    plan.factory(INPUT).open()
}

pub(super) fn fit_one_to_one() -> Fit {
    Fit::new(INPUT, INPUT, Resize::Stretch)
}

pub(super) fn message(decoded: Result<Output, OutputError>) -> String {
    decoded.map_or_else(|error| error.message, |output| format!("no error, but {output:?}"))
}

fn letterboxed() -> Fit {
    Fit::new(PICTURE, INPUT, Resize::Letterbox { pad: 114 })
}

fn detections(plan: &DetectionsPlan, outputs: &[TensorView<'_>], fit: &Fit) -> Result<Vec<Detection>, OutputError> {
    match open(&OutputPlan::Detections(plan.clone())).decode(outputs, fit)? {
        Output::Detections(detections) => Ok(detections),
        other => panic!("expected detections, found {other:?}"),
    }
}

fn detection(class: u32, score: f32, [x1, y1, x2, y2]: [f32; 4]) -> Detection {
    Detection { class, score, x1, y1, x2, y2 }
}

/// A thing as a test draws it: class, score, and the box's corners in pixels of the input.
type Thing = (u32, f32, [f32; 4]);

/// One frame's outputs, owned: name, shape, values.
type Tensors = Vec<(&'static str, Vec<usize>, Vec<f32>)>;

fn views(tensors: &Tensors) -> Vec<TensorView<'_>> {
    tensors.iter().map(|(name, shape, values)| tensor(name, shape, values)).collect()
}

fn transposed(values: &[f32], columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|column| values.iter().skip(column).step_by(columns).copied()).collect()
}

/// The layouts, with the encoder that a model would be.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Family {
    Objectness,
    AnchorsLast,
    AnchorsFirst,
    EndToEnd,
    Ssd(BoxForm, Background, Activation),
    Listed(BoxForm, bool),
}

const FAMILIES: [Family; 11] = [
    Family::Objectness,
    Family::AnchorsLast,
    Family::AnchorsFirst,
    Family::EndToEnd,
    Family::Ssd(BoxForm::CornersXFirst, Background::None, Activation::None),
    Family::Ssd(BoxForm::CornersYFirst, Background::First, Activation::None),
    Family::Ssd(BoxForm::CornersXFirst, Background::First, Activation::Softmax),
    Family::Ssd(BoxForm::Center, Background::Last, Activation::Softmax),
    Family::Ssd(BoxForm::Center, Background::None, Activation::Sigmoid),
    Family::Listed(BoxForm::CornersYFirst, true),
    Family::Listed(BoxForm::CornersXFirst, false),
];

const CLASSES: usize = 3;

impl Family {
    fn plan(self) -> DetectionsPlan {
        let layout = match self {
            Self::Objectness => DetectionLayout::Objectness { tensor: None },
            Self::AnchorsLast => DetectionLayout::Anchors { tensor: None, axis: AnchorAxis::Last },
            Self::AnchorsFirst => DetectionLayout::Anchors { tensor: None, axis: AnchorAxis::First },
            Self::EndToEnd => DetectionLayout::EndToEnd { tensor: None },
            Self::Ssd(form, background, activation) => {
                DetectionLayout::BoxesAndScores { boxes: None, scores: None, form, background, activation }
            }
            Self::Listed(form, counted) => DetectionLayout::Listed {
                boxes: None,
                classes: None,
                class_first: 0,
                scores: None,
                count: if counted { Count::ByPosition } else { Count::None },
                form,
            },
        };
        DetectionsPlan { class_count: Some(CLASSES), ..DetectionsPlan::new(layout) }
    }

    fn units(self) -> f32 {
        match self {
            Self::Ssd(..) | Self::Listed(..) => INPUT.width as f32,
            _ => 1.0,
        }
    }

    fn numbers(self, [x1, y1, x2, y2]: [f32; 4]) -> [f32; 4] {
        let form = match self {
            Self::Objectness | Self::AnchorsLast | Self::AnchorsFirst => BoxForm::Center,
            Self::EndToEnd => BoxForm::CornersXFirst,
            Self::Ssd(form, ..) | Self::Listed(form, _) => form,
        };
        let numbers = match form {
            BoxForm::CornersXFirst => [x1, y1, x2, y2],
            BoxForm::CornersYFirst => [y1, x1, y2, x2],
            BoxForm::Center => [(x1 + x2) / 2.0, (y1 + y2) / 2.0, x2 - x1, y2 - y1],
        };
        numbers.map(|number| number / self.units())
    }

    /// What a model of this family gives for these things.
    fn encode(self, things: &[Thing]) -> Tensors {
        let count = things.len();
        let boxes: Vec<f32> = things.iter().flat_map(|thing| self.numbers(thing.2)).collect();
        let one_hot = |thing: &Thing, hot: f32, cold: f32| {
            let class = thing.0 as usize;
            (0..CLASSES).map(move |c| if c == class { hot } else { cold }).collect::<Vec<_>>()
        };
        let rows = |row: &dyn Fn(&Thing) -> Vec<f32>| {
            let head = |thing: &Thing| self.numbers(thing.2).into_iter();
            things.iter().flat_map(|thing| head(thing).chain(row(thing))).collect::<Vec<_>>()
        };
        match self {
            Self::Objectness => {
                let values = rows(&|t| [vec![t.1], one_hot(t, 1.0, 0.1)].concat());
                vec![("output", vec![count, 5 + CLASSES], values)]
            }
            Self::AnchorsFirst => {
                vec![("output", vec![count, 4 + CLASSES], rows(&|t| one_hot(t, t.1, t.1 / 2.0)))]
            }
            Self::AnchorsLast => {
                let values = transposed(&rows(&|t| one_hot(t, t.1, t.1 / 2.0)), 4 + CLASSES);
                vec![("output", vec![4 + CLASSES, count], values)]
            }
            Self::EndToEnd => vec![("output", vec![count, 6], rows(&|t| vec![t.1, t.0 as f32]))],
            Self::Ssd(_, background, activation) => {
                let scores: Vec<f32> = things
                    .iter()
                    .flat_map(|thing| {
                        let score = thing.1;
                        let (hot, cold) = match activation {
                            Activation::None => (score, score / 2.0),
                            Activation::Sigmoid => ((score / (1.0 - score)).ln(), -20.0),
                            // The background takes what the class leaves.
                            Activation::Softmax => (score.ln(), -60.0),
                        };
                        let rest = if activation == Activation::Softmax { (1.0 - score).ln() } else { 0.99 };
                        let classes = one_hot(thing, hot, cold);
                        match background {
                            Background::None => classes,
                            Background::First => [vec![rest], classes].concat(),
                            Background::Last => [classes, vec![rest]].concat(),
                        }
                    })
                    .collect();
                let columns = CLASSES + usize::from(background != Background::None);
                vec![("boxes", vec![count, 4], boxes), ("scores", vec![count, columns], scores)]
            }
            Self::Listed(..) => vec![
                ("boxes", vec![count, 4], boxes),
                ("classes", vec![count], things.iter().map(|thing| thing.0 as f32).collect()),
                ("scores", vec![count], things.iter().map(|thing| thing.1).collect()),
                ("count", vec![], vec![count as f32]),
            ],
        }
    }
}

fn close(found: &[Detection], expected: &[Detection], tolerance: f32) -> bool {
    found.len() == expected.len()
        && found.iter().zip(expected).all(|(a, b)| {
            let pairs = [(a.x1, b.x1), (a.y1, b.y1), (a.x2, b.x2), (a.y2, b.y2)];
            a.class == b.class
                && (a.score - b.score).abs() < 1e-4
                && pairs.iter().all(|(a, b)| (a - b).abs() < tolerance)
        })
}
