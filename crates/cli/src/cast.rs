//! Synthetic cameras: the drawn scenes, and the source that shows them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use omma_adapters::picture::JpegEncoder;
use omma_adapters::source::synthetic::{DrawnSource, Painter, SyntheticCamera, SyntheticOptions};
use omma_adapters::source::{Keep, Pace};
use omma_engine::clock::Clock;
use omma_engine::source::SourceError;
use omma_frame::{CameraIndex, Size};
use omma_scenes::{Scene, Scratch, Truth};

/// The scenes of some cameras, by position. Holds about a picture's worth of memory for each.
pub struct Cast {
    scenes: Vec<Scene>,
    size: Size,
}

/// How the cameras of one source behave.
pub struct Showing {
    /// The engine's index of each camera, and which scene of the cast it shows.
    pub cameras: Vec<(CameraIndex, usize)>,
    pub keep: Keep,
    pub pace: Pace,
    pub frames: Option<u64>,
    pub quality: u8,
    pub threads: usize,
}

impl Cast {
    /// Plans `count` scenes and draws their backdrops on `threads` threads, so that no camera's first picture is late.
    pub fn new(seed: u64, count: usize, size: Size, threads: usize) -> Arc<Self> {
        let scene_size = omma_scenes::Size { width: size.width, height: size.height };
        let number = |position: usize| u32::try_from(position).unwrap_or(u32::MAX);
        let scenes: Vec<Scene> = (0..count).map(|position| Scene::new(seed, number(position), scene_size)).collect();
        let cast = Self { scenes, size };
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..threads.clamp(1, count.max(1)) {
                scope.spawn(|| {
                    let (mut scratch, mut rgb) = (Scratch::default(), cast.blank());
                    while let Some(scene) = cast.scenes.get(next.fetch_add(1, Ordering::Relaxed)) {
                        // The buffer has the scenes' size, the only thing that could be wrong.
                        let _ = scene.render_with(&mut scratch, 0, &mut rgb);
                    }
                });
            }
        });
        Arc::new(cast)
    }

    pub fn len(&self) -> usize {
        self.scenes.len()
    }

    pub fn size(&self) -> Size {
        self.size
    }

    /// A picture buffer of the right length.
    pub fn blank(&self) -> Vec<u8> {
        vec![0; self.size.width as usize * self.size.height as usize * 3]
    }

    /// Draws picture `number` of scene `position` and tells what is in it.
    ///
    /// # Errors
    /// There is no such scene, or the buffer has another size.
    pub fn draw<'s>(
        &self,
        position: usize,
        number: u64,
        scratch: &'s mut Scratch,
        rgb: &mut [u8],
    ) -> Result<&'s [Truth], String> {
        let scene = self.scenes.get(position).ok_or_else(|| format!("no scene {position}"))?;
        scene.render_with(scratch, number, rgb).map_err(|error| error.to_string())
    }

    /// Starts the cameras.
    ///
    /// # Errors
    /// A pace or number that makes no sense, or no thread for the drawing.
    pub fn show(self: &Arc<Self>, showing: Showing, clock: Arc<dyn Clock>) -> Result<DrawnSource, SourceError> {
        let Showing { cameras, keep, pace, frames, quality, threads } = showing;
        let options = SyntheticOptions {
            cameras: cameras.iter().map(|&(camera, _)| SyntheticCamera { camera, keep }).collect(),
            pace,
            frames,
        };
        // Indexes of one source lie close together, so that a plain table finds a camera's scene.
        let first = cameras.iter().map(|(camera, _)| camera.slot()).min().unwrap_or_default();
        let last = cameras.iter().map(|(camera, _)| camera.slot()).max().unwrap_or_default();
        let mut scene_of = vec![usize::MAX; last - first + 1];
        for &(camera, position) in &cameras {
            scene_of[camera.slot() - first] = position;
        }
        let scene_of: Arc<[usize]> = scene_of.into();
        let painter = |_: &[CameraIndex]| -> Painter {
            let (cast, scene_of) = (Arc::clone(self), Arc::clone(&scene_of));
            let (mut scratch, mut rgb, mut encoder) = (Scratch::default(), cast.blank(), JpegEncoder::default());
            Box::new(move |camera, number, encoded| {
                cast.draw(scene_of[camera.slot() - first], number, &mut scratch, &mut rgb)?;
                encoder.encode(&rgb, cast.size, quality, encoded).map_err(|error| error.to_string())
            })
        };
        DrawnSource::open(options, threads.max(1), painter, clock)
    }
}
