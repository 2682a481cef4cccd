//! The last pass: interleaved `u8` pixels of the placed size become the slot's values.
//!
//! Each kernel is one loop without branches or lookups that LLVM vectorises, compiled twice (the target's baseline,
//! and AVX2 chosen at run time). 320x320x3 to `f32` planes takes about 30 us.

use omma_engine::picture::{Color, Layout, PictureSpec, Resize};
use omma_engine::tensor::{DType, as_f32_mut};
use omma_frame::Size;

use super::place::{Placement, grown};

/// A multiple of every number of channels and of every vector width, so that one pattern of factors serves all
/// interleaved rows.
const PATTERN: usize = 48;

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
    pad_row: Vec<u8>,
    /// One row in the model's colour, where the picture's is another.
    row: Vec<u8>,
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
            pad_row: vec![pad; row_bytes],
            row: Vec::with_capacity(row_bytes),
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
    pub(super) fn pad(&self, slot: &mut [u8], at: Placement) {
        let (width, height) = (self.size.width as usize, self.size.height as usize);
        let row_of = |pixels: usize| &self.pad_row[..pixels * self.color.channels()];
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
    fn write(&self, slot: &mut [u8], x: usize, y: usize, source: &[u8]) {
        match self.dtype {
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

/// Compiles a kernel for the target's baseline and for AVX2, and picks at run time.
macro_rules! kernel {
    ($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?) $body:block) => {
        $(#[$doc])*
        fn $name($($arg: $type),*) {
            #[inline(always)]
            fn generic($($arg: $type),*) $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn avx2($($arg: $type),*) {
                    generic($($arg),*);
                }
                if is_x86_feature_detected!("avx2") {
                    // SAFETY: the processor has AVX2.
                    return unsafe { avx2($($arg),*) };
                }
            }
            generic($($arg),*);
        }
    };
}

kernel! {
    /// Interleaved pixels to three `f32` planes.
    fn split_f32(source: &[u8], a: &mut [f32], b: &mut [f32], c: &mut [f32], factor: &[f32; 3], term: &[f32; 3]) {
        let planes = a.iter_mut().zip(b.iter_mut()).zip(c.iter_mut());
        for (pixel, ((a, b), c)) in source.as_chunks::<3>().0.iter().zip(planes) {
            *a = f32::from(pixel[0]) * factor[0] + term[0];
            *b = f32::from(pixel[1]) * factor[1] + term[1];
            *c = f32::from(pixel[2]) * factor[2] + term[2];
        }
    }
}

kernel! {
    /// Interleaved pixels to three `u8` planes.
    fn split_u8(source: &[u8], a: &mut [u8], b: &mut [u8], c: &mut [u8]) {
        let planes = a.iter_mut().zip(b.iter_mut()).zip(c.iter_mut());
        for (pixel, ((a, b), c)) in source.as_chunks::<3>().0.iter().zip(planes) {
            [*a, *b, *c] = *pixel;
        }
    }
}

kernel! {
    /// Values in the same places as `f32`.
    fn scale_f32(source: &[u8], values: &mut [f32], factors: &[f32; PATTERN], terms: &[f32; PATTERN]) {
        let (sources, source_rest) = source.as_chunks::<PATTERN>();
        let (targets, target_rest) = values.as_chunks_mut::<PATTERN>();
        for (source, values) in sources.iter().zip(targets) {
            for i in 0..PATTERN {
                values[i] = f32::from(source[i]) * factors[i] + terms[i];
            }
        }
        for (i, (source, value)) in source_rest.iter().zip(target_rest).enumerate() {
            *value = f32::from(*source) * factors[i] + terms[i];
        }
    }
}

kernel! {
    /// RGB to BGR or back.
    fn swap(source: &[u8], row: &mut [u8]) {
        for (pixel, swapped) in source.as_chunks::<3>().0.iter().zip(row.as_chunks_mut::<3>().0) {
            *swapped = [pixel[2], pixel[1], pixel[0]];
        }
    }
}

kernel! {
    /// Grey to three equal channels.
    fn expand(source: &[u8], row: &mut [u8]) {
        for (grey, pixel) in source.iter().zip(row.as_chunks_mut::<3>().0) {
            *pixel = [*grey; 3];
        }
    }
}

kernel! {
    /// Three channels to one; the weights are 256ths.
    fn luma(source: &[u8], row: &mut [u8], weights: [u32; 3]) {
        for (pixel, grey) in source.as_chunks::<3>().0.iter().zip(row) {
            let sum = u32::from(pixel[0]) * weights[0] + u32::from(pixel[1]) * weights[1] + u32::from(pixel[2]) * weights[2];
            *grey = ((sum + 128) >> 8) as u8;
        }
    }
}
