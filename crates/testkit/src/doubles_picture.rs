//! Pictures whose bytes say what is to become of them, and the doubles that obey: a picture decoder, an output
//! decoder. A frame's way can so be scripted where it begins, whatever batch and instance it ends up in.
//!
//! A picture is eight bytes: what its decoder does, what the model does with it, what the output decoder does, one
//! unused, and a value (`u32`, little endian) that an undisturbed frame comes out with, as an embedding of one number.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use omma_engine::picture::{
    Color, Fit, Layout, PictureDecoder, PictureDecoderFactory, PictureError, PictureSpec, Resize,
};
use omma_engine::post::{OutputDecoder, OutputDecoderFactory, OutputError};
use omma_engine::tensor::{DType, TensorView, Values};
use omma_frame::{DropReason, Output, Payload, Size};

/// Bytes of a picture, which are also the bytes of its slot.
pub const PICTURE_BYTES: usize = 8;

/// What the picture decoder does with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum OnDecode {
    #[default]
    Fine,
    Corrupt,
    WrongSize,
    TooManyPixels,
    Panic,
}

/// What the model does with it; see [`crate::doubles_backend`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum OnInfer {
    #[default]
    Fine,
    /// This frame fails, its batch goes on.
    FailItem,
    /// Its batch fails.
    FailBatch,
    Panic,
}

/// What the output decoder does with what came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum OnRead {
    #[default]
    Fine,
    Unreadable,
    Panic,
}

/// A scripted picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Picture {
    pub decode: OnDecode,
    pub infer: OnInfer,
    pub read: OnRead,
    pub value: u32,
}

impl Picture {
    /// The reason that the frame is dropped for, if it is served alone; `None`: it comes out well.
    #[must_use]
    pub fn fate(&self) -> Option<DropReason> {
        match (self.decode, self.infer, self.read) {
            (OnDecode::Corrupt | OnDecode::Panic, ..) => Some(DropReason::PictureCorrupt),
            (OnDecode::WrongSize, ..) => Some(DropReason::PictureUnfit),
            (OnDecode::TooManyPixels, ..) => Some(DropReason::PayloadTooLarge),
            (_, OnInfer::FailItem | OnInfer::FailBatch, _) => Some(DropReason::BackendFailed),
            (_, OnInfer::Panic, _) => Some(DropReason::BackendPanicked),
            (_, _, OnRead::Unreadable | OnRead::Panic) => Some(DropReason::OutputUnreadable),
            _ => None,
        }
    }

    #[must_use]
    pub fn bytes(&self) -> Bytes {
        let mut bytes = vec![self.decode as u8, self.infer as u8, self.read as u8, 0];
        bytes.extend(self.value.to_le_bytes());
        bytes.into()
    }
}

/// How the doubles want their pictures: eight grey pixels.
#[must_use]
pub fn spec() -> PictureSpec {
    PictureSpec {
        size: Size { width: 4, height: 2 },
        dtype: DType::U8,
        layout: Layout::Nhwc,
        color: Color::Gray,
        resize: Resize::Stretch,
        scale: 1.0,
        mean: [0.0; 3],
        std: [1.0; 3],
    }
}

/// Decoders that obey the pictures and count how many they have seen.
#[derive(Default)]
pub struct Pictures {
    decoded: Arc<AtomicU64>,
}

impl Pictures {
    /// Pictures that any of its decoders has been given.
    #[must_use]
    pub fn decoded(&self) -> u64 {
        self.decoded.load(Ordering::SeqCst)
    }
}

impl PictureDecoderFactory for Pictures {
    fn open(&self) -> Box<dyn PictureDecoder> {
        Box::new(Decoder(Arc::clone(&self.decoded)))
    }
}

struct Decoder(Arc<AtomicU64>);

impl PictureDecoder for Decoder {
    fn decode(&mut self, payload: &Payload, slot: &mut [u8]) -> Result<Fit, PictureError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        let refuse = |reason, message: &str| Err(PictureError { reason, message: message.to_owned() });
        let Payload::Encoded(bytes) = payload else { return refuse(DropReason::PictureUnfit, "raw pixels") };
        if bytes.len() < PICTURE_BYTES {
            return refuse(DropReason::PictureCorrupt, "the picture ends early");
        }
        // As a real decoder does, it has written to the slot before it notices.
        slot.copy_from_slice(&bytes[..PICTURE_BYTES]);
        match bytes[0] {
            0 => Ok(Fit::new(spec().size, spec().size, Resize::Stretch)),
            1 => refuse(DropReason::PictureCorrupt, "not a picture"),
            2 => refuse(DropReason::PictureUnfit, "the picture is 3x1, expected 4x2"),
            3 => refuse(DropReason::PayloadTooLarge, "the picture has 10000 megapixels"),
            _ => panic!("told to panic on a picture"),
        }
    }
}

/// Reads the doubles' outputs: `[2]` numbers of type `i64`, what to do and the value.
pub struct Reader;

impl OutputDecoderFactory for Reader {
    fn open(&self) -> Box<dyn OutputDecoder> {
        Box::new(Self)
    }
}

impl OutputDecoder for Reader {
    fn decode(&mut self, outputs: &[TensorView<'_>], _: &Fit) -> Result<Output, OutputError> {
        let unreadable = |message: &str| Err(OutputError { message: message.to_owned() });
        let &[TensorView { values: Values::I64(&[act, value]), .. }] = outputs else {
            return unreadable("expected one output of two numbers");
        };
        match act {
            0 => Ok(Output::Embedding(vec![value as f32])),
            1 => unreadable("a score is not a number"),
            _ => panic!("told to panic on an output"),
        }
    }
}
