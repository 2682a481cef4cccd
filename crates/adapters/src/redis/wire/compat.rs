//! The wire of the Python pipeline that omma replaces: `frame_id`, `content` or `input_stream__content`, `ts_ns`; handles
//! into its own rings as `shm_mode`, `shm_name`, `frame_idx`, `width`, `height`.

use super::{Key, Outgoing, Picture, Want};

pub(super) fn want(name: &[u8]) -> Want {
    match name {
        b"content" | b"input_stream__content" => Want::Payload,
        b"frame_id" => Want::Short(Key::FrameId),
        b"ts_ns" => Want::Short(Key::CapturedAt),
        b"shm_mode" => Want::Short(Key::SharedMemory),
        b"shm_name" => Want::Short(Key::Segment),
        b"frame_idx" => Want::Short(Key::Generation),
        b"width" => Want::Short(Key::Width),
        b"height" => Want::Short(Key::Height),
        // The format of a ring's pictures stands in the ring.
        _ => Want::Nothing,
    }
}

pub(super) fn write(frame: &Outgoing<'_>, put: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), &'static str> {
    let Picture::Encoded(bytes) = frame.picture else {
        return Err("the Python pipeline's wire carries encoded pictures only");
    };
    put(b"frame_id", frame.sequence.to_string().as_bytes());
    if let Some(time) = frame.captured_at {
        put(b"ts_ns", time.0.to_string().as_bytes());
    }
    put(b"content", bytes);
    Ok(())
}
