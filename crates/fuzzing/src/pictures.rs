//! Pictures: JPEG through both libraries, PNG, raw pixels. The first byte tells the model's input.

use std::sync::OnceLock;

use bytes::Bytes;
use omma_adapters::picture::{JpegLibrary, PictureLimits, factory_with};
use omma_engine::picture::{Color, Fit, Layout, PictureDecoder, PictureError, PictureSpec, Resize};
use omma_engine::tensor::{BatchTensor, DType, as_f32};
use omma_frame::DropReason::{PayloadEmpty, PayloadTooLarge, PictureCorrupt, PictureUnfit};
use omma_frame::{Payload, PixelFormat, RawPicture, Size};
use omma_testkit::picture_fixtures::{self as fixtures, Canvas, JpegKind, encoded};

use crate::input::Input;

/// Small, so that a fuzzer gets on.
const LIMITS: PictureLimits = PictureLimits { bytes_max: 1 << 16, pixels_max: 1 << 16, expect_size: None };

const LIBRARIES: [JpegLibrary; 2] = [JpegLibrary::Turbo, JpegLibrary::Zune];

fn spec(input: &mut Input) -> PictureSpec {
    let choice = input.byte();
    let bit = |at: u8| choice >> at & 1 == 1;
    let dtype = match (bit(0), bit(6)) {
        (false, _) => DType::U8,
        (true, false) => DType::F32,
        (true, true) => DType::F16,
    };
    PictureSpec {
        size: if bit(1) { Size { width: 32, height: 24 } } else { Size { width: 9, height: 17 } },
        dtype,
        layout: if bit(2) { Layout::Nchw } else { Layout::Nhwc },
        color: [Color::Rgb, Color::Bgr, Color::Gray, Color::Rgb][usize::from(choice >> 3 & 3)],
        resize: if bit(5) { Resize::Stretch } else { Resize::Letterbox { pad: 114 } },
        scale: dtype.usual_scale(),
        mean: [0.0; 3],
        std: [1.0; 3],
    }
}

/// A sound picture, and what each library and input makes of it.
fn sound() -> &'static Payload {
    static SOUND: OnceLock<Payload> = OnceLock::new();
    SOUND.get_or_init(|| encoded(&Canvas::scene(Size { width: 24, height: 24 }).jpeg(JpegKind::default())))
}

fn open(library: JpegLibrary, spec: &PictureSpec) -> Box<dyn PictureDecoder> {
    factory_with(library, spec.clone(), LIMITS).expect("a sound model input").open()
}

/// Decodes into a slot full of `soil`.
fn decode(
    decoder: &mut dyn PictureDecoder,
    spec: &PictureSpec,
    payload: &Payload,
    soil: u8,
) -> Result<(Fit, BatchTensor), PictureError> {
    let mut tensor = BatchTensor::new(1, spec.slot_bytes());
    tensor.slot_mut(0).fill(soil);
    decoder.decode(payload, tensor.slot_mut(0)).map(|fit| (fit, tensor))
}

/// The laws of any payload.
fn hold(library: JpegLibrary, spec: &PictureSpec, payload: &Payload) -> Result<Fit, PictureError> {
    let mut decoder = open(library, spec);
    let first = decode(&mut *decoder, spec, payload, 0x00);
    let second = decode(&mut *decoder, spec, payload, 0xFF);
    match (&first, &second) {
        (Ok((fit, slot)), Ok((again, other))) => {
            assert!(slot.bytes(1) == other.bytes(1), "a part of the slot was not written by {}", library.name());
            assert_eq!(fit, again);
            assert!(spec.dtype != DType::F32 || as_f32(slot.bytes(1)).iter().all(|value| value.is_finite()));
            let Size { width, height } = fit.original;
            assert!(width > 0 && height > 0 && u64::from(width) * u64::from(height) <= LIMITS.pixels_max, "{fit:?}");
        }
        (Err(error), Err(again)) => {
            assert!(
                matches!(error.reason, PayloadEmpty | PayloadTooLarge | PictureCorrupt | PictureUnfit),
                "{error:?}"
            );
            assert!(!error.message.is_empty() && error.message.len() < 1000, "{error:?}");
            assert_eq!((error.reason, &error.message), (again.reason, &again.message));
        }
        _ => panic!("{} took it once and refused it once", library.name()),
    }
    let after = decode(&mut *decoder, spec, sound(), 0).expect("a sound picture").1;
    let expected = decode(&mut *open(library, spec), spec, sound(), 0).expect("a sound picture").1;
    assert!(after.bytes(1) == expected.bytes(1), "{} carried something into the next picture", library.name());
    first.map(|(fit, _)| fit)
}

/// A JPEG's header and its decoding.
pub fn jpeg(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let spec = spec(&mut input);
    // Beginning as a JPEG must, so that no input is spent on learning three bytes.
    let payload = encoded(&[&[0xFF, 0xD8, 0xFF], input.rest()].concat());
    let [turbo, zune] = LIBRARIES.map(|library| hold(library, &spec, &payload));
    if let (Ok(turbo), Ok(zune)) = (turbo, zune) {
        assert_eq!(turbo, zune, "one picture, two sizes");
    }
}

/// PNG.
pub fn png(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let spec = spec(&mut input);
    // libjpeg-turbo's decoder differs in nothing that a PNG meets.
    let _ = hold(JpegLibrary::Zune, &spec, &encoded(&[b"\x89PNG", input.rest()].concat()));
}

const FORMATS: [PixelFormat; 5] =
    [PixelFormat::Rgb, PixelFormat::Bgr, PixelFormat::Gray, PixelFormat::Nv12, PixelFormat::I420];

/// Raw pixels: any size, any number of bytes.
pub fn raw(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let spec = spec(&mut input);
    let format = input.pick(&FORMATS);
    let odd = input.byte();
    let mut side = |large: bool| if large { input.u32() } else { u32::from(input.byte()) };
    let size = Size { width: side(odd & 1 == 1), height: side(odd & 2 == 2) };
    let Size { width, height } = size;
    let pixels = u64::from(width) * u64::from(height);
    let bounded = pixels <= LIMITS.pixels_max;
    let mut pixel_bytes = input.rest().to_vec();
    // The right number as a rule: the other is refused early.
    if odd & 4 == 0 && bounded {
        pixel_bytes.resize(format.byte_len(size), 0xA5);
    }
    let halved = matches!(format, PixelFormat::Nv12 | PixelFormat::I420);
    let fits = (1..=65_535).contains(&width)
        && (1..=65_535).contains(&height)
        && bounded
        && (!halved || (width % 2 == 0 && height % 2 == 0))
        && pixel_bytes.len() == format.byte_len(size);
    let payload = Payload::Raw(Box::new(RawPicture { bytes: Bytes::from(pixel_bytes), size, format }));
    let taken = hold(JpegLibrary::Zune, &spec, &payload);
    assert_eq!(taken.is_ok(), fits, "{width}x{height} {format:?}: {taken:?}");
    assert!(taken.is_err() || taken.is_ok_and(|fit| fit.original == size));
}

/// Each with several inputs of models.
fn seeds(pictures: Vec<Vec<u8>>, start: usize) -> Vec<Vec<u8>> {
    let choices = [0x00, 0x23, 0x0F, 0x15];
    let with = |(at, picture): (usize, Vec<u8>)| [&[choices[at % choices.len()]], &picture[start..]].concat();
    pictures.into_iter().enumerate().map(with).collect()
}

pub(crate) fn jpeg_seeds() -> Vec<Vec<u8>> {
    let (scene, noise) =
        (Canvas::scene(Size { width: 48, height: 40 }), Canvas::noise(Size { width: 17, height: 9 }, 9));
    let kind = JpegKind { quality: 70, ..JpegKind::default() };
    let progressive = scene.jpeg(JpegKind { progressive_scans: Some(6), ..kind });
    let pictures = vec![
        scene.jpeg(kind),
        noise.jpeg(JpegKind { restart_interval: 2, ..kind }),
        noise.jpeg(JpegKind { gray: true, ..kind }),
        fixtures::scan_bomb(&progressive, 70),
        fixtures::jpeg_claiming(&noise.jpeg(kind), 64, 64),
        fixtures::jpeg_sampled(&noise.jpeg(kind), 0x41),
        noise.cmyk_jpeg(),
        progressive,
    ];
    seeds(pictures, 3)
}

pub(crate) fn png_seeds() -> Vec<Vec<u8>> {
    let (scene, noise) =
        (Canvas::scene(Size { width: 24, height: 20 }), Canvas::noise(Size { width: 9, height: 7 }, 9));
    let pictures = vec![
        scene.png(),
        fixtures::interlaced_png(&noise),
        fixtures::png_claiming(&noise.png(), 200, 300),
        fixtures::png_claiming(&noise.png(), 40_000, 40_000),
    ];
    seeds(pictures, 4)
}

pub(crate) fn raw_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for format in 0..5 {
        seeds.push([&[0x03, format, 0, 16, 12], &[7; 64][..]].concat());
        seeds.push(vec![0x2C, format, 3, 1, 0, 1, 0, 0xFF, 0xFF, 0xFF, 0xFF]);
        seeds.push(vec![0x11, format, 4, 3, 5, 1, 2, 3]);
    }
    seeds
}
