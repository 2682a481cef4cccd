//! From payloads to slots of the batch tensor: JPEG and PNG decoding, resizing, colour, normalisation.
//!
//! Owns one decoder's scratch memory; runs on the preparing thread that opened the decoder and knows no other
//! thread. The way of a picture is as short as its kind allows:
//!
//! | payload | passes |
//! | --- | --- |
//! | JPEG that a 1/1, 1/2, 1/4 or 1/8 decode brings to the placed size, `u8` interleaved model | 1: decode into the slot |
//! | the same, any other model | 2: decode, fill |
//! | any other JPEG, and PNG | 3: decode, resize, fill (2 for `u8` interleaved models: the resize writes the slot) |
//! | raw RGB, BGR, grey | 1 or 2: resize if the size differs, fill |
//! | raw NV12, I420 | 2 or 3: planes resized, colour, fill; never an RGB picture of the original size for a smaller model |
//!
//! "Fill" is one vectorised pass: colour order, layout, `f32` and normalisation at once (`fill.rs`).
//!
//! What is absent: EXIF orientation is ignored (cameras turn their pictures themselves, and boxes must lie in the
//! picture that was delivered); colour profiles are ignored; CMYK, arithmetic-coded, lossless and 12-bit JPEG are
//! refused; no picture is decoded beyond [`PictureLimits`], and no JPEG with more scans than a camera would send.
//!
//! Scratch memory is kept between pictures and given back only after one of unusual size. A warm decoder allocates
//! nothing where nothing is resized; the resizer allocates a small table for each row and column of its result, and
//! zune-jpeg, the PNG library and libjpeg-turbo (outside of Rust's allocator) their state for each picture.

mod encode;
mod error;
mod fill;
mod jpeg;
mod kernel;
mod limits;
mod place;
mod png;
mod raw;

use std::sync::Arc;

use omma_engine::picture::{Color, Fit, PictureDecoder, PictureDecoderFactory, PictureError, PictureSpec};
use omma_frame::{DropReason, Handle, Payload, PictureView, RawView, Unreadable};

pub use encode::{EncodeError, JpegEncoder, encode_jpeg};
pub use error::SpecError;
pub use jpeg::JpegLibrary;
pub use limits::PictureLimits;

use error::corrupt;
use fill::Filler;
use place::{Pixels, Placement, Placer, Region};

/// Scratch above this is given back after the picture that needed it: a 4096x2304 RGB picture still fits.
const SCRATCH_BYTES_KEPT: usize = 32 << 20;

/// The JPEG decoder that [`factory`] uses in this build, for messages.
#[must_use]
pub fn decoder_name() -> &'static str {
    JpegLibrary::best().name()
}

/// Decoders for one model, with the best JPEG library of this build.
///
/// # Errors
/// The model's input is none that a picture can be put into: see [`SpecError`].
pub fn factory(spec: PictureSpec, limits: PictureLimits) -> Result<Arc<dyn PictureDecoderFactory>, SpecError> {
    factory_with(JpegLibrary::best(), spec, limits)
}

/// As [`factory`], with a JPEG library of one's own choice.
///
/// # Errors
/// As [`factory`].
pub fn factory_with(
    library: JpegLibrary,
    spec: PictureSpec,
    limits: PictureLimits,
) -> Result<Arc<dyn PictureDecoderFactory>, SpecError> {
    SpecError::check(&spec)?;
    Ok(Arc::new(Factory { library, spec, limits }))
}

struct Factory {
    library: JpegLibrary,
    spec: PictureSpec,
    limits: PictureLimits,
}

impl PictureDecoderFactory for Factory {
    fn open(&self) -> Box<dyn PictureDecoder> {
        Box::new(Decoder {
            spec: self.spec.clone(),
            limits: self.limits,
            jpeg: jpeg::open(self.library),
            source: Vec::new(),
            copied: Vec::new(),
            placer: Placer::default(),
            filler: Filler::new(&self.spec),
        })
    }
}

/// The size that an encoded picture says it has, if that is within the limits.
///
/// # Errors
/// It is no JPEG or PNG, or not within the limits.
#[cfg(feature = "triton")]
pub(crate) fn encoded_size(bytes: &[u8], limits: &PictureLimits) -> Result<omma_frame::Size, PictureError> {
    limits.check_bytes(bytes.len())?;
    let size = if jpeg::is_jpeg(bytes) {
        jpeg::Header::read(bytes)?.size
    } else if png::is_png(bytes) {
        png::Header::read(bytes)?.size
    } else {
        return Err(unknown(bytes));
    };
    limits.check_size(size)?;
    Ok(size)
}

fn unknown(bytes: &[u8]) -> PictureError {
    corrupt(format!("the picture begins with {}, expected JPEG (ff d8 ff) or PNG (89 50 4e 47)", error::hex(bytes)))
}

fn unreadable(what: Unreadable) -> PictureError {
    PictureError { reason: what.reason, message: what.message }
}

struct Decoder {
    spec: PictureSpec,
    limits: PictureLimits,
    jpeg: Box<dyn jpeg::JpegRead>,
    /// The decoded picture before it is resized.
    source: Vec<u8>,
    /// An encoded picture out of shared memory.
    copied: Vec<u8>,
    placer: Placer,
    filler: Filler,
}

impl PictureDecoder for Decoder {
    fn decode(&mut self, payload: &Payload, slot: &mut [u8]) -> Result<Fit, PictureError> {
        assert_eq!(slot.len(), self.spec.slot_bytes(), "a slot has the size that the model's input says");
        let done = match payload {
            Payload::Encoded(bytes) => self.encoded(bytes, slot),
            Payload::Raw(picture) => self.raw(&picture.view(), slot),
            Payload::Handle(handle) => self.handle(handle, slot),
            Payload::Unreadable(what) => Err(unreadable(what.as_ref().clone())),
        };
        if self.source.capacity() > SCRATCH_BYTES_KEPT {
            self.source = Vec::new();
        }
        self.placer.give_back(SCRATCH_BYTES_KEPT);
        done
    }
}

impl Decoder {
    fn encoded(&mut self, bytes: &[u8], slot: &mut [u8]) -> Result<Fit, PictureError> {
        self.limits.check_bytes(bytes.len())?;
        if jpeg::is_jpeg(bytes) {
            self.jpeg(bytes, slot)
        } else if png::is_png(bytes) {
            self.png(bytes, slot)
        } else {
            Err(unknown(bytes))
        }
    }

    /// Raw pixels go from the ring straight to the slot. An encoded picture is copied first: a decoder reads sizes
    /// before it trusts them, and in shared memory they could change in between. The copy is a few hundredths of what
    /// the decoding costs, and an overwritten picture is found out before it is decoded.
    fn handle(&mut self, handle: &Handle, slot: &mut [u8]) -> Result<Fit, PictureError> {
        let mut copied = std::mem::take(&mut self.copied);
        copied.clear();
        let mut direct = None;
        let read = handle.segment.read(handle.generation, &mut |view| match view {
            PictureView::Encoded(bytes) => match self.limits.check_bytes(bytes.len()) {
                Ok(()) => copied.extend_from_slice(bytes),
                Err(error) => direct = Some(Err(error)),
            },
            PictureView::Raw(picture) => direct = Some(self.raw(&picture, slot)),
        });
        let done = match read {
            Err(what) => Err(unreadable(what)),
            Ok(()) => direct.unwrap_or_else(|| self.encoded(&copied, slot)),
        };
        if copied.capacity() <= SCRATCH_BYTES_KEPT {
            self.copied = copied;
        }
        done
    }

    fn jpeg(&mut self, bytes: &[u8], slot: &mut [u8]) -> Result<Fit, PictureError> {
        let header = jpeg::Header::read(bytes)?;
        self.limits.check_size(header.size)?;
        header.check_length(bytes)?;
        let (fit, at) = self.fit(header.size);
        let reduced = self.jpeg.reduced(&header, at.size);
        let color = self.jpeg.color(&header, self.spec.color);
        if reduced.size == at.size && self.filler.is_interleaved(color) {
            let mut region = Region::of_slot(slot, self.spec.size, at, color);
            if region.is_packed() || self.jpeg.takes_pitch() {
                self.jpeg.read(bytes, &header, &reduced, color, &mut region)?;
                self.filler.pad(slot, at);
                return Ok(fit);
            }
        }
        let mut region = Region::scratch(&mut self.source, reduced.size, color);
        self.jpeg.read(bytes, &header, &reduced, color, &mut region)?;
        let pixels = Pixels { bytes: &self.source, size: reduced.size, extent: reduced.extent, color };
        self.placer.place(&pixels, at, &mut self.filler, slot)?;
        Ok(fit)
    }

    fn png(&mut self, bytes: &[u8], slot: &mut [u8]) -> Result<Fit, PictureError> {
        let header = png::Header::read(bytes)?;
        self.limits.check_size(header.size)?;
        header.check_length(bytes)?;
        let color = png::read(bytes, &header, &mut self.source)?;
        let (fit, at) = self.fit(header.size);
        let pixels = Pixels::whole(&self.source, header.size, color);
        self.placer.place(&pixels, at, &mut self.filler, slot)?;
        Ok(fit)
    }

    fn raw(&mut self, picture: &RawView<'_>, slot: &mut [u8]) -> Result<Fit, PictureError> {
        if picture.bytes.is_empty() {
            return Err(PictureError {
                reason: DropReason::PayloadEmpty,
                message: "the picture has no bytes".to_owned(),
            });
        }
        self.limits.check_size(picture.size)?;
        let planes = raw::planes(picture)?;
        let (fit, at) = self.fit(picture.size);
        match planes {
            raw::Planes::Packed(color) => {
                let pixels = Pixels::whole(picture.bytes, picture.size, color);
                self.placer.place(&pixels, at, &mut self.filler, slot)?;
            }
            raw::Planes::Yuv(yuv) => {
                let color = raw::convert(
                    &yuv,
                    at.size,
                    self.spec.color == Color::Gray,
                    &mut self.placer.resizer,
                    &mut self.source,
                )?;
                let pixels = Pixels::whole(&self.source, at.size, color);
                self.placer.place(&pixels, at, &mut self.filler, slot)?;
            }
        }
        Ok(fit)
    }

    fn fit(&self, original: omma_frame::Size) -> (Fit, Placement) {
        let fit = Fit::new(original, self.spec.size, self.spec.resize);
        (fit, Placement::of(&fit, self.spec.size))
    }
}
