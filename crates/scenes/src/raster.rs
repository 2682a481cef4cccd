//! Convex shapes into a packed RGB picture, and who owns each pixel.
//!
//! Everything drawn is convex (polygons, tapered strokes, rings as the difference of two), so a
//! row of a shape is one interval and the inner loop is a plain fill. Left and right ends are
//! anti-aliased by coverage; upper and lower ends are not, the sensor's noise hides them.
//! Costs about 1 ns per pixel painted; allocates nothing once `Rows` has its length.

use std::f32::consts::FRAC_1_SQRT_2;

use crate::colour::Colour;

/// Bit of a stamp that says: this pixel is the thing's, but something fixed hides it.
pub const HIDDEN: u8 = 0x80;

type Point = (f32, f32);

/// Scratch: the interval of a shape, and that of the hole in it, for every row.
#[derive(Default)]
pub struct Rows {
    outer: Vec<(f32, f32)>,
    inner: Vec<(f32, f32)>,
}

impl Rows {
    pub fn resize(&mut self, height: usize) {
        self.outer.resize(height, (0.0, 0.0));
        self.inner.resize(height, (0.0, 0.0));
    }
}

/// Fixed things in front: a pixel whose mask is above the depth being drawn stays as it is.
#[derive(Clone, Copy)]
pub struct Mask<'a> {
    pub depths: &'a [u8],
    pub stride: usize,
    /// Index of the mask's pixel that lies under the picture's first.
    pub origin: usize,
}

/// The extent of what was drawn since the last `start`, not clipped to the picture.
#[derive(Clone, Copy)]
pub struct Extent {
    pub x1: f32,
    pub y1: f32,
    pub x2: f32,
    pub y2: f32,
}

impl Extent {
    const EMPTY: Self = Self { x1: f32::MAX, y1: f32::MAX, x2: f32::MIN, y2: f32::MIN };
}

pub struct Canvas<'a> {
    width: usize,
    pixels: &'a mut [u8],
    /// What owns each pixel: ids of moving things, or depths of fixed ones.
    stamps: &'a mut [u8],
    mask: Option<Mask<'a>>,
    rows: &'a mut Rows,
    mark: u8,
    depth: u8,
    extent: Extent,
}

impl<'a> Canvas<'a> {
    /// `pixels` is width x height x 3, `stamps` width x height, and `rows` of that height.
    pub fn new(
        (width, height): (usize, usize),
        pixels: &'a mut [u8],
        stamps: &'a mut [u8],
        mask: Option<Mask<'a>>,
        rows: &'a mut Rows,
    ) -> Self {
        debug_assert_eq!(pixels.len(), width * height * 3);
        debug_assert_eq!(stamps.len(), width * height);
        debug_assert_eq!(rows.outer.len(), height);
        Self { width, pixels, stamps, mask, rows, mark: 0, depth: 0, extent: Extent::EMPTY }
    }

    /// Begins a thing: pixels it paints get `mark`, and those fixed nearer than `depth` stay.
    pub fn start(&mut self, mark: u8, depth: u8) {
        self.mark = mark;
        self.depth = depth;
        self.extent = Extent::EMPTY;
    }

    pub fn extent(&self) -> Extent {
        self.extent
    }

    pub fn stamps(&self) -> &[u8] {
        self.stamps
    }

    pub fn polygon(&mut self, points: &[Point], colour: Colour) {
        self.shaded(points, colour, colour);
    }

    /// A polygon whose colour runs from its upper end to its lower.
    pub fn shaded(&mut self, points: &[Point], top: Colour, bottom: Colour) {
        self.grow(points);
        let Some((from, to)) = trace(points, self.width, &mut self.rows.outer) else {
            return;
        };
        let (mut colour, last) = (top.bytes(), bottom.bytes());
        let flat = colour == last;
        let step = 1.0 / (to - from).max(1) as f32;
        for y in from..to {
            if !flat {
                colour = top.toward(bottom, (y - from) as f32 * step).bytes();
            }
            let (low, high) = self.rows.outer[y];
            self.span(y, low, high, colour);
        }
    }

    /// A line of tapering width with round ends; never thinner than a pixel and a bit, since
    /// what a camera cannot resolve it still blurs.
    pub fn stroke(&mut self, a: (Point, f32), b: (Point, f32), top: Colour, bottom: Colour) {
        let ((p, wa), (q, wb)) = (a, b);
        let (ra, rb) = (wa.max(1.2) * 0.5, wb.max(1.2) * 0.5);
        let (dx, dy) = (q.0 - p.0, q.1 - p.1);
        let length = (dx * dx + dy * dy).sqrt().max(1e-3);
        let (ux, uy) = (dx / length, dy / length);
        // Half of an octagon at each end; 0.707 is its diagonal.
        let cap = |(x, y): Point, r: f32, along: f32, across: f32| {
            (x + r * (ux * along - uy * across), y + r * (uy * along + ux * across))
        };
        let outline = [
            cap(p, ra, 0.0, 1.0),
            cap(p, ra, -0.707, 0.707),
            cap(p, ra, -1.0, 0.0),
            cap(p, ra, -0.707, -0.707),
            cap(p, ra, 0.0, -1.0),
            cap(q, rb, 0.0, -1.0),
            cap(q, rb, 0.707, -0.707),
            cap(q, rb, 1.0, 0.0),
            cap(q, rb, 0.707, 0.707),
            cap(q, rb, 0.0, 1.0),
        ];
        self.shaded(&outline, top, bottom);
    }

    pub fn ellipse(&mut self, centre: Point, (rx, ry): Point, top: Colour, bottom: Colour) {
        self.shaded(&CIRCLE.map(|(x, y)| (centre.0 + rx * x, centre.1 + ry * y)), top, bottom);
    }

    /// The outer polygon less the inner.
    pub fn ring(&mut self, outer: &[Point], inner: &[Point], colour: Colour) {
        self.grow(outer);
        let colour = colour.bytes();
        let Some((from, to)) = trace(outer, self.width, &mut self.rows.outer) else {
            return;
        };
        let hole = trace(inner, self.width, &mut self.rows.inner).unwrap_or((0, 0));
        for y in from..to {
            let (low, high) = self.rows.outer[y];
            if y >= hole.0 && y < hole.1 {
                let (left, right) = self.rows.inner[y];
                self.span(y, low, left, colour);
                self.span(y, right, high, colour);
            } else {
                self.span(y, low, high, colour);
            }
        }
    }

    /// Darkens (or lightens) an ellipse without owning its pixels: shadows and reflections.
    pub fn veil(&mut self, centre: Point, (rx, ry): Point, skew: f32, factor: f32) {
        let outline = CIRCLE.map(|(x, y)| (centre.0 + rx * x + skew * ry * y, centre.1 + ry * y));
        let Some((from, to)) = trace(&outline, self.width, &mut self.rows.outer) else {
            return;
        };
        let factor = (factor * 256.0) as u32;
        for y in from..to {
            let (low, high) = self.rows.outer[y];
            let (start, end) = ((low + 0.5) as usize, ((high + 0.5) as usize).min(self.width));
            for x in start..end {
                if self.visible(x, y) {
                    let at = (y * self.width + x) * 3;
                    for value in &mut self.pixels[at..at + 3] {
                        *value = ((u32::from(*value) * factor) >> 8).min(255) as u8;
                    }
                }
            }
        }
    }

    fn grow(&mut self, points: &[Point]) {
        for &(x, y) in points {
            self.extent.x1 = self.extent.x1.min(x);
            self.extent.x2 = self.extent.x2.max(x);
            self.extent.y1 = self.extent.y1.min(y);
            self.extent.y2 = self.extent.y2.max(y);
        }
    }

    fn visible(&self, x: usize, y: usize) -> bool {
        self.mask.is_none_or(|m| m.depths[m.origin + y * m.stride + x] <= self.depth)
    }

    /// Paints low..high of a row, both within the picture.
    fn span(&mut self, y: usize, low: f32, high: f32, colour: [u8; 3]) {
        if high - low < 1e-3 {
            return;
        }
        let (first, last) = (low as usize, (high as usize).min(self.width - 1));
        if first >= last {
            self.blend(first.min(last), y, high - low, colour);
            return;
        }
        self.blend(first, y, 1.0 - (low - first as f32), colour);
        self.blend(last, y, high - last as f32, colour);
        let (start, end) = (y * self.width + first + 1, y * self.width + last);
        let (pixels, _) = self.pixels[start * 3..end * 3].as_chunks_mut::<3>();
        let stamps = &mut self.stamps[start..end];
        let Some(mask) = self.mask else {
            pixels.fill(colour);
            stamps.fill(self.mark);
            return;
        };
        let origin = mask.origin + y * mask.stride + first + 1;
        let depths = &mask.depths[origin..origin + stamps.len()];
        for ((pixel, stamp), depth) in pixels.iter_mut().zip(stamps).zip(depths) {
            if *depth <= self.depth {
                *pixel = colour;
                *stamp = self.mark;
            } else {
                *stamp = self.mark | HIDDEN;
            }
        }
    }

    /// One pixel at the end of a span, owned where it is covered by half or more.
    fn blend(&mut self, x: usize, y: usize, coverage: f32, colour: [u8; 3]) {
        let index = y * self.width + x;
        let visible = self.visible(x, y);
        if coverage >= 0.5 {
            self.stamps[index] = if visible { self.mark } else { self.mark | HIDDEN };
        }
        if visible {
            let weight = (coverage.clamp(0.0, 1.0) * 256.0) as u32;
            for (value, new) in self.pixels[index * 3..index * 3 + 3].iter_mut().zip(colour) {
                *value = ((u32::from(*value) * (256 - weight) + u32::from(new) * weight) >> 8) as u8;
            }
        }
    }
}

/// Intervals of a convex polygon for the rows whose centres it holds, clipped to the picture.
fn trace(points: &[Point], width: usize, rows: &mut [(f32, f32)]) -> Option<(usize, usize)> {
    let row = |y: f32| ((y + 0.5).floor().max(0.0) as usize).min(rows.len());
    let (mut low, mut high) = (f32::MAX, f32::MIN);
    for &(_, y) in points {
        low = low.min(y);
        high = high.max(y);
    }
    let (from, to) = (row(low), row(high));
    if from >= to {
        return None;
    }
    let edge = width as f32;
    rows[from..to].fill((edge, 0.0));
    let mut before = *points.last()?;
    for &point in points {
        let ((ax, ay), (bx, by)) = if before.1 < point.1 { (before, point) } else { (point, before) };
        before = point;
        let (start, end) = (row_of(ay, from, to), row_of(by, from, to));
        if start >= end {
            continue;
        }
        let slope = (bx - ax) / (by - ay);
        let mut x = ax + (start as f32 + 0.5 - ay) * slope;
        for (left, right) in &mut rows[start..end] {
            *left = left.min(x);
            *right = right.max(x);
            x += slope;
        }
    }
    for (left, right) in &mut rows[from..to] {
        *left = left.clamp(0.0, edge);
        *right = right.clamp(0.0, edge);
    }
    Some((from, to))
}

fn row_of(y: f32, from: usize, to: usize) -> usize {
    ((y + 0.5).floor().max(0.0) as usize).clamp(from, to)
}

/// The unit circle as sixteen points.
pub const CIRCLE: [Point; 16] = [
    (1.0, 0.0),
    (0.92388, 0.382_683),
    (FRAC_1_SQRT_2, FRAC_1_SQRT_2),
    (0.382_683, 0.92388),
    (0.0, 1.0),
    (-0.382_683, 0.92388),
    (-FRAC_1_SQRT_2, FRAC_1_SQRT_2),
    (-0.92388, 0.382_683),
    (-1.0, 0.0),
    (-0.92388, -0.382_683),
    (-FRAC_1_SQRT_2, -FRAC_1_SQRT_2),
    (-0.382_683, -0.92388),
    (0.0, -1.0),
    (0.382_683, -0.92388),
    (FRAC_1_SQRT_2, -FRAC_1_SQRT_2),
    (0.92388, -0.382_683),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::colour::rgb;

    const RED: Colour = rgb(200, 0, 0);

    fn painted(points: &[Point]) -> Vec<u8> {
        let (mut pixels, mut stamps) = (vec![0; 8 * 8 * 3], vec![0; 64]);
        let mut rows = Rows::default();
        rows.resize(8);
        let mut canvas = Canvas::new((8, 8), &mut pixels, &mut stamps, None, &mut rows);
        canvas.start(1, 0);
        canvas.polygon(points, RED);
        stamps
    }

    #[test]
    fn a_rectangle_owns_exactly_its_pixels() {
        let stamps = painted(&[(2.0, 1.0), (5.0, 1.0), (5.0, 4.0), (2.0, 4.0)]);
        let owned: Vec<_> = (0..64).filter(|i| stamps[*i] == 1).map(|i| (i % 8, i / 8)).collect();
        assert_eq!(owned, [(2, 1), (3, 1), (4, 1), (2, 2), (3, 2), (4, 2), (2, 3), (3, 3), (4, 3)]);
    }

    #[test]
    fn shapes_beyond_every_edge_are_clipped() {
        for offset in [(-100.0, 3.0), (100.0, 3.0), (3.0, -100.0), (3.0, 100.0)] {
            let moved = CIRCLE.map(|(x, y)| (x * 3.0 + offset.0, y * 3.0 + offset.1));
            assert!(painted(&moved).iter().all(|s| *s == 0), "{offset:?}");
        }
        let huge = CIRCLE.map(|(x, y)| (x * 1e4, y * 1e4));
        assert!(painted(&huge).iter().all(|s| *s == 1));
    }

    #[test]
    fn what_is_fixed_nearer_stays_in_front() {
        let (mut pixels, mut stamps) = (vec![0; 4 * 3], vec![0; 4]);
        let mut rows = Rows::default();
        rows.resize(1);
        let mask = Mask { depths: &[0, 9, 0, 0], stride: 4, origin: 0 };
        let mut canvas = Canvas::new((4, 1), &mut pixels, &mut stamps, Some(mask), &mut rows);
        canvas.start(3, 5);
        canvas.polygon(&[(0.0, 0.0), (4.0, 0.0), (4.0, 1.0), (0.0, 1.0)], RED);
        assert_eq!(stamps, [3, 3 | HIDDEN, 3, 3]);
        assert_eq!(pixels[..6], [200, 0, 0, 0, 0, 0]);
    }
}
