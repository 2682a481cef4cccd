//! What the cameras show: a bounded set of pictures, made before the first is sent, so that a frame costs no drawing,
//! no encoding and no reading of files, however many cameras there are.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use omma_adapters::picture::{self, JpegEncoder, PictureLimits};
use omma_adapters::source::images::{ImagesOptions, ImagesSource};
use omma_adapters::source::mjpeg_file::{MjpegFileOptions, MjpegFileSource};
use omma_adapters::source::{AtEnd, Pace};
use omma_engine::clock::SystemClock;
use omma_engine::picture::{Color, Layout, PictureSpec, Resize};
use omma_engine::source::{Demand, Polled, Source};
use omma_engine::tensor::DType;
use omma_frame::{CameraIndex, Payload, PixelFormat, RawPicture, Size};
use omma_scenes::{Scene, Scratch};

use crate::raw;

/// Pictures that are kept in all.
pub const PICTURES_MAX: usize = 512;
/// Bytes that they may have together; a single one may have as many.
pub const BYTES_MAX: usize = 256 << 20;
/// Scenes that synthetic cameras share, and pictures of each.
const SCENES_MAX: usize = 16;
const PICTURES_PER_SCENE: usize = 8;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// JPEG of this quality; files stay as they are.
    Encoded {
        quality: u8,
    },
    Raw(PixelFormat),
}

/// Pictures in sets; each camera shows those of one set in turn, beginning at its own.
#[derive(Debug, Clone)]
pub struct Pictures {
    sets: Vec<Vec<Payload>>,
    /// Whether there was more than is kept.
    cut: bool,
    bytes_max: usize,
}

impl Pictures {
    fn new(sets: Vec<Vec<Payload>>, cut: bool) -> Self {
        let bytes_max = sets.iter().flatten().filter_map(Payload::byte_len).max().unwrap_or_default();
        Self { sets, cut, bytes_max }
    }

    /// Draws scenes for so many cameras, of which some show the same.
    ///
    /// # Errors
    /// The size is none that can be drawn or encoded.
    pub fn synthetic(seed: u64, cameras: usize, size: Size, form: Form) -> Result<Self, String> {
        check_size(size, form)?;
        let scene_size = omma_scenes::Size { width: size.width, height: size.height };
        // What one may become at most, so that a set of raw pictures stays within the bound.
        let per_scene = (BYTES_MAX / scene_size.bytes().max(1) / SCENES_MAX).clamp(1, PICTURES_PER_SCENE);
        let (mut scratch, mut rgb, mut encoder) =
            (Scratch::default(), vec![0; scene_size.bytes()], JpegEncoder::default());
        let mut sets = Vec::new();
        for number in 0..cameras.clamp(1, SCENES_MAX) {
            let scene = Scene::new(seed, u32::try_from(number).unwrap_or(u32::MAX), scene_size);
            if scene.size() != scene_size {
                return Err(format!(
                    "scenes of {}x{} cannot be drawn, expected 64 to 8192 pixels on each side",
                    size.width, size.height
                ));
            }
            let mut set = Vec::new();
            for picture in 0..per_scene {
                scene.render_with(&mut scratch, picture as u64, &mut rgb).map_err(|error| error.to_string())?;
                set.push(in_form(&rgb, size, form, &mut encoder)?);
            }
            sets.push(set);
        }
        Ok(Self::new(sets, false))
    }

    /// Takes pictures from files: `.mjpeg` and `.mjpg` files, pictures, folders and globs of pictures. Each path is a
    /// set. Raw forms need a size, to which pictures are letterboxed.
    ///
    /// # Errors
    /// A path that cannot be read or has no picture, or a picture that cannot be decoded into the form asked for.
    pub fn of_files(paths: &[String], size: Option<Size>, form: Form) -> Result<Self, String> {
        let mut sets = Vec::new();
        let mut cut = false;
        for path in paths {
            // Each its share, so that a long file does not leave the next without any.
            let mut room = Room { pictures: PICTURES_MAX / paths.len().max(1), bytes: BYTES_MAX / paths.len().max(1) };
            room.pictures = room.pictures.max(1);
            let (mut set, more) = take(path, &mut room)?;
            cut |= more;
            if let Form::Raw(format) = form {
                let size = size.ok_or_else(|| format!("{path}: raw frames of files need a size, expected --size"))?;
                check_size(size, form)?;
                let most = (BYTES_MAX / paths.len() / format.byte_len(size).max(1)).max(1);
                cut |= set.len() > most;
                set.truncate(most);
                set = decoded(&set, size, format).map_err(|error| format!("{path}: {error}"))?;
            }
            sets.push(set);
        }
        if sets.is_empty() {
            return Err("no file to show, expected at least one".to_owned());
        }
        Ok(Self::new(sets, cut))
    }

    /// Pictures made elsewhere, one set for all.
    ///
    /// # Errors
    /// There is none.
    pub fn of(payloads: Vec<Payload>) -> Result<Self, String> {
        if payloads.is_empty() {
            return Err("no picture to show, expected at least one".to_owned());
        }
        Ok(Self::new(vec![payloads], false))
    }

    /// What a camera shows as its frame `number`.
    #[must_use]
    pub fn show(&self, camera: usize, number: u64) -> &Payload {
        let set = &self.sets[camera % self.sets.len()];
        &set[((camera / self.sets.len()) as u64).wrapping_add(number) as usize % set.len()]
    }

    /// How many pictures there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.sets.iter().map(Vec::len).sum()
    }

    /// Whether files had more pictures than are kept.
    #[must_use]
    pub fn cut(&self) -> bool {
        self.cut
    }

    /// Bytes of a frame on average.
    #[must_use]
    pub fn bytes_mean(&self) -> f64 {
        let bytes = self.sets.iter().flatten().filter_map(Payload::byte_len);
        bytes.sum::<usize>() as f64 / self.count().max(1) as f64
    }

    /// Bytes of the largest frame.
    #[must_use]
    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }
}

fn check_size(size: Size, form: Form) -> Result<(), String> {
    let halved = matches!(form, Form::Raw(PixelFormat::Nv12 | PixelFormat::I420));
    if halved && (!size.width.is_multiple_of(2) || !size.height.is_multiple_of(2)) {
        return Err(format!("frames of {}x{}, expected even sides for nv12 and i420", size.width, size.height));
    }
    if size.width == 0 || size.height == 0 || PixelFormat::Rgb.byte_len(size) > BYTES_MAX {
        return Err(format!(
            "frames of {}x{}, expected pictures of at most {} MiB as RGB",
            size.width,
            size.height,
            BYTES_MAX >> 20
        ));
    }
    Ok(())
}

fn in_form(rgb: &[u8], size: Size, form: Form, encoder: &mut JpegEncoder) -> Result<Payload, String> {
    match form {
        Form::Encoded { quality } => {
            let mut jpeg = Vec::new();
            encoder.encode(rgb, size, quality, &mut jpeg).map_err(|error| error.to_string())?;
            Ok(Payload::Encoded(jpeg.into()))
        }
        Form::Raw(format) => Ok(raw_payload(rgb, size, format)),
    }
}

fn raw_payload(rgb: &[u8], size: Size, format: PixelFormat) -> Payload {
    Payload::Raw(Box::new(RawPicture { bytes: raw::from_rgb(rgb, size, format).into(), size, format }))
}

/// What may still be taken.
struct Room {
    pictures: usize,
    bytes: usize,
}

impl Demand for Room {
    fn room(&self, _: CameraIndex) -> usize {
        self.total()
    }

    fn total(&self) -> usize {
        // One at a time: its size is known only once it is there.
        usize::from(self.pictures > 0 && self.bytes > 0)
    }
}

/// The first pictures of a path, and whether it has more.
fn take(path: &str, room: &mut Room) -> Result<(Vec<Payload>, bool), String> {
    let (camera, pace, at_end, bytes_max) = (CameraIndex(0), Pace::Unlimited, AtEnd::Stop, 32 << 20);
    let clock = Arc::new(SystemClock::new());
    let mjpeg = Path::new(path).extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
    let mut source: Box<dyn Source> = if matches!(mjpeg.as_str(), "mjpeg" | "mjpg") {
        let options = MjpegFileOptions { camera, path: PathBuf::from(path), pace, at_end, bytes_max };
        Box::new(MjpegFileSource::open(options, clock).map_err(|error| error.to_string())?)
    } else {
        let options = ImagesOptions { camera, path: path.to_owned(), pace, at_end, bytes_max };
        Box::new(ImagesSource::open(options, clock).map_err(|error| error.to_string())?)
    };
    let mut arrivals = Vec::new();
    let mut set = Vec::new();
    loop {
        let polled = source.poll(room, &mut arrivals).map_err(|error| error.to_string())?;
        for arrival in arrivals.drain(..) {
            let bytes = arrival.payload.byte_len().unwrap_or_default();
            room.pictures = room.pictures.saturating_sub(1);
            room.bytes = room.bytes.saturating_sub(bytes);
            // A picture that the file shares a large buffer with would keep all of it.
            set.push(match arrival.payload {
                Payload::Encoded(bytes) => Payload::Encoded(Bytes::copy_from_slice(&bytes)),
                other => other,
            });
        }
        match polled {
            Polled::Ended => return Ok((set, false)),
            Polled::Open if room.total() == 0 => return Ok((set, true)),
            Polled::Open => {}
        }
    }
}

fn decoded(set: &[Payload], size: Size, format: PixelFormat) -> Result<Vec<Payload>, String> {
    let spec = PictureSpec {
        size,
        dtype: DType::U8,
        layout: Layout::Nhwc,
        color: Color::Rgb,
        resize: Resize::Letterbox { pad: 0 },
        scale: 1.0,
        mean: [0.0; 3],
        std: [1.0; 3],
    };
    let mut rgb = vec![0; spec.slot_bytes()];
    let factory = picture::factory(spec, PictureLimits::default()).map_err(|error| error.to_string())?;
    let mut decoder = factory.open();
    set.iter()
        .enumerate()
        .map(|(number, payload)| {
            decoder.decode(payload, &mut rgb).map_err(|error| format!("picture {number}: {error}"))?;
            Ok(raw_payload(&rgb, size, format))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const SIZE: Size = Size { width: 64, height: 64 };
    const JPEG: Form = Form::Encoded { quality: 80 };

    fn encoded(payload: &Payload) -> &Bytes {
        match payload {
            Payload::Encoded(bytes) => bytes,
            other => panic!("encoded expected, found {other:?}"),
        }
    }

    #[test]
    fn ten_thousand_cameras_share_few_pictures_and_neighbours_differ() {
        let pictures = Pictures::synthetic(1, 10_000, SIZE, JPEG).expect("pictures");
        assert_eq!(pictures.count(), SCENES_MAX * PICTURES_PER_SCENE);
        assert_ne!(encoded(pictures.show(0, 0)), encoded(pictures.show(1, 0)), "neighbours show other scenes");
        assert_ne!(encoded(pictures.show(0, 0)), encoded(pictures.show(0, 1)), "pictures change");
        assert_eq!(encoded(pictures.show(0, 0)), encoded(pictures.show(0, PICTURES_PER_SCENE as u64)), "in turn");
        assert!(pictures.show(9_999, u64::MAX).byte_len().is_some());
    }

    #[test]
    fn raw_frames_have_their_format_and_size() {
        for format in [PixelFormat::Rgb, PixelFormat::Bgr, PixelFormat::Gray, PixelFormat::Nv12, PixelFormat::I420] {
            let pictures = Pictures::synthetic(1, 1, SIZE, Form::Raw(format)).expect("pictures");
            let Payload::Raw(raw) = pictures.show(0, 0) else { panic!("raw expected") };
            assert_eq!((raw.size, raw.format, raw.bytes.len()), (SIZE, format, format.byte_len(SIZE)));
        }
    }

    #[test]
    fn files_are_shown_as_they_are_or_decoded() {
        let folder = tempfile::tempdir().expect("a folder");
        let jpegs: Vec<Bytes> = {
            let pictures = Pictures::synthetic(1, 1, SIZE, JPEG).expect("pictures");
            (0..3).map(|number| encoded(pictures.show(0, number)).clone()).collect()
        };
        for (number, jpeg) in jpegs.iter().enumerate() {
            fs::write(folder.path().join(format!("{number}.jpg")), jpeg).expect("written");
        }
        let film = folder.path().join("film.mjpeg");
        fs::write(&film, jpegs.concat()).expect("written");
        let paths = [folder.path().display().to_string(), film.display().to_string()];
        let pictures = Pictures::of_files(&paths, None, JPEG).expect("pictures");
        assert_eq!((pictures.count(), pictures.cut()), (6, false));
        for camera in 0..2 {
            assert_eq!(encoded(pictures.show(camera, 2)), &jpegs[2], "camera {camera}");
        }
        let half = Size { width: 32, height: 32 };
        let pictures = Pictures::of_files(&paths, Some(half), Form::Raw(PixelFormat::Nv12)).expect("pictures");
        assert_eq!(pictures.show(1, 0).byte_len(), Some(32 * 32 * 3 / 2));
    }

    #[test]
    fn what_cannot_be_shown_is_said() {
        let folder = tempfile::tempdir().expect("a folder");
        let empty = folder.path().display().to_string();
        let broken = folder.path().join("broken.png").display().to_string();
        fs::write(&broken, b"not a picture").expect("written");
        let odd = Size { width: 65, height: 64 };
        let nv12 = Form::Raw(PixelFormat::Nv12);
        for (result, expected) in [
            (Pictures::synthetic(1, 1, Size { width: 8, height: 8 }, JPEG), "64 to 8192"),
            (Pictures::synthetic(1, 1, odd, nv12), "even sides"),
            (Pictures::of_files(&["/nowhere/x.mjpeg".to_owned()], None, JPEG), "/nowhere/x.mjpeg"),
            (Pictures::of_files(&[], None, JPEG), "no file"),
            (Pictures::of_files(std::slice::from_ref(&broken), None, nv12), "--size"),
            (Pictures::of_files(&[broken], Some(SIZE), nv12), "picture 0"),
            (Pictures::of_files(&[format!("{empty}/none-*.jpg")], None, JPEG), "matches nothing"),
        ] {
            let error = result.expect_err(expected);
            assert!(error.contains(expected), "{error:?} has no {expected:?}");
        }
    }
}
