//! What every picture decoder must do with the formats: read all of each kind alike, and refuse what is none.

use jpeg_encoder::SamplingFactor;
use omma_engine::picture::{Color, Layout, Resize};
use omma_engine::tensor::DType;
use omma_frame::DropReason::{PayloadEmpty, PayloadTooLarge, PictureCorrupt, PictureUnfit};
use omma_frame::{DropReason, Payload, PixelFormat, RawPicture};

use crate::picture::{Bench, Open, combinations, plain, size};
use crate::picture_fixtures::{
    Canvas, JpegKind, encoded, interlaced_png, jpeg_claiming, jpeg_sampled, png, png_claiming,
};

#[track_caller]
fn refused(bench: &mut Bench, payload: &Payload, reason: DropReason, context: &str) -> String {
    match bench.decode(payload) {
        Ok(fit) => panic!("{context}: decoded to {fit:?}, expected {}", reason.name()),
        Err(error) => {
            assert_eq!(error.reason, reason, "{context}: {}", error.message);
            error.message
        }
    }
}

fn mean_difference(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f32>() / a.len() as f32
}

/// One scene through every format, resized and not: the values differ by no more than the formats lose.
pub fn formats_agree_on_one_scene(open: Open) {
    let canvas = Canvas::scene(size(512, 384));
    for (input, color) in [(512, 384), (256, 192), (300, 300), (700, 500)]
        .iter()
        .flat_map(|&i| [Color::Rgb, Color::Bgr, Color::Gray].map(|c| (i, c)))
    {
        let mut bench = Bench::new(
            open,
            plain(size(input.0, input.1), DType::F32, Layout::Nhwc, color, Resize::Letterbox { pad: 20 }),
        );
        let mut values = |payload: &Payload| {
            bench.decode(payload).expect("a sound picture");
            bench.values()
        };
        let exact = values(&canvas.raw(PixelFormat::Rgb));
        let fine = JpegKind { quality: 98, sampling: SamplingFactor::F_1_1, ..JpegKind::default() };
        for (name, payload, far) in [
            ("BGR", canvas.raw(PixelFormat::Bgr), 0.001),
            ("PNG", encoded(&canvas.png()), 0.001),
            ("NV12", canvas.raw(PixelFormat::Nv12), 1.5),
            ("I420", canvas.raw(PixelFormat::I420), 1.5),
            ("JPEG 4:4:4", encoded(&canvas.jpeg(fine)), 1.2),
            ("JPEG 4:2:0", encoded(&canvas.jpeg(JpegKind::default())), 2.0),
        ] {
            let difference = mean_difference(&exact, &values(&payload));
            assert!(
                difference <= far,
                "{name} in {input:?} {color:?} differs by {difference} on average, expected at most {far}"
            );
        }
    }
}

/// Grey becomes three equal channels; colour becomes BT.601 luma.
pub fn grey_and_colour_become_each_other(open: Open) {
    let canvas = Canvas::scene(size(96, 80));
    let gray = canvas.gray();
    let payloads = [
        canvas.raw(PixelFormat::Gray),
        encoded(&canvas.jpeg(JpegKind { gray: true, quality: 98, ..JpegKind::default() })),
        encoded(&png(canvas.size, png::ColorType::Grayscale, png::BitDepth::Eight, &gray)),
        canvas.raw(PixelFormat::Rgb),
        encoded(&canvas.png()),
        encoded(&canvas.jpeg(JpegKind { quality: 98, sampling: SamplingFactor::F_1_1, ..JpegKind::default() })),
    ];
    for (i, (dtype, layout, color)) in (0..payloads.len()).flat_map(|i| combinations().into_iter().map(move |c| (i, c)))
    {
        let grey_in = i < 3;
        if !grey_in && color != Color::Gray {
            continue;
        }
        let mut bench = Bench::new(open, plain(canvas.size, dtype, layout, color, Resize::Stretch));
        bench.decode(&payloads[i]).expect("a sound picture");
        let expected: Vec<f32> = gray.iter().map(|&v| v.into()).collect();
        for channel in bench.values().chunks_exact(expected.len()) {
            let difference = mean_difference(&expected, channel);
            assert!(difference <= 1.5, "payload {i} {dtype:?} {layout:?} {color:?} differs by {difference} on average");
        }
    }
}

/// Samplings, restarts, progressive, tiny and odd sizes. Samplings that no camera uses may be refused, but not decoded
/// to something else.
pub fn every_kind_of_jpeg_is_read(open: Open) {
    use SamplingFactor as S;
    let kind = JpegKind::default();
    let rare = [S::F_4_2, S::F_1_4, S::F_2_4];
    let sampled = [S::F_1_1, S::F_2_1, S::F_1_2, S::F_2_2, S::F_4_1].iter().chain(&rare).flat_map(|&sampling| {
        let kind = JpegKind { sampling, ..kind };
        [kind, JpegKind { restart_interval: 3, ..kind }, JpegKind { progressive_scans: Some(4), ..kind }]
    });
    let gray = JpegKind { gray: true, ..kind };
    let others = [
        JpegKind { progressive_scans: Some(10), ..kind },
        gray,
        JpegKind { restart_interval: 5, ..gray },
        JpegKind { progressive_scans: Some(6), ..gray },
    ];
    for kind in sampled.chain(others) {
        for (width, height) in [(160, 120), (161, 119), (1, 1), (16, 200), (200, 9), (33, 17)] {
            let canvas = Canvas::scene(size(width, height));
            let context = format!("{width}x{height} {kind:?}");
            let mut bench = Bench::new(open, plain(canvas.size, DType::U8, Layout::Nhwc, Color::Gray, Resize::Stretch));
            match bench.decode(&encoded(&canvas.jpeg(kind))) {
                Ok(_) => {}
                Err(error) if rare.contains(&kind.sampling) && error.reason == PictureUnfit => continue,
                Err(error) => panic!("{context}: {error}"),
            }
            let expected: Vec<f32> = canvas.gray().iter().map(|&v| v.into()).collect();
            let difference = mean_difference(&expected, &bench.values());
            assert!(difference <= 4.0, "{context}: differs by {difference} on average");
        }
    }
}

/// The sampling factors of a picture of one component mean nothing; some encoders write 2x2.
pub fn a_grey_jpeg_may_name_any_sampling(open: Open) {
    let canvas = Canvas::scene(size(70, 50));
    for progressive_scans in [None, Some(6)] {
        let jpeg = canvas.jpeg(JpegKind { gray: true, progressive_scans, ..JpegKind::default() });
        for color in [Color::Rgb, Color::Gray] {
            let mut bench = Bench::new(open, plain(canvas.size, DType::U8, Layout::Nhwc, color, Resize::Stretch));
            bench.decode(&encoded(&jpeg)).expect("a sound picture");
            let expected = bench.bytes().to_vec();
            for sampling in [0x22, 0x21, 0x12] {
                bench
                    .decode(&encoded(&jpeg_sampled(&jpeg, sampling)))
                    .unwrap_or_else(|error| panic!("{sampling:x}: {error}"));
                assert!(bench.bytes() == expected, "sampling {sampling:x}, {color:?}, {progressive_scans:?}");
            }
        }
    }
}

/// Depths, palettes, transparency over black, interlacing.
pub fn every_kind_of_png_is_read(open: Open) {
    use png::{BitDepth as B, ColorType as C};
    let flat = |color: C, depth: B, pixels: usize, sample: &[u8]| png(size(pixels as u32, 1), color, depth, sample);
    type Case = (&'static str, Vec<u8>, Vec<[u8; 3]>);
    let cases: Vec<Case> = vec![
        ("grey, 1 bit", flat(C::Grayscale, B::One, 4, &[0b1010_0000]), vec![[255; 3], [0; 3], [255; 3], [0; 3]]),
        ("grey, 2 bits", flat(C::Grayscale, B::Two, 4, &[0b0001_1011]), vec![[0; 3], [85; 3], [170; 3], [255; 3]]),
        ("grey, 4 bits", flat(C::Grayscale, B::Four, 2, &[0x1F]), vec![[17; 3], [255; 3]]),
        ("grey, 16 bits", flat(C::Grayscale, B::Sixteen, 2, &[0x12, 0x34, 0xFF, 0xFF]), vec![[0x12; 3], [255; 3]]),
        ("RGB, 16 bits", flat(C::Rgb, B::Sixteen, 1, &[1, 200, 2, 200, 3, 200]), vec![[1, 2, 3]]),
        (
            "RGBA",
            flat(C::Rgba, B::Eight, 3, &[10, 20, 30, 255, 10, 20, 30, 0, 100, 200, 50, 128]),
            vec![[10, 20, 30], [0; 3], [50, 100, 25]],
        ),
        (
            "grey and alpha",
            flat(C::GrayscaleAlpha, B::Eight, 3, &[90, 255, 90, 0, 200, 128]),
            vec![[90; 3], [0; 3], [100; 3]],
        ),
        ("RGBA, 16 bits", flat(C::Rgba, B::Sixteen, 1, &[8, 0, 16, 0, 32, 0, 255, 255]), vec![[8, 16, 32]]),
        ("palette, 4 bits", flat(C::Indexed, B::Four, 2, &[0x2F]), vec![[2, 4, 253], [15, 30, 240]]),
        ("palette, 8 bits, half transparent", flat(C::Indexed, B::Eight, 2, &[0, 1]), vec![[0, 0, 255], [1, 1, 127]]),
    ];
    for (name, bytes, expected) in cases {
        let mut bench = Bench::new(
            open,
            plain(size(expected.len() as u32, 1), DType::U8, Layout::Nhwc, Color::Rgb, Resize::Stretch),
        );
        bench.decode(&encoded(&bytes)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(bench.bytes(), expected.concat(), "{name}");
    }
    for (width, height) in [(1, 1), (3, 2), (5, 5), (64, 48), (67, 33)] {
        let canvas = Canvas::noise(size(width, height), 11);
        let mut bench = Bench::new(open, plain(canvas.size, DType::U8, Layout::Nhwc, Color::Rgb, Resize::Stretch));
        bench
            .decode(&encoded(&interlaced_png(&canvas)))
            .unwrap_or_else(|error| panic!("interlaced {width}x{height}: {error}"));
        assert!(bench.bytes() == canvas.rgb, "interlaced {width}x{height}");
    }
}

/// Common webcams put a few bytes before the end marker, others fill up their buffer after it.
pub fn stray_bytes_around_the_end_do_no_harm(open: Open) {
    let canvas = Canvas::scene(size(160, 120));
    let jpeg = canvas.jpeg(JpegKind::default());
    let data = &jpeg[..jpeg.len() - 2];
    let spec = plain(size(160, 120), DType::F32, Layout::Nchw, Color::Rgb, Resize::Stretch);
    let mut clean = Bench::new(open, spec.clone());
    clean.decode(&encoded(&jpeg)).expect("a sound picture");
    for (before, after) in [
        (&[][..], &[0; 100][..]),
        (&[], &[0xFF; 7]),
        (&[], &b"\xff\xd8\xff no second one"[..]),
        (&[0], &[]),
        (&[0x55, 0xAA, 1, 2], &[]),
    ] {
        let mut bench = Bench::new(open, spec.clone());
        let bytes = [data, before, &[0xFF, 0xD9], after].concat();
        bench.decode(&encoded(&bytes)).unwrap_or_else(|error| panic!("{before:?}, {after:?}: {error}"));
        assert!(bench.bytes() == clean.bytes(), "{before:?}, {after:?}");
    }
}

/// A JPEG that lost its end is no picture, wherever it was cut, and also if the cut was closed with an end marker, as
/// receivers do after packet loss.
pub fn a_cut_jpeg_is_corrupt(open: Open) {
    let mut bench =
        Bench::new(open, plain(size(64, 64), DType::F32, Layout::Nchw, Color::Rgb, Resize::Letterbox { pad: 0 }));
    let kinds = [
        JpegKind::default(),
        JpegKind { restart_interval: 4, ..JpegKind::default() },
        JpegKind { gray: true, ..JpegKind::default() },
        JpegKind { progressive_scans: Some(6), ..JpegKind::default() },
    ];
    for kind in kinds {
        for canvas in [Canvas::scene(size(160, 120)), Canvas::noise(size(80, 80), 1)] {
            let jpeg = canvas.jpeg(kind);
            let data_at = jpeg.windows(2).position(|pair| pair == [0xFF, 0xDA]).expect("a scan") + 14;
            for cut in (1..60).map(|i| jpeg.len() * i / 60).chain(jpeg.len() - 4..jpeg.len()) {
                let context = format!("{kind:?} cut at {cut} of {}", jpeg.len());
                refused(&mut bench, &encoded(&jpeg[..cut]), PictureCorrupt, &context);
                // Progressive pictures are whole after any of their scans, by their nature.
                if kind.progressive_scans.is_none() && cut > data_at && cut + 120 < jpeg.len() {
                    let closed = [&jpeg[..cut], &[0xFF, 0xD9]].concat();
                    refused(&mut bench, &encoded(&closed), PictureCorrupt, &format!("{context} and closed"));
                }
            }
        }
    }
    bench
        .decode(&encoded(&Canvas::scene(size(160, 120)).jpeg(JpegKind::default())))
        .expect("sound pictures decode after all that");
}

pub fn a_cut_png_is_corrupt(open: Open) {
    let mut bench =
        Bench::new(open, plain(size(64, 64), DType::F32, Layout::Nchw, Color::Rgb, Resize::Letterbox { pad: 0 }));
    let canvas = Canvas::noise(size(50, 40), 2);
    for png in [canvas.png(), interlaced_png(&canvas)] {
        for cut in (1..60).map(|i| png.len() * i / 60).chain(png.len() - 13..png.len()) {
            refused(&mut bench, &encoded(&png[..cut]), PictureCorrupt, &format!("cut at {cut} of {}", png.len()));
        }
        for at in (40..png.len() - 12).step_by(97) {
            let mut flipped = png.clone();
            flipped[at] ^= 4;
            refused(&mut bench, &encoded(&flipped), PictureCorrupt, &format!("a bit flipped at {at} of {}", png.len()));
        }
    }
}

/// What was wrong and what would be right, in words.
pub fn what_is_no_picture_is_refused_by_name(open: Open) {
    let mut bench =
        Bench::new(open, plain(size(64, 64), DType::F32, Layout::Nchw, Color::Rgb, Resize::Letterbox { pad: 0 }));
    let canvas = Canvas::scene(size(64, 48));
    let (jpeg, png) = (canvas.jpeg(JpegKind::default()), canvas.png());
    let starts = [
        (vec![], PayloadEmpty, "the picture has no bytes"),
        (
            b"GIF89a..".to_vec(),
            PictureCorrupt,
            "the picture begins with 47 49 46 38 39 61 2e 2e, expected JPEG (ff d8 ff) or PNG (89 50 4e 47)",
        ),
        (vec![0xFF, 0xD8], PictureCorrupt, "the picture begins with ff d8, expected"),
        (vec![0; 100_000], PictureCorrupt, "the picture begins with 00 00 00 00 00 00 00 00, expected"),
        (
            jpeg_claiming(&jpeg, 65_500, 65_500),
            PayloadTooLarge,
            "the picture is 65500x65500, 4290250000 pixels, expected at most",
        ),
        (jpeg_claiming(&jpeg, 7_900, 7_900), PictureCorrupt, "the JPEG has "),
        (jpeg_claiming(&jpeg, 0, 48), PictureCorrupt, "the picture says that it is 0x48, expected at least one pixel"),
        (jpeg_claiming(&jpeg, 64, 0), PictureCorrupt, "the picture says that it is 64x0, expected at least one pixel"),
        (jpeg_claiming(&jpeg, 64, 480), PictureCorrupt, "the JPEG is damaged"),
        (
            png_claiming(&png, 65_500, 65_500),
            PayloadTooLarge,
            "the picture is 65500x65500, 4290250000 pixels, expected at most",
        ),
        (
            png_claiming(&png, u32::MAX, u32::MAX),
            PayloadTooLarge,
            "the picture is 4294967295x4294967295, expected at most 65535 pixels on a side",
        ),
        (png_claiming(&png, 7_900, 7_900), PictureCorrupt, "the PNG has "),
        (png_claiming(&png, 0, 1), PictureCorrupt, "the picture says that it is 0x1, expected at least one pixel"),
        (png_claiming(&png, 64, 49), PictureCorrupt, "the PNG is damaged: "),
        (canvas.cmyk_jpeg(), PictureUnfit, "the JPEG is CMYK or YCCK (print colours), expected grey, YCbCr or RGB"),
    ];
    for (bytes, reason, start) in starts {
        let message = refused(&mut bench, &encoded(&bytes), reason, start);
        assert!(message.starts_with(start), "{message}");
    }
}

pub fn raw_pictures_have_the_bytes_that_their_size_says(open: Open) {
    let mut bench =
        Bench::new(open, plain(size(64, 64), DType::F32, Layout::Nchw, Color::Rgb, Resize::Letterbox { pad: 0 }));
    let cases = [
        (PixelFormat::Rgb, (64, 48), 9215, PictureUnfit, "the raw RGB picture of 64x48 has 9215 bytes, expected 9216"),
        (PixelFormat::Bgr, (64, 48), 9217, PictureUnfit, "the raw BGR picture of 64x48 has 9217 bytes, expected 9216"),
        (PixelFormat::Gray, (64, 48), 1, PictureUnfit, "the raw grey picture of 64x48 has 1 bytes, expected 3072"),
        (
            PixelFormat::Nv12,
            (64, 48),
            9216,
            PictureUnfit,
            "the raw NV12 picture of 64x48 has 9216 bytes, expected 4608",
        ),
        (PixelFormat::Nv12, (641, 480), 461_520, PictureUnfit, "the raw NV12 picture is 641x480, expected even sides"),
        (PixelFormat::I420, (640, 481), 461_760, PictureUnfit, "the raw I420 picture is 640x481, expected even sides"),
        (PixelFormat::Rgb, (64, 48), 0, PayloadEmpty, "the picture has no bytes"),
        (PixelFormat::Rgb, (0, 48), 3, PictureCorrupt, "the picture says that it is 0x48, expected at least one pixel"),
        (
            PixelFormat::Rgb,
            (u32::MAX, u32::MAX),
            3,
            PayloadTooLarge,
            "the picture is 4294967295x4294967295, expected at most 65535 pixels on a side",
        ),
        (
            PixelFormat::Gray,
            (60_000, 60_000),
            3,
            PayloadTooLarge,
            "the picture is 60000x60000, 3600000000 pixels, expected at most 64000000",
        ),
    ];
    for (format, (width, height), bytes, reason, expected) in cases {
        let payload =
            Payload::Raw(Box::new(RawPicture { bytes: vec![0; bytes].into(), size: size(width, height), format }));
        assert_eq!(refused(&mut bench, &payload, reason, expected), expected);
    }
}
