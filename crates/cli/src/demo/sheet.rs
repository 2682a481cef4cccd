//! The contact sheet: pictures of some cameras with what was found in them, as one JPEG for a person to look at.

use omma_adapters::picture::encode_jpeg;
use omma_engine::post::labels::Labels;
use omma_frame::{Detection, Size};
use omma_scenes::Scratch;

use super::font;
use super::judge::Sample;
use crate::cast::Cast;

const COLUMNS: usize = 4;
const ROWS: usize = 3;
/// Of one picture on the sheet.
const TILE: (usize, usize) = (480, 270);
const GAP: usize = 8;
const HEADER: usize = 44;
const CAPTION: usize = 22;
const QUALITY: u8 = 90;
/// What is drawn; weaker finds are left to the results.
const SCORE_MIN: f32 = 0.4;

type Rgb = [u8; 3];

const PAPER: Rgb = [24, 26, 30];
const INK: Rgb = [232, 234, 238];
const FAINT: Rgb = [150, 156, 166];
/// By class, in turn: told apart by people who see colours differently, and on any background.
const COLORS: [Rgb; 6] = [[255, 176, 0], [74, 163, 255], [120, 222, 120], [255, 110, 110], [206, 147, 255], [255, 240, 120]];

/// The sheet as JPEG.
///
/// # Errors
/// The encoder fails.
pub fn draw(cast: &Cast, samples: &[Sample], labels: &Labels, title: &str) -> Result<Vec<u8>, String> {
    let chosen = choose(samples, COLUMNS * ROWS);
    let columns = COLUMNS.min(chosen.len().max(1));
    let rows = chosen.len().div_ceil(columns).max(1);
    let width = GAP + columns * (TILE.0 + GAP);
    let height = HEADER + rows * (TILE.1 + CAPTION + GAP);
    let mut sheet = Canvas::new(width, height, PAPER);
    sheet.text(GAP, 14, 2, INK, &fitting(title, width - 2 * GAP, 2));
    let (mut scratch, mut rgb) = (Scratch::default(), cast.blank());
    for (place, sample) in chosen.iter().enumerate() {
        cast.draw(sample.camera, sample.sequence, &mut scratch, &mut rgb)?;
        let x = GAP + place % columns * (TILE.0 + GAP);
        let y = HEADER + place / columns * (TILE.1 + CAPTION + GAP);
        let shown: Vec<&Detection> = sample.detections.iter().filter(|found| found.score >= SCORE_MIN).collect();
        let caption = format!("camera {}, frame {}: {} found", sample.camera, sample.sequence, shown.len());
        let mut tile = Canvas::new(TILE.0, TILE.1, PAPER);
        tile.picture(&rgb, cast.size());
        for found in shown {
            tile.detection(found, cast.size(), labels);
        }
        sheet.paste(&tile, x, y);
        sheet.text(x, y + TILE.1 + 4, 2, FAINT, &fitting(&caption, TILE.0, 2));
    }
    let mut jpeg = Vec::new();
    let size = Size { width: width as u32, height: height as u32 };
    encode_jpeg(&sheet.pixels, size, QUALITY, &mut jpeg).map_err(|error| error.to_string())?;
    Ok(jpeg)
}

/// One result each of as many cameras as there is room for, the fullest pictures of cameras spread over all.
fn choose(samples: &[Sample], room: usize) -> Vec<&Sample> {
    let mut best: Vec<&Sample> = Vec::new();
    let found = |sample: &Sample| sample.detections.iter().filter(|found| found.score >= SCORE_MIN).count();
    for sample in samples {
        match best.iter_mut().find(|other| other.camera == sample.camera) {
            Some(other) if found(other) < found(sample) => *other = sample,
            Some(_) => {}
            None => best.push(sample),
        }
    }
    best.sort_by_key(|sample| (std::cmp::Reverse(found(sample)), sample.camera));
    best.truncate(room);
    best.sort_by_key(|sample| sample.camera);
    best
}

/// As much of the text as fits.
fn fitting(text: &str, width: usize, scale: usize) -> String {
    text.chars().take(width / (font::ADVANCE * scale)).collect()
}

struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Canvas {
    fn new(width: usize, height: usize, color: Rgb) -> Self {
        Self { width, height, pixels: color.repeat(width * height) }
    }

    fn set(&mut self, x: usize, y: usize, color: Rgb) {
        if x < self.width && y < self.height {
            let at = (y * self.width + x) * 3;
            self.pixels[at..at + 3].copy_from_slice(&color);
        }
    }

    fn fill(&mut self, x: usize, y: usize, width: usize, height: usize, color: Rgb) {
        for row in y..(y + height).min(self.height) {
            for column in x..(x + width).min(self.width) {
                self.set(column, row, color);
            }
        }
    }

    /// Covers the canvas with a picture, each pixel the mean of those that it stands for.
    fn picture(&mut self, rgb: &[u8], size: Size) {
        let (from_width, from_height) = (size.width as usize, size.height as usize);
        for y in 0..self.height {
            let rows = span(y, self.height, from_height);
            for x in 0..self.width {
                let columns = span(x, self.width, from_width);
                let mut sums = [0u32; 3];
                for row in rows.clone() {
                    for column in columns.clone() {
                        for (sum, value) in sums.iter_mut().zip(&rgb[(row * from_width + column) * 3..][..3]) {
                            *sum += u32::from(*value);
                        }
                    }
                }
                let count = (rows.len() * columns.len()) as u32;
                self.set(x, y, sums.map(|sum| (sum / count) as u8));
            }
        }
    }

    fn paste(&mut self, other: &Self, x: usize, y: usize) {
        for row in 0..other.height.min(self.height.saturating_sub(y)) {
            let bytes = other.width.min(self.width.saturating_sub(x)) * 3;
            let (to, from) = (((y + row) * self.width + x) * 3, row * other.width * 3);
            self.pixels[to..to + bytes].copy_from_slice(&other.pixels[from..from + bytes]);
        }
    }

    /// A frame around what was found, and a tag with its name and score: above it, or inside where there is no room.
    fn detection(&mut self, found: &Detection, original: Size, labels: &Labels) {
        let color = COLORS[found.class as usize % COLORS.len()];
        let (scale_x, scale_y) =
            (self.width as f32 / original.width.max(1) as f32, self.height as f32 / original.height.max(1) as f32);
        let inside = |value: f32, limit: usize| (value.round().max(0.0) as usize).min(limit.saturating_sub(1));
        let (x1, x2) = (inside(found.x1 * scale_x, self.width), inside(found.x2 * scale_x, self.width));
        let (y1, y2) = (inside(found.y1 * scale_y, self.height), inside(found.y2 * scale_y, self.height));
        let (width, height) = (x2.saturating_sub(x1) + 1, y2.saturating_sub(y1) + 1);
        for (x, y, width, height) in [
            (x1, y1, width, 2),
            (x1, (y2 + 1).saturating_sub(2), width, 2),
            (x1, y1, 2, height),
            ((x2 + 1).saturating_sub(2), y1, 2, height),
        ] {
            self.fill(x, y, width, height, color);
        }
        let text = format!("{} {:.2}", labels.name(found.class), found.score);
        let (tag_width, tag_height) = (text.chars().count() * font::ADVANCE + 5, font::HEIGHT + 4);
        let x = x1.min(self.width.saturating_sub(tag_width));
        let y = if y1 >= tag_height { y1 - tag_height } else { y1 };
        self.fill(x, y, tag_width, tag_height, color);
        self.text(x + 3, y + 2, 1, PAPER, &text);
    }

    fn text(&mut self, x: usize, y: usize, scale: usize, color: Rgb, text: &str) {
        for (place, c) in text.chars().enumerate() {
            for (row, bits) in font::glyph(c).into_iter().enumerate() {
                for column in (0..font::WIDTH).filter(|column| bits >> (font::WIDTH - 1 - column) & 1 == 1) {
                    let left = x + (place * font::ADVANCE + column) * scale;
                    self.fill(left, y + row * scale, scale, scale, color);
                }
            }
        }
    }
}

/// Which of `from` pixels pixel `at` of `to` stands for: at least one.
fn span(at: usize, to: usize, from: usize) -> std::ops::Range<usize> {
    let start = at * from / to;
    start..((at + 1) * from / to).max(start + 1).min(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pixel_of_a_picture_is_shown_once_or_pixels_are_repeated() {
        for (to, from) in [(4, 8), (3, 10), (8, 4), (5, 5)] {
            let spans: Vec<_> = (0..to).map(|at| span(at, to, from)).collect();
            assert_eq!((spans[0].start, spans[to - 1].end), (0, from), "{to} of {from}");
            assert!(spans.windows(2).all(|pair| pair[1].start <= pair[0].end), "{to} of {from}");
            assert!(spans.iter().all(|span| !span.is_empty()));
        }
    }

    #[test]
    fn the_fullest_picture_of_each_camera_is_chosen() {
        let found = Detection { class: 0, score: 0.9, x1: 0.0, y1: 0.0, x2: 9.0, y2: 9.0 };
        let sample = |camera, sequence, count| Sample { camera, sequence, detections: vec![found.clone(); count] };
        let samples = [sample(2, 0, 1), sample(2, 5, 3), sample(0, 7, 2), sample(1, 1, 0)];
        let chosen: Vec<_> = choose(&samples, 2).iter().map(|sample| (sample.camera, sample.sequence)).collect();
        assert_eq!(chosen, [(0, 7), (2, 5)]);
    }

    #[test]
    fn boxes_at_and_beyond_the_edges_are_drawn_without_a_panic() {
        let labels = Labels::from_names(["person"]).unwrap();
        let mut canvas = Canvas::new(40, 30, PAPER);
        for (x1, y1, x2, y2) in [(-9.0, -9.0, 99.0, 99.0), (39.0, 29.0, 40.0, 30.0), (5.0, 5.0, 5.0, 5.0)] {
            let found = Detection { class: 7, score: 1.0, x1, y1, x2, y2 };
            canvas.detection(&found, Size { width: 40, height: 30 }, &labels);
        }
        assert!(canvas.pixels.chunks(3).any(|pixel| pixel == COLORS[1]));
    }
}
