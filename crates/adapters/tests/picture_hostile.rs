//! Bytes that want to hurt: flipped, cut, spliced and inflated pictures never panic, hang or pass unnoticed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use omma_adapters::picture::{JpegLibrary, PictureLimits, SpecError, factory, factory_with};
use omma_engine::picture::{Color, Layout, PictureDecoderFactory, PictureSpec, Resize};
use omma_engine::tensor::DType;
use omma_frame::DropReason::{PayloadEmpty, PayloadTooLarge, PictureCorrupt, PictureUnfit};
use omma_frame::{Payload, PixelFormat, Size};
use omma_testkit::picture::{Bench, plain};
use omma_testkit::picture_fixtures::{
    Canvas, JpegKind, encoded, interlaced_png, jpeg_claiming, png_claiming, scan_bomb,
};
use proptest::collection::vec;
use proptest::prelude::*;

const LIBRARIES: &[JpegLibrary] = &[
    #[cfg(feature = "turbojpeg")]
    JpegLibrary::Turbo,
    JpegLibrary::Zune,
];

fn size(width: u32, height: u32) -> Size {
    Size { width, height }
}

fn spec() -> PictureSpec {
    plain(size(64, 48), DType::F32, Layout::Nchw, Color::Rgb, Resize::Letterbox { pad: 114 })
}

fn bench(library: JpegLibrary, limits: PictureLimits) -> Bench {
    Bench::new(&|spec| factory_with(library, spec, limits).expect("a sound model input"), spec())
}

/// Whole pictures, small enough that a case takes a millisecond.
fn seeds() -> Vec<Vec<u8>> {
    let (scene, noise) = (Canvas::scene(size(96, 80)), Canvas::noise(size(40, 33), 9));
    let kind = JpegKind { quality: 70, ..JpegKind::default() };
    vec![
        scene.jpeg(kind),
        noise.jpeg(JpegKind { restart_interval: 2, ..kind }),
        scene.jpeg(JpegKind { gray: true, ..kind }),
        scene.jpeg(JpegKind { progressive_scans: Some(6), ..kind }),
        scene.png(),
        interlaced_png(&noise),
    ]
}

#[derive(Debug, Clone)]
enum Harm {
    Flip { at: prop::sample::Index, bits: u8 },
    Set { at: prop::sample::Index, to: u8 },
    Cut { at: prop::sample::Index },
    Remove { at: prop::sample::Index, len: usize },
    Insert { at: prop::sample::Index, bytes: Vec<u8> },
    Repeat { at: prop::sample::Index, len: usize },
}

impl Harm {
    fn any() -> impl Strategy<Value = Self> {
        let at = any::<prop::sample::Index>;
        // Markers are where JPEG parsers branch.
        let marker = prop::sample::select(vec![0xC0u8, 0xC2, 0xC4, 0xD0, 0xD8, 0xD9, 0xDA, 0xDB, 0xDD, 0xE1, 0xFE]);
        prop_oneof![
            4 => (at(), 1u8..).prop_map(|(at, bits)| Self::Flip { at, bits }),
            4 => (at(), any::<u8>()).prop_map(|(at, to)| Self::Set { at, to }),
            1 => at().prop_map(|at| Self::Cut { at }),
            2 => (at(), 1usize..200).prop_map(|(at, len)| Self::Remove { at, len }),
            1 => (at(), vec(any::<u8>(), 1..40)).prop_map(|(at, bytes)| Self::Insert { at, bytes }),
            1 => (at(), marker).prop_map(|(at, marker)| Self::Insert { at, bytes: std::vec![0xFF, marker] }),
            1 => (at(), 1usize..400).prop_map(|(at, len)| Self::Repeat { at, len }),
        ]
    }

    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        match self {
            Self::Flip { at, bits } => {
                let at = at.index(bytes.len());
                bytes[at] ^= bits;
            }
            Self::Set { at, to } => {
                let at = at.index(bytes.len());
                bytes[at] = *to;
            }
            Self::Cut { at } => bytes.truncate(at.index(bytes.len())),
            Self::Remove { at, len } => {
                let from = at.index(bytes.len());
                bytes.drain(from..(from + len).min(bytes.len()));
            }
            Self::Insert { at, bytes: inserted } => {
                let at = at.index(bytes.len());
                bytes.splice(at..at, inserted.iter().copied());
            }
            Self::Repeat { at, len } => {
                let from = at.index(bytes.len());
                let repeated = bytes[from..(from + len).min(bytes.len())].to_vec();
                bytes.splice(from..from, repeated);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn a_harmed_picture_is_refused_by_name_or_decoded_whole(seed in any::<prop::sample::Index>(), harms in vec(Harm::any(), 1..5)) {
        let seeds = seeds();
        let mut bytes = seeds[seed.index(seeds.len())].clone();
        harms.iter().for_each(|harm| harm.apply(&mut bytes));
        for &library in LIBRARIES {
            // A small picture that claims to be large costs what it claims: keep the cases quick.
            let mut bench = bench(library, PictureLimits { pixels_max: 1_000_000, ..PictureLimits::default() });
            match bench.decode(&encoded(&bytes)) {
                Ok(fit) => {
                    prop_assert!(fit.original.width > 0 && fit.original.height > 0);
                    prop_assert!(omma_engine::tensor::as_f32(bench.bytes()).iter().all(|v| (0.0..=255.0).contains(v)));
                }
                Err(error) => {
                    prop_assert!([PayloadEmpty, PayloadTooLarge, PictureCorrupt, PictureUnfit].contains(&error.reason));
                    prop_assert_eq!(bytes.is_empty(), error.reason == PayloadEmpty);
                    prop_assert!(!error.message.is_empty());
                }
            }
        }
    }

    #[test]
    fn garbage_is_no_picture(bytes in vec(any::<u8>(), 0..300), start in prop::sample::select(vec![&b""[..], b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"])) {
        for &library in LIBRARIES {
            let mut bench = bench(library, PictureLimits::default());
            prop_assert!(bench.decode(&encoded(&[start, &bytes].concat())).is_err());
        }
    }

    #[test]
    fn raw_pictures_of_any_size_and_length_are_checked(
        width in 0u32..40, height in 0u32..40, len in 0usize..5000, exact in any::<bool>(),
        format in prop::sample::select(vec![PixelFormat::Rgb, PixelFormat::Bgr, PixelFormat::Gray, PixelFormat::Nv12, PixelFormat::I420]),
    ) {
        let expected = format.byte_len(size(width, height));
        let len = if exact { expected } else { len };
        let halved = matches!(format, PixelFormat::Nv12 | PixelFormat::I420);
        let sound = len == expected && len > 0 && (!halved || (width % 2 == 0 && height % 2 == 0));
        let picture = omma_frame::RawPicture { bytes: vec![7; len].into(), size: size(width, height), format };
        let decoded = bench(JpegLibrary::best(), PictureLimits::default()).decode(&Payload::Raw(Box::new(picture)));
        prop_assert_eq!(decoded.is_ok(), sound, "{:?}", decoded);
    }
}

/// libjpeg-turbo stays in the middle of a header that it could not read, and refuses whatever comes next. Found by fuzzing.
#[test]
fn a_header_that_cannot_be_read_costs_its_own_picture_only() {
    let sound = Canvas::scene(size(64, 48)).jpeg(JpegKind::default());
    let frame = sound.windows(2).position(|pair| pair == [0xFF, 0xC0]).expect("a frame header");
    let without_sampling = [&sound[..frame + 11], &[0x00], &sound[frame + 12..]].concat();
    let reserved_marker = [&sound[..2], &[0xFF, 0xA8, 0, 4, 1, 2], &sound[2..]].concat();
    let short_table = [&sound[..2], &[0xFF, 0xDB, 0, 4, 1, 2], &sound[2..]].concat();
    for &library in LIBRARIES {
        for hostile in [&reserved_marker, &without_sampling, &short_table] {
            let mut bench = bench(library, PictureLimits::default());
            bench.decode(&encoded(&sound)).expect("a sound picture");
            let expected = bench.bytes().to_vec();
            let _ = bench.decode(&encoded(hostile));
            bench.decode(&encoded(&sound)).expect("a sound picture behind a hostile one");
            assert!(bench.bytes() == expected, "{}", library.name());
        }
    }
}

/// What each of these costs its sender is a kilobyte or less; what it costs us is bounded.
#[test]
fn small_bombs_take_no_time() {
    let scene = Canvas::scene(size(96, 80));
    let progressive = scene.jpeg(JpegKind { progressive_scans: Some(6), ..JpegKind::default() });
    let baseline = scene.jpeg(JpegKind::default());
    let bombs = [
        ("a header that claims 64 megapixels", jpeg_claiming(&baseline, 8000, 8000)),
        ("a progressive one", jpeg_claiming(&progressive, 8000, 8000)),
        ("a PNG of 64 megapixels", png_claiming(&scene.png(), 8000, 8000)),
        ("ten thousand scans", scan_bomb(&progressive, 10_000)),
        ("ten thousand scans of a large picture", scan_bomb(&jpeg_claiming(&progressive, 2000, 1200), 10_000)),
        ("ten thousand headers", [&baseline[..2], &[0xFF, 0xE0, 0, 2].repeat(10_000)].concat()),
        ("a megabyte of fill bytes", [&baseline[..2], &vec![0xFF; 1 << 20][..]].concat()),
    ];
    for &library in LIBRARIES {
        let mut bench = bench(library, PictureLimits::default());
        for (name, bytes) in &bombs {
            let start = Instant::now();
            let error = bench.decode(&encoded(bytes)).expect_err(name);
            assert_eq!(error.reason, PictureCorrupt, "{name}: {error}");
            // Generous: this guards against minutes, on machines that do other things too.
            assert!(
                start.elapsed() < Duration::from_secs(2),
                "{name} took {:?} in {}: {error}",
                start.elapsed(),
                library.name()
            );
        }
    }
}

#[test]
fn limits_are_those_of_the_configuration() {
    let jpeg = Canvas::scene(size(64, 48)).jpeg(JpegKind::default());
    let limits = PictureLimits::default();
    let cases = [
        (PictureLimits { bytes_max: jpeg.len(), pixels_max: 64 * 48, expect_size: Some(size(64, 48)) }, None),
        (
            PictureLimits { bytes_max: 100, ..limits },
            Some((PayloadTooLarge, format!("the picture has {} bytes, expected at most 100", jpeg.len()))),
        ),
        (
            PictureLimits { pixels_max: 3071, ..limits },
            Some((PayloadTooLarge, "the picture is 64x48, 3072 pixels, expected at most 3071".to_owned())),
        ),
        (
            PictureLimits { expect_size: Some(size(1280, 720)), ..limits },
            Some((PictureUnfit, "the camera delivered 64x48, the configuration expects 1280x720".to_owned())),
        ),
    ];
    for (limits, expected) in cases {
        for &library in LIBRARIES {
            let found = bench(library, limits).decode(&encoded(&jpeg)).err().map(|error| (error.reason, error.message));
            assert_eq!(found, expected);
        }
    }
}

#[test]
fn a_model_input_that_takes_no_pictures_is_refused_at_once() {
    let good = spec();
    let cases = [
        (
            PictureSpec { dtype: DType::I64, ..good.clone() },
            "the model's input has elements of type i64, expected u8, f16 or f32 for pictures",
        ),
        (
            PictureSpec { size: size(0, 640), ..good.clone() },
            "the model's input is 0x640, expected 1 to 65535 pixels on each side",
        ),
        (
            PictureSpec { std: [1.0, 0.0, 1.0], ..good.clone() },
            "scale 1, mean [0.0, 0.0, 0.0] and std [1.0, 0.0, 1.0] give values that are not finite, expected finite numbers and no zero in std",
        ),
    ];
    let refusal = |spec: PictureSpec| -> Result<Arc<dyn PictureDecoderFactory>, SpecError> {
        factory(spec, PictureLimits::default())
    };
    for (spec, message) in cases {
        assert_eq!(refusal(spec).err().map(|error| error.to_string()).as_deref(), Some(message));
    }
    assert!(refusal(PictureSpec { std: [0.0; 3], dtype: DType::U8, ..good }).is_ok(), "nothing is computed for u8");
}
