//! SSD and DETR: boxes and class scores of the same anchors in two tensors.

use super::super::OutputError;
use super::classes::sigmoid;
use super::detections::Rows;
use super::scan::{Candidates, Place, best_of_row, first_best};
use super::view::{find, floats, matrix, wrong_shape};
use super::{Activation, Background};
use crate::tensor::TensorView;

/// `[anchors, 4]` and `[anchors, classes]`
pub(super) struct BoxesAndScores<'a> {
    boxes: (&'a str, &'a [[f32; 4]]),
    scores: (&'a str, &'a [f32]),
    columns: usize,
    background: Background,
    activation: Activation,
}

impl<'a> BoxesAndScores<'a> {
    pub(super) fn read(
        outputs: &[TensorView<'a>],
        (boxes, scores): (Option<&str>, Option<&str>),
        background: Background,
        activation: Activation,
        count: Option<usize>,
    ) -> Result<Self, OutputError> {
        const BOXES: &str = "[anchors, 4]";
        let boxes = find(outputs, boxes, 0)?;
        let (anchors, 4) = matrix(&boxes, BOXES)? else { return Err(wrong_shape(&boxes, BOXES)) };
        let scores = find(outputs, scores, 1)?;
        let (rows, columns) = matrix(&scores, "[anchors, classes]")?;
        let classes = columns.saturating_sub(usize::from(background != Background::None));
        if rows != anchors || classes == 0 || count.is_some_and(|count| count != classes) {
            let classes = count.map_or("classes".to_owned(), |count| count.to_string());
            let background = if background == Background::None { "" } else { " + background" };
            return Err(wrong_shape(
                &scores,
                &format!("[{anchors}, {classes}{background}] to go with \"{}\"", boxes.name),
            ));
        }
        Ok(Self {
            boxes: (boxes.name, floats(&boxes)?.as_chunks().0),
            scores: (scores.name, floats(&scores)?),
            columns,
            background,
            activation,
        })
    }

    /// The scores of the classes, without the background's, and the background's.
    fn split<'r>(&self, row: &'r [f32]) -> (&'r [f32], f32) {
        match (self.background, row) {
            (Background::First, [background, classes @ ..]) => (classes, *background),
            (Background::Last, [classes @ .., background]) => (classes, *background),
            _ => (row, f32::NEG_INFINITY),
        }
    }

    pub(super) fn scan(&self, candidates: &mut Candidates) -> Result<(), OutputError> {
        let place = Place { tensor: self.scores.0, item: "anchor" };
        for (anchor, row) in self.scores.1.chunks_exact(self.columns).enumerate() {
            let (classes, background) = self.split(row);
            let best = best_of_row(classes);
            let highest = if background > best { background } else { best };
            let overflows = highest.is_nan() || highest == f32::INFINITY;
            if background.is_nan() || (overflows && self.activation != Activation::None) {
                return Err(place.unreadable(anchor, row_extreme(row), "finite numbers"));
            }
            let score = match self.activation {
                Activation::None => best,
                Activation::Sigmoid => sigmoid(best),
                // The other classes only lower the best one's share: against the background alone it is an upper
                // bound, and spares most anchors the sum.
                Activation::Softmax if sigmoid(best - background) < candidates.threshold() => continue,
                Activation::Softmax => {
                    (best - highest).exp() / row.iter().map(|&logit| (logit - highest).exp()).sum::<f32>()
                }
            };
            candidates.offer(score, anchor, place)?;
        }
        Ok(())
    }
}

/// The value of a row that made it unreadable: one that is not a number, or else the highest.
fn row_extreme(row: &[f32]) -> f32 {
    row.iter().copied().find(|value| value.is_nan()).unwrap_or_else(|| best_of_row(row))
}

impl Rows for BoxesAndScores<'_> {
    fn place(&self) -> Place<'_> {
        Place { tensor: self.boxes.0, item: "anchor" }
    }

    fn numbers(&self, row: usize) -> [f32; 4] {
        self.boxes.1[row]
    }

    fn class(&self, row: usize) -> Result<u32, OutputError> {
        let row = &self.scores.1[row * self.columns..(row + 1) * self.columns];
        Ok(first_best(self.split(row).0.iter().copied()))
    }
}
