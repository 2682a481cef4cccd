//! A warm decoder allocates nothing of its own: counted, for the ways that have no library with habits in them.
#![cfg(feature = "turbojpeg")]

use std::alloc::{GlobalAlloc, Layout as Memory, System};
use std::cell::Cell;

use omma_adapters::picture::{PictureLimits, factory};
use omma_engine::picture::{Color, Layout, PictureDecoder, Resize};
use omma_engine::tensor::{BatchTensor, DType};
use omma_frame::{Payload, PixelFormat, Size};
use omma_testkit::picture::plain;
use omma_testkit::picture_fixtures::{Canvas, JpegKind, encoded};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, memory: Memory) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        unsafe { System.alloc(memory) }
    }

    unsafe fn dealloc(&self, at: *mut u8, memory: Memory) {
        unsafe { System.dealloc(at, memory) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn size(width: u32, height: u32) -> Size {
    Size { width, height }
}

/// Allocations by Rust code of one more picture after each of `payloads` has been seen.
fn allocations(decoder: &mut dyn PictureDecoder, slot: &mut [u8], payloads: &[Payload]) -> usize {
    for payload in payloads.iter().chain(payloads) {
        decoder.decode(payload, slot).expect("a sound picture");
    }
    let before = ALLOCATIONS.get();
    for payload in payloads {
        decoder.decode(payload, slot).expect("a sound picture");
    }
    ALLOCATIONS.get() - before
}

#[test]
fn a_warm_decoder_allocates_nothing() {
    let jpeg = |width, height| encoded(&Canvas::scene(size(width, height)).jpeg(JpegKind::default()));
    let raw = |width, height, format| Canvas::scene(size(width, height)).raw(format);
    // Of cameras with several sizes, in turn. The resizer computes its weights anew for each picture, in one small
    // table for each row and column of the result.
    let tables = 320 + 320 + 16;
    let cases: [(&str, Vec<Payload>, usize); 4] = [
        ("JPEG that fits or halves", vec![jpeg(320, 240), jpeg(640, 480), jpeg(640, 360), jpeg(2560, 1440)], 0),
        (
            "raw that fits",
            vec![raw(320, 240, PixelFormat::Bgr), raw(320, 180, PixelFormat::Nv12), raw(320, 160, PixelFormat::I420)],
            0,
        ),
        ("JPEG with a resize", vec![jpeg(500, 400)], tables),
        ("raw with a resize", vec![raw(500, 400, PixelFormat::Rgb)], tables),
    ];
    for (name, payloads, most) in cases {
        for (dtype, layout) in [
            (DType::U8, Layout::Nhwc),
            (DType::U8, Layout::Nchw),
            (DType::F32, Layout::Nhwc),
            (DType::F32, Layout::Nchw),
        ] {
            let spec = plain(size(320, 320), dtype, layout, Color::Rgb, Resize::Letterbox { pad: 114 });
            let mut tensor = BatchTensor::new(1, spec.slot_bytes());
            let mut decoder = factory(spec, PictureLimits::default()).expect("a sound model input").open();
            let slot = tensor.slots_mut().next().expect("one slot");
            let found = allocations(&mut *decoder, slot, &payloads);
            assert!(found <= most, "{name}, {dtype:?} {layout:?}: {found} allocations, expected at most {most}");
        }
    }
}
