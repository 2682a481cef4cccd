//! Our own wire: `seq`, `ts`, `data`, `fmt`, `w`, `h`, `seg`, `gen`, `len`; numbers are ASCII decimals.

use omma_frame::PixelFormat;

use super::{Form, Key, Outgoing, Picture, Want};

const FORMATS: [(&[u8], Form); 7] = [
    (b"jpeg", Form::Encoded),
    (b"png", Form::Encoded),
    (b"rgb", Form::Raw(PixelFormat::Rgb)),
    (b"bgr", Form::Raw(PixelFormat::Bgr)),
    (b"gray", Form::Raw(PixelFormat::Gray)),
    (b"nv12", Form::Raw(PixelFormat::Nv12)),
    (b"i420", Form::Raw(PixelFormat::I420)),
];

pub(super) fn want(name: &[u8]) -> Want {
    match name {
        b"seq" => Want::Short(Key::Sequence),
        b"ts" => Want::Short(Key::CapturedAt),
        b"data" => Want::Payload,
        b"fmt" => Want::Short(Key::Format),
        b"w" => Want::Short(Key::Width),
        b"h" => Want::Short(Key::Height),
        b"seg" => Want::Short(Key::Segment),
        b"gen" => Want::Short(Key::Generation),
        b"len" => Want::Short(Key::Length),
        _ => Want::Nothing,
    }
}

pub(super) fn form(value: &[u8]) -> Option<Form> {
    FORMATS.iter().find(|(name, _)| value.eq_ignore_ascii_case(name)).map(|&(_, form)| form)
}

pub(super) fn write(frame: &Outgoing<'_>, put: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), &'static str> {
    put(b"seq", frame.sequence.to_string().as_bytes());
    if let Some(time) = frame.captured_at {
        put(b"ts", time.0.to_string().as_bytes());
    }
    match frame.picture {
        Picture::Encoded(bytes) => put(b"data", bytes),
        Picture::Raw { bytes, size, format } => {
            let name = FORMATS.iter().find(|(_, form)| *form == Form::Raw(format)).map_or(&b""[..], |(name, _)| name);
            put(b"fmt", name);
            put(b"w", size.width.to_string().as_bytes());
            put(b"h", size.height.to_string().as_bytes());
            put(b"data", bytes);
        }
        Picture::Handle { segment, generation, byte_len } => {
            put(b"seg", segment.as_bytes());
            put(b"gen", generation.to_string().as_bytes());
            put(b"len", byte_len.to_string().as_bytes());
        }
    }
    Ok(())
}
