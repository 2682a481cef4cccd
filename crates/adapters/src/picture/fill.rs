//! The last pass: interleaved `u8` pixels of the placed size become the slot's values.
//! 320x320x3 to `f32` planes takes about 20 us.

use std::sync::Arc;

use half::f16;
use half::slice::{HalfBitsSliceExt as _, HalfFloatSliceExt as _};
use omma_engine::picture::{Color, Layout, PictureSpec, Resize};
use omma_engine::tensor::{DType, as_f16_bits_mut, as_f32_mut};
use omma_frame::Size;

use super::kernel::{PATTERN, expand, luma, scale_f32, split_f32, split_u8, swap};
use super::place::{Placement, grown};

pub(super) struct Filler {
    size: Size,
    dtype: DType,
    planar: bool,
    color: Color,
    /// Per channel of `color`: `value = pixel * factor + term`.
    factor: [f32; 3],
    term: [f32; 3],
    factors: [f32; PATTERN],
    terms: [f32; PATTERN],
    /// One row of padding as if it were a picture's.
    pad_row: Arc<[u8]>,
    /// One row in the model's colour, where the picture's is another.
    row: Vec<u8>,
    /// One row in full floats, where the model's are half.
    full: Vec<f32>,
}

impl Filler {
    pub(super) fn new(spec: &PictureSpec) -> Self {
        let channels = spec.color.channels();
        let factor = spec.std.map(|std| spec.scale / std);
        let mut term = [0.0; 3];
        for (term, (mean, std)) in term.iter_mut().zip(spec.mean.iter().zip(spec.std)) {
            *term = -mean / std;
        }
        let pad = match spec.resize {
            Resize::Letterbox { pad } => pad,
            Resize::Stretch => 0,
        };
        let row_bytes = spec.size.width as usize * channels;
        Self {
            size: spec.size,
            dtype: spec.dtype,
            // One channel lies the same either way.
            planar: spec.layout == Layout::Nchw && channels > 1,
            color: spec.color,
            factor,
            term,
            factors: std::array::from_fn(|i| factor[i % channels]),
            terms: std::array::from_fn(|i| term[i % channels]),
            pad_row: vec![pad; row_bytes].into(),
            row: Vec::with_capacity(row_bytes),
            full: vec![0.0; if spec.dtype == DType::F16 { row_bytes } else { 0 }],
        }
    }

    pub(super) fn size(&self) -> Size {
        self.size
    }

    /// Whether pixels of this colour are the slot's values as they are.
    pub(super) fn is_interleaved(&self, color: Color) -> bool {
        self.dtype == DType::U8 && !self.planar && color == self.color
    }

    /// Writes the picture; `pixels` has `at`'s size.
    pub(super) fn fill(&mut self, slot: &mut [u8], at: Placement, pixels: &[u8], color: Color) {
        let row_bytes = at.width() * color.channels();
        let mut row = std::mem::take(&mut self.row);
        for (y, source) in pixels.chunks_exact(row_bytes).take(at.height()).enumerate() {
            let source = convert(source, color, self.color, &mut row);
            self.write(slot, at.left, at.top + y, source);
        }
        self.row = row;
    }

    /// Writes everything outside of the picture.
    pub(super) fn pad(&mut self, slot: &mut [u8], at: Placement) {
        let (width, height) = (self.size.width as usize, self.size.height as usize);
        let (row, channels) = (Arc::clone(&self.pad_row), self.color.channels());
        let row_of = |pixels: usize| &row[..pixels * channels];
        let (right, below) = (at.left + at.width(), at.top + at.height());
        for y in (0..at.top).chain(below..height) {
            self.write(slot, 0, y, row_of(width));
        }
        if at.width() < width {
            for y in at.top..below {
                self.write(slot, 0, y, row_of(at.left));
                self.write(slot, right, y, row_of(width - right));
            }
        }
    }

    /// Writes part of a row: pixels in the model's colour, from column `x` of row `y` on.
    fn write(&mut self, slot: &mut [u8], x: usize, y: usize, source: &[u8]) {
        match self.dtype {
            // By way of full floats: the processor narrows eight at a time, and a table of 256 halves is slower.
            DType::F16 => {
                let values: &mut [f16] = as_f16_bits_mut(slot).reinterpret_cast_mut();
                let mut full = std::mem::take(&mut self.full);
                let row = &mut full[..source.len()];
                if self.planar {
                    let pixels = source.len() / 3;
                    let (a, rest) = row.split_at_mut(pixels);
                    let (b, c) = rest.split_at_mut(pixels);
                    split_f32(source, a, b, c, &self.factor, &self.term);
                    for (plane, row) in self.planes(values, x, y, pixels).into_iter().zip([a, b, c]) {
                        plane.convert_from_f32_slice(row);
                    }
                } else {
                    scale_f32(source, row, &self.factors, &self.terms);
                    self.run(values, x, y, source.len()).convert_from_f32_slice(row);
                }
                self.full = full;
            }
            DType::F32 => {
                let values = as_f32_mut(slot);
                if self.planar {
                    let [a, b, c] = self.planes(values, x, y, source.len() / 3);
                    split_f32(source, a, b, c, &self.factor, &self.term);
                } else {
                    scale_f32(source, self.run(values, x, y, source.len()), &self.factors, &self.terms);
                }
            }
            _ if self.planar => {
                let [a, b, c] = self.planes(slot, x, y, source.len() / 3);
                split_u8(source, a, b, c);
            }
            _ => self.run(slot, x, y, source.len()).copy_from_slice(source),
        }
    }

    /// `pixels` values from (x, y) on in each of the three planes.
    fn planes<'a, T>(&self, values: &'a mut [T], x: usize, y: usize, pixels: usize) -> [&'a mut [T]; 3] {
        let plane = self.size.width as usize * self.size.height as usize;
        let from = y * self.size.width as usize + x;
        let (a, rest) = values.split_at_mut(plane);
        let (b, c) = rest.split_at_mut(plane);
        [a, b, c].map(|plane| &mut plane[from..from + pixels])
    }

    /// `len` interleaved values from (x, y) on.
    fn run<'a, T>(&self, values: &'a mut [T], x: usize, y: usize, len: usize) -> &'a mut [T] {
        let from = (y * self.size.width as usize + x) * self.color.channels();
        &mut values[from..from + len]
    }
}

/// A row in another colour, in `row` unless it is the same. Grey is BT.601 luma.
fn convert<'a>(source: &'a [u8], from: Color, to: Color, row: &'a mut Vec<u8>) -> &'a [u8] {
    let pixels = source.len() / from.channels();
    if from == to {
        return source;
    }
    let row = grown(row, pixels * to.channels());
    match (from, to) {
        (Color::Gray, _) => expand(source, row),
        (Color::Rgb, Color::Gray) => luma(source, row, [77, 150, 29]),
        (Color::Bgr, Color::Gray) => luma(source, row, [29, 150, 77]),
        _ => swap(source, row),
    }
    row
}
