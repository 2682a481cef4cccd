//! The JPEG libraries give the same pictures, so that a model sees no difference between builds.
#![cfg(feature = "turbojpeg")]

use omma_adapters::picture::{JpegEncoder, JpegLibrary, PictureLimits, factory_with};
use omma_engine::picture::{Color, Layout, PictureSpec, Resize};
use omma_engine::tensor::{DType, as_f32};
use omma_frame::Size;
use omma_testkit::picture::{Bench, plain};
use omma_testkit::picture_fixtures::{Canvas, JpegKind, encoded};

fn size(width: u32, height: u32) -> Size {
    Size { width, height }
}

fn values(library: JpegLibrary, spec: &PictureSpec, jpeg: &[u8]) -> Vec<f32> {
    let open = |spec| factory_with(library, spec, PictureLimits::default()).expect("a sound model input");
    let mut bench = Bench::new(&open, spec.clone());
    bench.decode(&encoded(jpeg)).expect("a sound picture");
    as_f32(bench.bytes()).to_vec()
}

/// The average and the 99.9th percentile of the differences, in steps of a pixel's 256.
fn differences(a: &[f32], b: &[f32]) -> (f32, f32) {
    let mut all: Vec<f32> = a.iter().zip(b).map(|(a, b)| (a - b).abs()).collect();
    all.sort_by(f32::total_cmp);
    (all.iter().sum::<f32>() / all.len() as f32, all[all.len() * 999 / 1000])
}

#[test]
fn the_libraries_agree() {
    // (original, input, average, 99.9th percentile). At full size they round differently; a reduced decode also takes
    // its averages over blocks of 2, 4 or 8 pixels before the resize, which shows at hard edges.
    let cases = [
        ((640, 480), (640, 640), 0.3, 4.0),
        ((640, 480), (500, 375), 0.3, 4.0),
        ((1280, 720), (640, 640), 0.5, 32.0),
        ((1920, 1080), (640, 640), 0.5, 32.0),
        ((1920, 1080), (224, 224), 0.5, 32.0),
        ((641, 479), (320, 192), 0.5, 32.0),
    ];
    for (original, input, average_max, percentile_max) in cases {
        let canvas = Canvas::scene(size(original.0, original.1));
        for color in [Color::Rgb, Color::Bgr, Color::Gray] {
            let spec = plain(size(input.0, input.1), DType::F32, Layout::Nchw, color, Resize::Letterbox { pad: 114 });
            for gray in [false, true] {
                let jpeg = canvas.jpeg(JpegKind { quality: 85, gray, ..JpegKind::default() });
                let (a, b) = (values(JpegLibrary::Turbo, &spec, &jpeg), values(JpegLibrary::Zune, &spec, &jpeg));
                let (average, percentile) = differences(&a, &b);
                let context = format!(
                    "{original:?} in {input:?} {color:?} gray {gray}: {average} on average, {percentile} at 99.9%"
                );
                assert!(average <= average_max && percentile <= percentile_max, "{context}");
            }
        }
    }
}

#[test]
fn what_the_encoder_writes_both_libraries_read_back() {
    let canvas = Canvas::scene(size(320, 240));
    let mut jpeg = Vec::new();
    JpegEncoder::default().encode(&canvas.rgb, canvas.size, 90, &mut jpeg).expect("a picture");
    let expected: Vec<f32> = canvas.rgb.iter().map(|&v| v.into()).collect();
    let spec = plain(canvas.size, DType::F32, Layout::Nhwc, Color::Rgb, Resize::Stretch);
    for library in [JpegLibrary::Turbo, JpegLibrary::Zune] {
        let (average, _) = differences(&expected, &values(library, &spec, &jpeg));
        assert!(average <= 2.5, "{}: {average}", library.name());
    }
}
