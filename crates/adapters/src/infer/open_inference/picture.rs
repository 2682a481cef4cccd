//! Encoded pictures on their way to a model that decodes them itself: each lies in its slot as it came, behind its length.

use std::sync::Arc;

use omma_engine::picture::{
    Color, Fit, Layout, PictureDecoder, PictureDecoderFactory, PictureError, PictureSpec, Resize,
};
use omma_engine::tensor::DType;
use omma_frame::{DropReason, Payload, PictureView, Size};

use crate::picture::{PictureLimits, encoded_size};

/// The form of a slot that holds an encoded picture of at most so many bytes.
#[must_use]
pub fn slot_spec(bytes_max: usize) -> PictureSpec {
    let width = u32::try_from(bytes_max.saturating_add(4).next_multiple_of(64)).unwrap_or(u32::MAX);
    PictureSpec {
        size: Size { width, height: 1 },
        dtype: DType::U8,
        layout: Layout::Nchw,
        color: Color::Gray,
        resize: Resize::Stretch,
        scale: 1.0,
        mean: [0.0; 3],
        std: [1.0; 3],
    }
}

/// Puts pictures into slots as they came. `seen` is the size that the model brings them to, and how; without it, what
/// the model says of places is taken to be in pixels of the original picture.
#[must_use]
pub fn passing_on(limits: PictureLimits, seen: Option<(Size, Resize)>) -> Arc<dyn PictureDecoderFactory> {
    Arc::new(PassingOn { limits, seen })
}

#[derive(Clone)]
struct PassingOn {
    limits: PictureLimits,
    seen: Option<(Size, Resize)>,
}

impl PictureDecoderFactory for PassingOn {
    fn open(&self) -> Box<dyn PictureDecoder> {
        Box::new(self.clone())
    }
}

impl PassingOn {
    fn encoded(&self, bytes: &[u8], slot: &mut [u8]) -> Result<Fit, PictureError> {
        let original = encoded_size(bytes, &self.limits)?;
        fill(bytes, slot)?;
        let (size, resize) = self.seen.unwrap_or((original, Resize::Stretch));
        Ok(Fit::new(original, size, resize))
    }
}

fn fill(bytes: &[u8], slot: &mut [u8]) -> Result<(), PictureError> {
    let (found, room) = (bytes.len(), slot.len().saturating_sub(4));
    let too_large = || PictureError {
        reason: DropReason::PayloadTooLarge,
        message: format!("the picture has {found} bytes, expected at most {room} to be sent on"),
    };
    let length = u32::try_from(found).map_err(|_| too_large())?;
    let (head, rest) = slot.split_first_chunk_mut::<4>().ok_or_else(too_large)?;
    let room = rest.get_mut(..found).ok_or_else(too_large)?;
    *head = length.to_le_bytes();
    room.copy_from_slice(bytes);
    Ok(())
}

impl PictureDecoder for PassingOn {
    fn decode(&mut self, payload: &Payload, slot: &mut [u8]) -> Result<Fit, PictureError> {
        let raw = || PictureError {
            reason: DropReason::PictureUnfit,
            message: "raw pixels, expected a JPEG or PNG with send = \"picture\"".to_owned(),
        };
        match payload {
            Payload::Encoded(bytes) => self.encoded(bytes, slot),
            Payload::Raw(_) => Err(raw()),
            Payload::Unreadable(what) => Err(PictureError { reason: what.reason, message: what.message.clone() }),
            Payload::Handle(handle) => {
                // Copied first, looked at when it is certain that nobody writes it any more.
                let mut copied = None;
                let read = handle.segment.read(handle.generation, &mut |view| {
                    copied = Some(match view {
                        PictureView::Encoded(bytes) => fill(bytes, slot).map(|()| bytes.len()),
                        PictureView::Raw(_) => Err(raw()),
                    });
                });
                read.map_err(|what| PictureError { reason: what.reason, message: what.message })?;
                let length = copied.unwrap_or_else(|| Err(raw()))?;
                let bytes = slot.get(4..4 + length).unwrap_or_default().to_vec();
                self.encoded(&bytes, slot)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn pictures_are_passed_on_as_they_came() {
        let mut picture = Vec::new();
        crate::picture::encode_jpeg(&[7; 32 * 16 * 3], Size { width: 32, height: 16 }, 80, &mut picture)
            .expect("a JPEG");
        let picture = Bytes::from(picture);
        let spec = slot_spec(picture.len());
        let mut slot = vec![0xff; spec.slot_bytes()];
        let mut decoder = passing_on(PictureLimits::default(), None).open();
        let fit = decoder.decode(&Payload::Encoded(picture.clone()), &mut slot).expect("passed on");
        assert_eq!(fit.original, Size { width: 32, height: 16 });
        assert_eq!((fit.scale_x, fit.scale_y), (1.0, 1.0));
        assert_eq!(slot[..4], (picture.len() as u32).to_le_bytes());
        assert_eq!(slot[4..4 + picture.len()], picture);
        for (payload, room, reason) in [
            (Bytes::from_static(b""), 200, DropReason::PayloadEmpty),
            (Bytes::from_static(b"GIF89a"), 200, DropReason::PictureCorrupt),
            (picture, 10, DropReason::PayloadTooLarge),
        ] {
            let mut slot = vec![0; room];
            let error = decoder.decode(&Payload::Encoded(payload), &mut slot).expect_err("no picture");
            assert_eq!(error.reason, reason, "{error}");
        }
    }
}
