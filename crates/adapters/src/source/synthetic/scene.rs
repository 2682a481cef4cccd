//! What synthetic cameras see: the scenes of `omma_scenes`, encoded by whoever is given.

use std::collections::HashMap;

use bytes::Bytes;
use omma_frame::{CameraIndex, Size};
use omma_scenes::{Scene, Scratch};

use super::Painter;

/// Replaces the vector's content by the encoded form of packed RGB.
pub type Encode = Box<dyn FnMut(&[u8], Size, &mut Vec<u8>) -> Result<(), String> + Send>;

/// Draws the scenes of these cameras: picture `n` of camera `c` is frame `n` of the scene `(seed, c's index)`, so the
/// truth about it can be had again from those three numbers. Each camera's backdrop stays in memory once it was seen
/// (about a megabyte at 640x360).
#[must_use]
pub fn scene_painter(seed: u64, size: Size, cameras: &[CameraIndex], mut encode: Encode) -> Painter {
    let scenes: HashMap<CameraIndex, Scene> =
        cameras.iter().map(|&camera| (camera, Scene::new(seed, camera.0, scene_size(size)))).collect();
    let (mut scratch, mut rgb) = (Scratch::default(), Vec::new());
    Box::new(move |camera, number, out| {
        let scene = scenes.get(&camera).ok_or("this painter does not know the camera")?;
        paint(scene, &mut scratch, number, &mut rgb, &mut encode, out)
    })
}

/// Encodes one picture of each of the first `count` cameras' scenes, for cameras that share pictures.
///
/// # Errors
/// The encoder refused one.
pub fn scene_stills(seed: u64, size: Size, count: u32, mut encode: Encode) -> Result<Vec<Bytes>, String> {
    let (mut scratch, mut rgb, mut out) = (Scratch::default(), Vec::new(), Vec::new());
    (0..count)
        .map(|camera| {
            let scene = Scene::new(seed, camera, scene_size(size));
            paint(&scene, &mut scratch, 0, &mut rgb, &mut encode, &mut out)?;
            Ok(Bytes::copy_from_slice(&out))
        })
        .collect()
}

fn paint(
    scene: &Scene,
    scratch: &mut Scratch,
    number: u64,
    rgb: &mut Vec<u8>,
    encode: &mut Encode,
    out: &mut Vec<u8>,
) -> Result<(), String> {
    // The scene's own size: one beyond its range was moved into it.
    let size = scene.size();
    rgb.resize(size.bytes(), 0);
    scene.render_with(scratch, number, rgb).map_err(|error| error.to_string())?;
    encode(rgb, Size { width: size.width, height: size.height }, out)
}

fn scene_size(size: Size) -> omma_scenes::Size {
    omma_scenes::Size { width: size.width, height: size.height }
}
