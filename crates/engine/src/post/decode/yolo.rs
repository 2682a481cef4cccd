//! The YOLO families' grids: `[anchors, 5 + classes]` with objectness, `[4 + classes, anchors]` and its transpose.

use omma_frame::Size;

use super::super::OutputError;
use super::AnchorAxis;
use super::classes::SCORE_MAX;
use super::detections::Rows;
use super::scan::{Candidates, Place, best_of_planes, best_of_row, first_best};
use super::view::{find, floats, matrix, unreadable, wrong_shape};
use crate::tensor::TensorView;

/// A box's numbers stand before its scores.
const BOX: usize = 4;

/// "with 80 classes", for messages about shapes.
fn with_classes(shape: &str, count: Option<usize>) -> String {
    match count {
        Some(count) => format!("{shape} with {count} classes"),
        None => format!("{shape} with at least 1 class"),
    }
}

/// Whether `columns` are `before` columns and the classes' scores.
fn holds_classes(columns: usize, before: usize, count: Option<usize>) -> bool {
    columns.checked_sub(before).is_some_and(|classes| classes > 0 && count.is_none_or(|count| classes == count))
}

/// Rows of one anchor each, scores from column `before` on.
pub(super) struct AnchorRows<'a> {
    tensor: &'a str,
    values: &'a [f32],
    columns: usize,
    before: usize,
}

impl<'a> AnchorRows<'a> {
    fn rows(&self) -> impl Iterator<Item = &'a [f32]> {
        self.values.chunks_exact(self.columns)
    }

    fn row(&self, row: usize) -> &'a [f32] {
        &self.values[row * self.columns..(row + 1) * self.columns]
    }

    pub(super) fn scan(&self, candidates: &mut Candidates) -> Result<(), OutputError> {
        for (anchor, row) in self.rows().enumerate() {
            candidates.offer(best_of_row(&row[self.before..]), anchor, self.place())?;
        }
        Ok(())
    }
}

impl Rows for AnchorRows<'_> {
    fn place(&self) -> Place<'_> {
        Place { tensor: self.tensor, item: "anchor" }
    }

    fn numbers(&self, row: usize) -> [f32; 4] {
        let row = self.row(row);
        [row[0], row[1], row[2], row[3]]
    }

    fn class(&self, row: usize) -> Result<u32, OutputError> {
        Ok(first_best(self.row(row)[self.before..].iter().copied()))
    }
}

/// `[anchors, 5 + classes]`: x, y, width, height, objectness, scores.
pub(super) struct Objectness<'a>(AnchorRows<'a>);

impl<'a> Objectness<'a> {
    pub(super) fn read(
        outputs: &[TensorView<'a>],
        name: Option<&str>,
        count: Option<usize>,
    ) -> Result<Self, OutputError> {
        const EXPECTED: &str = "[anchors, 5 + classes]";
        let tensor = find(outputs, name, 0)?;
        let (_, columns) = matrix(&tensor, EXPECTED)?;
        if !holds_classes(columns, BOX + 1, count) {
            return Err(wrong_shape(&tensor, &with_classes(EXPECTED, count)));
        }
        Ok(Self(AnchorRows { tensor: tensor.name, values: floats(&tensor)?, columns, before: BOX + 1 }))
    }

    /// Class scores are at most 1, so objectness alone decides for most anchors that they are out, and their class
    /// scores are never read.
    pub(super) fn scan(&self, candidates: &mut Candidates) -> Result<(), OutputError> {
        let place = self.place();
        for (anchor, row) in self.0.rows().enumerate() {
            let objectness = row[BOX];
            if objectness < candidates.threshold() {
                continue;
            }
            let score = best_of_row(&row[BOX + 1..]);
            // One that was never a score must not hide behind the other.
            let highest = if score > objectness { score } else { objectness };
            let product = if highest > SCORE_MAX { highest } else { objectness * score };
            candidates.offer(product, anchor, place)?;
        }
        Ok(())
    }
}

impl Rows for Objectness<'_> {
    fn place(&self) -> Place<'_> {
        self.0.place()
    }

    fn numbers(&self, row: usize) -> [f32; 4] {
        self.0.numbers(row)
    }

    fn class(&self, row: usize) -> Result<u32, OutputError> {
        self.0.class(row)
    }
}

/// `[4 + classes, anchors]` or transposed, before it is known which.
pub(super) struct AnchorMatrix<'a> {
    tensor: TensorView<'a>,
    values: &'a [f32],
    rows: usize,
    columns: usize,
}

impl<'a> AnchorMatrix<'a> {
    pub(super) fn read(outputs: &[TensorView<'a>], name: Option<&str>) -> Result<Self, OutputError> {
        let tensor = find(outputs, name, 0)?;
        let (rows, columns) = matrix(&tensor, "[4 + classes, anchors]")?;
        Ok(Self { tensor, values: floats(&tensor)?, rows, columns })
    }

    /// Which dimension holds the anchors, as configured or as the shape tells.
    pub(super) fn axis(&self, axis: AnchorAxis, count: Option<usize>, input: Size) -> Result<AnchorAxis, OutputError> {
        let last = holds_classes(self.rows, BOX, count);
        let first = holds_classes(self.columns, BOX, count);
        let (fits, expected) = match axis {
            AnchorAxis::Last => (last, "[4 + classes, anchors]"),
            AnchorAxis::First => (first, "[anchors, 4 + classes]"),
            AnchorAxis::Auto => (last || first, "[4 + classes, anchors] or [anchors, 4 + classes]"),
        };
        if !fits {
            return Err(wrong_shape(&self.tensor, &with_classes(expected, count)));
        }
        if axis != AnchorAxis::Auto {
            return Ok(axis);
        }
        anchor_axis((self.rows, last), (self.columns, first), input).ok_or_else(|| {
            unreadable(format_args!(
                "output \"{}\" has shape {:?}, which may be [4 + classes, anchors] or [anchors, 4 + classes]: say which",
                self.tensor.name, self.tensor.shape
            ))
        })
    }

    pub(super) fn rows(&self) -> AnchorRows<'a> {
        AnchorRows { tensor: self.tensor.name, values: self.values, columns: self.columns, before: BOX }
    }

    pub(super) fn planes(&self) -> AnchorPlanes<'a> {
        AnchorPlanes { tensor: self.tensor.name, values: self.values, anchors: self.columns }
    }
}

/// Anchors of a grid of one per cell at strides 8, 16 and 32, as the families have them.
pub(super) fn grid_anchors(input: Size) -> usize {
    [8, 16, 32].map(|stride| (input.width / stride) as usize * (input.height / stride) as usize).iter().sum()
}

/// Tells `[4 + classes, anchors]` from its transpose. Each dimension comes with whether it could be `4 + classes`.
pub(super) fn anchor_axis(
    (rows, rows_hold_classes): (usize, bool),
    (columns, columns_hold_classes): (usize, bool),
    input: Size,
) -> Option<AnchorAxis> {
    let grid = grid_anchors(input);
    match (rows_hold_classes, columns_hold_classes) {
        (true, false) => Some(AnchorAxis::Last),
        (false, true) => Some(AnchorAxis::First),
        (false, false) => None,
        (true, true) if (columns == grid) != (rows == grid) => {
            Some(if columns == grid { AnchorAxis::Last } else { AnchorAxis::First })
        }
        // No model has a quarter as many classes as anchors.
        (true, true) if columns / 4 >= rows => Some(AnchorAxis::Last),
        (true, true) if rows / 4 >= columns => Some(AnchorAxis::First),
        (true, true) => None,
    }
}

/// `[4 + classes, anchors]`: one plane of all anchors per number.
pub(super) struct AnchorPlanes<'a> {
    tensor: &'a str,
    values: &'a [f32],
    anchors: usize,
}

impl AnchorPlanes<'_> {
    fn scores(&self) -> &[f32] {
        &self.values[BOX * self.anchors..]
    }

    fn scores_of(&self, anchor: usize) -> impl Iterator<Item = f32> {
        self.scores()[anchor..].iter().step_by(self.anchors).copied()
    }

    pub(super) fn scan(&self, best: &mut Vec<f32>, candidates: &mut Candidates) -> Result<(), OutputError> {
        best.resize(self.anchors, 0.0);
        let scores = self.scores();
        if !best_of_planes(scores, best) {
            // Once in a broken model's life, so the place may cost a second pass.
            let at = scores.iter().position(|score| score.is_nan()).unwrap_or_default();
            let (class, anchor) = (at / self.anchors, at % self.anchors);
            return Err(unreadable(format_args!(
                "output \"{}\" has NaN as the score of class {class} at anchor {anchor}, expected a score from 0 to 1",
                self.tensor
            )));
        }
        for (anchor, &score) in best.iter().enumerate() {
            candidates.offer(score, anchor, self.place())?;
        }
        Ok(())
    }
}

impl Rows for AnchorPlanes<'_> {
    fn place(&self) -> Place<'_> {
        Place { tensor: self.tensor, item: "anchor" }
    }

    fn numbers(&self, row: usize) -> [f32; 4] {
        [0, 1, 2, 3].map(|plane| self.values[plane * self.anchors + row])
    }

    fn class(&self, row: usize) -> Result<u32, OutputError> {
        Ok(first_best(self.scores_of(row)))
    }
}
