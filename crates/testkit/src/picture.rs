//! What every picture decoder must do. [`picture_decoder_conformance!`](crate::picture_decoder_conformance) makes one
//! test of each function here.

use std::sync::Arc;

use half::f16;
use omma_engine::picture::{
    Color, Fit, Layout, PictureDecoder, PictureDecoderFactory, PictureError, PictureSpec, Resize,
};
use omma_engine::tensor::{BatchTensor, DType, as_f16_bits, as_f32};
use omma_frame::{Payload, PixelFormat, Size};

use crate::picture_fixtures::{Canvas, JpegKind, encoded, luma};
#[doc(hidden)]
pub use crate::picture_formats::*;

/// Makes the factory under test, with its default limits.
pub type Open<'a> = &'a dyn Fn(PictureSpec) -> Arc<dyn PictureDecoderFactory>;

/// One test for each thing that a decoder must do. `$open` is an [`Open`](crate::picture::Open).
#[macro_export]
macro_rules! picture_decoder_conformance {
    ($open:expr) => {
        $crate::picture_decoder_conformance! {
            $open;
            a_box_lies_where_the_fit_says
            padding_is_the_pad_value_normalised
            every_byte_of_a_slot_is_written
            a_picture_leaves_nothing_for_the_next_one
            values_are_normalised_per_channel
            formats_agree_on_one_scene
            grey_and_colour_become_each_other
            every_kind_of_jpeg_is_read
            a_grey_jpeg_may_name_any_sampling
            every_kind_of_png_is_read
            stray_bytes_around_the_end_do_no_harm
            a_cut_jpeg_is_corrupt
            a_cut_png_is_corrupt
            what_is_no_picture_is_refused_by_name
            raw_pictures_have_the_bytes_that_their_size_says
        }
    };
    ($open:expr; $($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                $crate::picture::$name(&$open);
            }
        )*
    };
}

const BACKGROUND: [u8; 3] = [30, 40, 120];
const BOX: [u8; 3] = [230, 200, 60];

pub(crate) fn size(width: u32, height: u32) -> Size {
    Size { width, height }
}

/// A model's input without normalisation.
#[must_use]
pub fn plain(size: Size, dtype: DType, layout: Layout, color: Color, resize: Resize) -> PictureSpec {
    PictureSpec { size, dtype, layout, color, resize, scale: 1.0, mean: [0.0; 3], std: [1.0; 3] }
}

/// A decoder with a slot of its own.
pub struct Bench {
    spec: PictureSpec,
    decoder: Box<dyn PictureDecoder>,
    tensor: BatchTensor,
}

impl Bench {
    #[must_use]
    pub fn new(open: Open, spec: PictureSpec) -> Self {
        Self { decoder: open(spec.clone()).open(), tensor: BatchTensor::new(1, spec.slot_bytes()), spec }
    }

    /// # Errors
    /// The decoder's.
    pub fn decode(&mut self, payload: &Payload) -> Result<Fit, PictureError> {
        let slot = self.tensor.slots_mut().next().expect("one slot");
        self.decoder.decode(payload, slot)
    }

    fn soil(&mut self, byte: u8) {
        self.tensor.slots_mut().for_each(|slot| slot.fill(byte));
    }

    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.tensor.bytes(1)
    }

    /// The value of a channel in the model's order.
    #[must_use]
    pub fn value(&self, x: usize, y: usize, channel: usize) -> f32 {
        let (width, height) = (self.spec.size.width as usize, self.spec.size.height as usize);
        let at = match self.spec.layout {
            Layout::Nchw => (channel * height + y) * width + x,
            Layout::Nhwc => (y * width + x) * self.spec.color.channels() + channel,
        };
        match self.spec.dtype {
            DType::F32 => as_f32(self.bytes())[at],
            DType::F16 => f16::from_bits(as_f16_bits(self.bytes())[at]).to_f32(),
            _ => f32::from(self.bytes()[at]),
        }
    }

    /// All values, one channel after the other, whatever the layout.
    pub(crate) fn values(&self) -> Vec<f32> {
        let Size { width, height } = self.spec.size;
        let mut values = Vec::new();
        for channel in 0..self.spec.color.channels() {
            for y in 0..height as usize {
                values.extend((0..width as usize).map(|x| self.value(x, y, channel)));
            }
        }
        values
    }
}

/// What `rgb` is in the model's channels.
fn channels(rgb: [u8; 3], color: Color) -> Vec<f32> {
    let [r, g, b] = rgb.map(f32::from);
    match color {
        Color::Rgb => vec![r, g, b],
        Color::Bgr => vec![b, g, r],
        Color::Gray => vec![luma(rgb)],
    }
}

pub(crate) fn combinations() -> Vec<(DType, Layout, Color)> {
    let mut all = Vec::new();
    for dtype in DType::OF_PICTURES {
        for layout in [Layout::Nchw, Layout::Nhwc] {
            all.extend([Color::Rgb, Color::Bgr, Color::Gray].map(|color| (dtype, layout, color)));
        }
    }
    all
}

/// Where the values cross the middle between the first and the last one, in pixels from the first value's left edge.
fn crossing(values: &[f32]) -> f32 {
    let middle = (values[0] + values[values.len() - 1]) / 2.0;
    let rises = values[0] < middle;
    let i = values.iter().position(|&v| (v >= middle) == rises).expect("a crossing");
    let (before, after) = (values[i - 1], values[i]);
    i as f32 - 0.5 + (middle - before) / (after - before)
}

/// For every size, layout, type, colour and resize: a box drawn into the original lies in the slot where the fit says,
/// and the fit is the engine's.
pub fn a_box_lies_where_the_fit_says(open: Open) {
    let originals =
        [(640, 480), (1280, 720), (1920, 1080), (641, 479), (1001, 333), (260, 2000), (96, 64), (1282, 962)];
    let inputs = [(640, 640), (320, 192), (225, 321)];
    let resizes = [Resize::Letterbox { pad: 114 }, Resize::Stretch];
    let combinations = combinations();
    let mut case = 0;
    for (width, height) in originals {
        let mut canvas = Canvas::flat(size(width, height), BACKGROUND);
        let (from, to) = ((width / 4, height * 3 / 10), (width * 6 / 10, height * 8 / 10));
        canvas.fill(from, to, BOX);
        let payload = encoded(&canvas.jpeg(JpegKind::default()));
        for (input, resize) in inputs.iter().flat_map(|&i| resizes.map(|r| (size(i.0, i.1), r))) {
            // All come up, spread over originals and inputs.
            for (dtype, layout, color) in [0, 5].map(|step| combinations[(case * 7 + step) % combinations.len()]) {
                let mut bench = Bench::new(open, plain(input, dtype, layout, color, resize));
                let context = format!("{width}x{height} in {input:?} {dtype:?} {layout:?} {color:?} {resize:?}");
                let fit = bench.decode(&payload).unwrap_or_else(|error| panic!("{context}: {error}"));
                assert_eq!(fit, Fit::new(canvas.size, input, resize), "{context}");
                let map =
                    |x: u32, y: u32| (x as f32 * fit.scale_x + fit.offset_x, y as f32 * fit.scale_y + fit.offset_y);
                let ((left, top), (right, bottom)) = (map(from.0, from.1), map(to.0, to.1));
                let (mid_x, mid_y) = (((left + right) / 2.0) as usize, ((top + bottom) / 2.0) as usize);
                let (begin, end) = (map(0, 0), map(width, height));
                // Green is nearly luma: the other channels' edges are blurred by 4:2:0 before we see them.
                let edges = color.channels() / 2;
                let row = |from: f32, to: f32| -> Vec<f32> {
                    (from.round() as usize..to.round() as usize).map(|x| bench.value(x, mid_y, edges)).collect()
                };
                let column = |from: f32, to: f32| -> Vec<f32> {
                    (from.round() as usize..to.round() as usize).map(|y| bench.value(mid_x, y, edges)).collect()
                };
                let found = [
                    begin.0 + crossing(&row(begin.0, mid_x as f32 + 1.0)),
                    begin.1 + crossing(&column(begin.1, mid_y as f32 + 1.0)),
                    mid_x as f32 + crossing(&row(mid_x as f32, end.0)),
                    mid_y as f32 + crossing(&column(mid_y as f32, end.1)),
                ];
                for (found, expected) in found.iter().zip([left, top, right, bottom]) {
                    assert!((found - expected).abs() <= 1.0, "{context}: found at {found}, expected at {expected}");
                }
                for (channel, expected) in channels(BOX, color).into_iter().enumerate() {
                    let found = bench.value(mid_x, mid_y, channel);
                    assert!(
                        (found - expected).abs() <= 6.0,
                        "{context}: channel {channel} is {found}, expected {expected}"
                    );
                }
            }
            case += 1;
        }
    }
}

/// Every value outside of the picture is exactly the pad value as the model sees it, to the last row and column.
pub fn padding_is_the_pad_value_normalised(open: Open) {
    let canvas = Canvas::flat(size(64, 48), [200, 100, 50]);
    let (scale, mean, std) = (1.0 / 255.0, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
    for (dtype, layout, color) in combinations() {
        for (input, left, top, right, bottom) in [
            (size(64, 64), 0, 8, 64, 56),
            (size(97, 48), 16, 0, 80, 48),
            (size(33, 32), 0, 3, 33, 28),
            (size(200, 31), 79, 0, 120, 31),
        ] {
            for payload in [
                encoded(&canvas.jpeg(JpegKind::default())),
                canvas.raw(PixelFormat::Rgb),
                canvas.raw(PixelFormat::Nv12),
            ] {
                let spec = PictureSpec {
                    scale,
                    mean,
                    std,
                    ..plain(input, dtype, layout, color, Resize::Letterbox { pad: 114 })
                };
                let mut bench = Bench::new(open, spec);
                bench.decode(&payload).expect("a sound picture");
                for channel in 0..color.channels() {
                    let expected = match dtype {
                        DType::U8 => 114.0,
                        _ => (114.0 * scale - mean[channel]) / std[channel],
                    };
                    for (x, y) in
                        (0..input.width as usize).flat_map(|x| (0..input.height as usize).map(move |y| (x, y)))
                    {
                        let inside = (left..right).contains(&x) && (top..bottom).contains(&y);
                        let value = bench.value(x, y, channel);
                        let is_pad = (value - expected).abs() <= if dtype == DType::F16 { 1e-3 } else { 1e-5 };
                        assert_eq!(
                            is_pad, !inside,
                            "{dtype:?} {layout:?} {color:?} {input:?} at {x}, {y}, {channel}: {value}, pad {expected}"
                        );
                    }
                }
            }
        }
    }
}

/// What was in the slot before does not show, whichever way the picture takes.
pub fn every_byte_of_a_slot_is_written(open: Open) {
    let canvas = Canvas::scene(size(640, 480));
    let payloads = [
        encoded(&canvas.jpeg(JpegKind::default())),
        encoded(&canvas.png()),
        canvas.raw(PixelFormat::Bgr),
        canvas.raw(PixelFormat::I420),
    ];
    for (dtype, layout, color) in combinations() {
        for (input, resize) in [
            ((640, 640), Resize::Letterbox { pad: 0 }),
            ((321, 123), Resize::Letterbox { pad: 9 }),
            ((99, 320), Resize::Stretch),
        ] {
            let mut bench = Bench::new(open, plain(size(input.0, input.1), dtype, layout, color, resize));
            for payload in &payloads {
                bench.soil(0xA5);
                bench.decode(payload).expect("a sound picture");
                let first = bench.bytes().to_vec();
                bench.soil(0x5A);
                bench.decode(payload).expect("a sound picture");
                assert!(
                    first == bench.bytes(),
                    "{dtype:?} {layout:?} {color:?} {input:?}: bytes of the slot are left as they were"
                );
            }
        }
    }
}

/// A decoder's scratch memory carries nothing from one camera to the next, not even after a failure.
pub fn a_picture_leaves_nothing_for_the_next_one(open: Open) {
    let jpeg = Canvas::scene(size(320, 200)).jpeg(JpegKind::default());
    let payloads = [
        encoded(&jpeg),
        encoded(&Canvas::noise(size(1280, 720), 7).jpeg(JpegKind::default())),
        encoded(&jpeg[..jpeg.len() / 2]),
        encoded(&Canvas::noise(size(33, 65), 3).jpeg(JpegKind { gray: true, ..JpegKind::default() })),
        encoded(&Canvas::scene(size(70, 50)).png()),
        Canvas::scene(size(64, 64)).raw(PixelFormat::Nv12),
        Canvas::noise(size(64, 64), 5).raw(PixelFormat::Gray),
        encoded(b"no picture"),
    ];
    let spec = plain(size(96, 96), DType::F32, Layout::Nchw, Color::Rgb, Resize::Letterbox { pad: 114 });
    let mut kept = Bench::new(open, spec.clone());
    for round in 0..payloads.len() {
        for (i, payload) in payloads.iter().enumerate().map(|(i, _)| (i, &payloads[(i * 3 + round) % payloads.len()])) {
            let mut fresh = Bench::new(open, spec.clone());
            let (a, b) = (kept.decode(payload), fresh.decode(payload));
            assert_eq!(a.is_ok(), b.is_ok(), "round {round}, picture {i}");
            if a.is_ok() {
                assert!(
                    kept.bytes() == fresh.bytes(),
                    "round {round}, picture {i}: other values than from a fresh decoder"
                );
            }
        }
    }
}

/// `(pixel * scale - mean) / std`, in the model's channel order; nothing is computed for `u8`.
pub fn values_are_normalised_per_channel(open: Open) {
    let (scale, mean, std) = (1.0 / 255.0, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
    let canvas = Canvas::scene(size(61, 47));
    for (dtype, layout, color) in combinations() {
        let spec = PictureSpec { scale, mean, std, ..plain(canvas.size, dtype, layout, color, Resize::Stretch) };
        let mut bench = Bench::new(open, spec);
        bench.decode(&canvas.raw(PixelFormat::Rgb)).expect("a sound picture");
        for (i, pixel) in canvas.rgb.chunks_exact(3).enumerate() {
            for (channel, pixel) in channels([pixel[0], pixel[1], pixel[2]], color).into_iter().enumerate() {
                let value = bench.value(i % 61, i / 61, channel);
                let back = if dtype == DType::U8 { value } else { (value * std[channel] + mean[channel]) / scale };
                let tolerance = match (color, dtype) {
                    (Color::Gray, _) => 1.0,
                    // Ten bits of a value up to 2.6.
                    (_, DType::F16) => 0.1,
                    _ => 0.001,
                };
                assert!(
                    (back - pixel).abs() <= tolerance,
                    "{dtype:?} {layout:?} {color:?} pixel {i}: {back}, expected {pixel}"
                );
            }
        }
    }
}
