//! Models that have picked their detections themselves: one row each, with score and class.

use super::super::OutputError;
use super::Count;
use super::detections::Rows;
use super::scan::{Candidates, Place};
use super::view::{find, floats, matrix, number, unreadable, vector, wrong_shape};
use crate::tensor::{TensorView, Values};

/// Which numbers a model may write as classes.
#[derive(Clone, Copy)]
pub(super) struct ClassNumbers {
    /// The number of class 0.
    pub(super) first: u32,
    pub(super) count: Option<usize>,
}

impl ClassNumbers {
    /// The class: a whole number up to rounding, one of those that there are.
    fn class(self, tensor: &str, row: usize, number: f64) -> Result<u32, OutputError> {
        let whole = number.round();
        let class = whole - f64::from(self.first);
        let last = self.count.map_or(u32::MAX, |count| u32::try_from(count.saturating_sub(1)).unwrap_or(u32::MAX));
        if (number - whole).abs() <= 0.01 && (0.0..=f64::from(last)).contains(&class) {
            return Ok(class as u32);
        }
        let (from, to) = (self.first, u64::from(self.first) + u64::from(last));
        let range = if self.count.is_some() { format!("{from} to {to}") } else { from.to_string() };
        Err(unreadable(format_args!(
            "output \"{tensor}\" has class {number} in row {row}, expected a whole number from {range}"
        )))
    }
}

/// `[rows, 6]`: x1, y1, x2, y2, score, class
pub(super) struct EndToEnd<'a> {
    tensor: &'a str,
    rows: &'a [[f32; 6]],
    numbers: ClassNumbers,
}

impl<'a> EndToEnd<'a> {
    pub(super) fn read(
        outputs: &[TensorView<'a>],
        name: Option<&str>,
        numbers: ClassNumbers,
    ) -> Result<Self, OutputError> {
        const EXPECTED: &str = "[rows, 6] (x1, y1, x2, y2, score, class)";
        let tensor = find(outputs, name, 0)?;
        if matrix(&tensor, EXPECTED)?.1 != 6 {
            return Err(wrong_shape(&tensor, EXPECTED));
        }
        Ok(Self { tensor: tensor.name, rows: floats(&tensor)?.as_chunks().0, numbers })
    }

    pub(super) fn scan(&self, candidates: &mut Candidates) -> Result<(), OutputError> {
        for (row, values) in self.rows.iter().enumerate() {
            candidates.offer(values[4], row, self.place())?;
        }
        Ok(())
    }
}

impl Rows for EndToEnd<'_> {
    fn place(&self) -> Place<'_> {
        Place { tensor: self.tensor, item: "row" }
    }

    fn numbers(&self, row: usize) -> [f32; 4] {
        let [a, b, c, d, ..] = self.rows[row];
        [a, b, c, d]
    }

    fn class(&self, row: usize) -> Result<u32, OutputError> {
        self.numbers.class(self.tensor, row, f64::from(self.rows[row][5]))
    }
}

/// Boxes, class numbers and scores as tensors of their own, and perhaps how many of their rows are filled.
pub(super) struct Listed<'a> {
    boxes: (&'a str, &'a [[f32; 4]]),
    classes: (&'a str, Values<'a>),
    scores: (&'a str, &'a [f32]),
    filled: usize,
    numbers: ClassNumbers,
}

impl<'a> Listed<'a> {
    pub(super) fn read(
        outputs: &[TensorView<'a>],
        [boxes, classes, scores]: [Option<&str>; 3],
        count: &Count,
        numbers: ClassNumbers,
    ) -> Result<Self, OutputError> {
        const BOXES: &str = "[rows, 4]";
        let boxes = find(outputs, boxes, 0)?;
        let (rows, 4) = matrix(&boxes, BOXES)? else { return Err(wrong_shape(&boxes, BOXES)) };
        let classes = find(outputs, classes, 1)?;
        let scores = find(outputs, scores, 2)?;
        for tensor in [&classes, &scores] {
            if vector(tensor, "[rows]")? != rows {
                return Err(wrong_shape(tensor, &format!("[{rows}], one value per row of \"{}\"", boxes.name)));
            }
        }
        let filled = match count {
            Count::None => rows,
            Count::ByPosition => filled_rows(&find(outputs, None, 3)?, rows)?,
            Count::Named(name) => filled_rows(&find(outputs, Some(name), 3)?, rows)?,
        };
        Ok(Self {
            boxes: (boxes.name, floats(&boxes)?.as_chunks().0),
            classes: (classes.name, classes.values),
            scores: (scores.name, floats(&scores)?),
            filled,
            numbers,
        })
    }

    pub(super) fn scan(&self, candidates: &mut Candidates) -> Result<(), OutputError> {
        let place = Place { tensor: self.scores.0, item: "row" };
        for (row, &score) in self.scores.1[..self.filled].iter().enumerate() {
            candidates.offer(score, row, place)?;
        }
        Ok(())
    }
}

impl Rows for Listed<'_> {
    fn place(&self) -> Place<'_> {
        Place { tensor: self.boxes.0, item: "row" }
    }

    fn numbers(&self, row: usize) -> [f32; 4] {
        self.boxes.1[row]
    }

    fn class(&self, row: usize) -> Result<u32, OutputError> {
        // There is a class for every row: lengths were compared.
        self.numbers.class(self.classes.0, row, number(&self.classes.1, row).unwrap_or(f64::NAN))
    }
}

fn filled_rows(count: &TensorView<'_>, rows: usize) -> Result<usize, OutputError> {
    let given = match count.values.len() {
        1 => number(&count.values, 0).unwrap_or(f64::NAN),
        _ => return Err(wrong_shape(count, "a single number")),
    };
    if given.fract() == 0.0 && (0.0..=rows as f64).contains(&given) {
        Ok(given as usize)
    } else {
        Err(unreadable(format_args!("output \"{}\" is {given}, expected a whole number from 0 to {rows}", count.name)))
    }
}
