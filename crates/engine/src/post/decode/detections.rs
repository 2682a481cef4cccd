//! Detectors: from the candidates of any layout to boxes on the original picture.
//!
//! A layout only says which rows pass the threshold, and what box and class a row has; bounding, suppressing, mapping
//! and clipping happen here, once for all layouts. Suppression works on the boxes as the model gave them (in pixels of
//! its input, not clipped), as in training, where a box cut off by the edge still counts whole.

use omma_frame::{Detection, Output, Size};

use super::super::nms::{Nms, keep_best, unrank};
use super::super::{OutputDecoder, OutputError};
use super::listed::ClassNumbers;
use super::scan::{Candidates, Place};
use super::view::unreadable;
use super::{AnchorAxis, BoxForm, BoxUnits, DetectionLayout, DetectionsPlan};
use super::{listed, ssd, yolo};
use crate::picture::Fit;
use crate::tensor::TensorView;

/// What a layout knows of the rows that it has offered as candidates.
pub(super) trait Rows {
    /// Where the boxes stand.
    fn place(&self) -> Place<'_>;
    /// The four numbers of a row's box.
    fn numbers(&self, row: usize) -> [f32; 4];
    /// The class of a row's best score.
    ///
    /// # Errors
    /// The model gives the class as a number, and this is none.
    fn class(&self, row: usize) -> Result<u32, OutputError>;
}

pub(super) struct DetectionsDecoder {
    plan: DetectionsPlan,
    input: Size,
    candidates: Candidates,
    /// The best score of each anchor, for layouts that hold one plane per class.
    best: Vec<f32>,
    finish: Finish,
}

/// What happens to candidates, whatever layout they come from.
struct Finish {
    form: BoxForm,
    unit_x: f32,
    unit_y: f32,
    candidates_max: usize,
    detections_max: usize,
    /// Sorted.
    only_classes: Option<Vec<u32>>,
    nms: Option<Nms>,
    /// Candidates in pixels of the model's input, best first.
    boxes: Vec<Detection>,
}

impl DetectionsDecoder {
    pub(super) fn new(plan: DetectionsPlan, input: Size) -> Self {
        let form = match plan.layout {
            DetectionLayout::Objectness { .. } | DetectionLayout::Anchors { .. } => BoxForm::Center,
            DetectionLayout::EndToEnd { .. } => BoxForm::CornersXFirst,
            DetectionLayout::BoxesAndScores { form, .. } | DetectionLayout::Listed { form, .. } => form,
        };
        let (unit_x, unit_y) = match plan.units {
            BoxUnits::InputPixels => (1.0, 1.0),
            BoxUnits::Normalized => (input.width as f32, input.height as f32),
        };
        let mut only_classes = plan.only_classes.clone();
        if let Some(only) = &mut only_classes {
            only.sort_unstable();
        }
        let finish = Finish {
            form,
            unit_x,
            unit_y,
            candidates_max: plan.candidates_max,
            detections_max: plan.detections_max,
            only_classes,
            nms: plan.nms.map(|nms| Nms::new(nms.iou_max, nms.across_classes)),
            boxes: Vec::new(),
        };
        Self { candidates: Candidates::new(plan.score_min), best: Vec::new(), plan, input, finish }
    }
}

impl OutputDecoder for DetectionsDecoder {
    fn decode(&mut self, outputs: &[TensorView<'_>], fit: &Fit) -> Result<Output, OutputError> {
        check_fit(fit)?;
        let Self { plan, input, candidates, best, finish } = self;
        let count = plan.class_count;
        candidates.keys.clear();
        let detections = match &plan.layout {
            DetectionLayout::Objectness { tensor } => {
                let rows = yolo::Objectness::read(outputs, tensor.as_deref(), count)?;
                rows.scan(candidates)?;
                finish.run(candidates, &rows, fit)?
            }
            DetectionLayout::Anchors { tensor, axis } => {
                let matrix = yolo::AnchorMatrix::read(outputs, tensor.as_deref())?;
                match matrix.axis(*axis, count, *input)? {
                    AnchorAxis::First => {
                        let rows = matrix.rows();
                        rows.scan(candidates)?;
                        finish.run(candidates, &rows, fit)?
                    }
                    AnchorAxis::Last | AnchorAxis::Auto => {
                        let planes = matrix.planes();
                        planes.scan(best, candidates)?;
                        finish.run(candidates, &planes, fit)?
                    }
                }
            }
            DetectionLayout::EndToEnd { tensor } => {
                let rows = listed::EndToEnd::read(outputs, tensor.as_deref(), ClassNumbers { first: 0, count })?;
                rows.scan(candidates)?;
                finish.run(candidates, &rows, fit)?
            }
            DetectionLayout::BoxesAndScores { boxes, scores, background, activation, .. } => {
                let names = (boxes.as_deref(), scores.as_deref());
                let rows = ssd::BoxesAndScores::read(outputs, names, *background, *activation, count)?;
                rows.scan(candidates)?;
                finish.run(candidates, &rows, fit)?
            }
            DetectionLayout::Listed { boxes, classes, class_first, scores, count: filled, .. } => {
                let names = [boxes.as_deref(), classes.as_deref(), scores.as_deref()];
                let numbers = ClassNumbers { first: *class_first, count };
                let rows = listed::Listed::read(outputs, names, filled, numbers)?;
                rows.scan(candidates)?;
                finish.run(candidates, &rows, fit)?
            }
        };
        Ok(Output::Detections(detections))
    }
}

impl Finish {
    fn run(&mut self, candidates: &mut Candidates, rows: &impl Rows, fit: &Fit) -> Result<Vec<Detection>, OutputError> {
        let keys = &mut candidates.keys;
        if let Some(only) = &self.only_classes {
            let mut failed = None;
            keys.retain(|&key| match rows.class(unrank(key).1 as usize) {
                Ok(class) => only.binary_search(&class).is_ok(),
                Err(error) => {
                    failed.get_or_insert(error);
                    false
                }
            });
            if let Some(error) = failed {
                return Err(error);
            }
        }
        keep_best(keys, self.candidates_max);
        self.boxes.clear();
        for &key in keys.iter() {
            let (score, row) = unrank(key);
            let row = row as usize;
            let numbers = rows.numbers(row);
            let corners = self.corners(numbers);
            if corners.iter().any(|value| !value.is_finite()) {
                return Err(rows.place().unreadable(row, numbers, "a box of finite numbers"));
            }
            let [x1, y1, x2, y2] = corners;
            let candidate = Detection { class: rows.class(row)?, score, x1, y1, x2, y2 };
            // Before suppression: what nobody will see must not suppress what somebody would.
            if on_picture(&candidate, fit).is_some() {
                self.boxes.push(candidate);
            }
        }
        Ok(match &mut self.nms {
            Some(nms) => {
                let kept = nms.keep(&self.boxes, self.detections_max);
                let mut detections = Vec::with_capacity(kept.len());
                detections.extend(kept.iter().filter_map(|&index| on_picture(&self.boxes[index as usize], fit)));
                detections
            }
            None => {
                let kept = &self.boxes[..self.boxes.len().min(self.detections_max)];
                let mut detections = Vec::with_capacity(kept.len());
                detections.extend(kept.iter().filter_map(|candidate| on_picture(candidate, fit)));
                detections
            }
        })
    }

    /// x1, y1, x2, y2 in pixels of the model's input.
    fn corners(&self, [a, b, c, d]: [f32; 4]) -> [f32; 4] {
        let [x1, y1, x2, y2] = match self.form {
            BoxForm::CornersXFirst => [a, b, c, d],
            BoxForm::CornersYFirst => [b, a, d, c],
            BoxForm::Center => [a - c / 2.0, b - d / 2.0, a + c / 2.0, b + d / 2.0],
        };
        [x1 * self.unit_x, y1 * self.unit_y, x2 * self.unit_x, y2 * self.unit_y]
    }
}

/// Where a box of the input lies on the original picture, clipped to it; `None` if nothing of it does.
fn on_picture(candidate: &Detection, fit: &Fit) -> Option<Detection> {
    let (x1, y1) = fit.to_original(candidate.x1, candidate.y1);
    let (x2, y2) = fit.to_original(candidate.x2, candidate.y2);
    let (width, height) = (fit.original.width as f32, fit.original.height as f32);
    let (x1, x2) = (x1.clamp(0.0, width), x2.clamp(0.0, width));
    let (y1, y2) = (y1.clamp(0.0, height), y2.clamp(0.0, height));
    (x2 > x1 && y2 > y1).then_some(Detection { class: candidate.class, score: candidate.score, x1, y1, x2, y2 })
}

/// A fit without a scale would turn every box into none, which looks like a picture with nothing on it.
fn check_fit(fit: &Fit) -> Result<(), OutputError> {
    let scale = |value: f32| value.is_finite() && value > 0.0;
    if scale(fit.scale_x) && scale(fit.scale_y) && fit.offset_x.is_finite() && fit.offset_y.is_finite() {
        Ok(())
    } else {
        Err(unreadable(format_args!("boxes cannot be mapped to the picture: {fit:?}, expected finite positive scales")))
    }
}
