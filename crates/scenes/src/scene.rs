//! A camera's scene: any frame of it, with the truth about what is in the picture.
//!
//! Costs per 640x360 frame: one copy of the backdrop, the figures, one pass of noise. A scene
//! holds its backdrop (0.95 MB at that size) from the first frame on; everything else a frame
//! needs is in a `Scratch`, which a thread that renders many cameras shares among them.

use std::fmt;
use std::sync::OnceLock;

use crate::backdrop::{Backdrop, MARGIN};
use crate::figure::Figure;
use crate::place::{Kind, Place, Who};
use crate::raster::{Canvas, Extent, HIDDEN, Mask, Rows};
use crate::rng::Rng;
use crate::sensor::Sensor;
use crate::traffic::{self, Actor};
use crate::{bicycle, car, person};

/// Frame numbers advance at this rate of the scene's clock.
pub const FRAMES_PER_SECOND: f64 = 10.0;

/// A truth less visible than this is neither demanded of a detector nor held against it: what
/// others, fixed things or the picture's edge hide to more than six tenths is a guess.
pub const MIN_VISIBLE: f32 = 0.4;

/// A truth is also ignored whose longer side is below 1/15 of the picture's height (24 of 360
/// pixels) or its shorter below 1/60 (6 pixels): halved for a detector, that is too little.
const MIN_LONG: f32 = 1.0 / 15.0;
const MIN_SHORT: f32 = 1.0 / 60.0;

/// Width and height of the pictures in pixels, each within 64..=8192.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub width: u32,
    pub height: u32,
}

impl Default for Size {
    fn default() -> Self {
        Self { width: 640, height: 360 }
    }
}

impl Size {
    /// Bytes of a picture of this size in packed RGB.
    pub fn bytes(self) -> usize {
        self.pixels() * 3
    }

    fn pixels(self) -> usize {
        self.width as usize * self.height as usize
    }
}

/// One thing in a picture: the box around what can be seen of it, in pixels, within the picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Truth {
    /// Index into [`crate::CLASSES`].
    pub class: u8,
    pub x1: f32,
    pub y1: f32,
    pub x2: f32,
    pub y2: f32,
    /// Share of the thing that is seen: not hidden by others and not beyond the picture's edge.
    pub visible: f32,
    /// Too small or too hidden to count, see [`MIN_VISIBLE`].
    pub ignore: bool,
    /// The same for the same thing in every frame of its camera.
    pub id: u64,
}

/// A picture buffer that is not width x height x 3 bytes long.
#[derive(Debug, PartialEq, Eq)]
pub struct WrongLength {
    pub expected: usize,
    pub got: usize,
}

impl fmt::Display for WrongLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the picture buffer holds {} bytes, the scene needs {}", self.got, self.expected)
    }
}

impl std::error::Error for WrongLength {}

/// What rendering needs beside the picture; reusable for any scene, of any size.
#[derive(Default)]
pub struct Scratch {
    stamps: Vec<u8>,
    rows: Rows,
    actors: Vec<Actor>,
    drawn: Vec<Drawn>,
    truths: Vec<Truth>,
}

/// An actor once painted: how many pixels it took, hidden by fixed things or not, and where.
struct Drawn {
    class: u8,
    id: u64,
    painted: usize,
    /// Share of its extent that lies within the picture.
    inside: f32,
    window: Window,
}

/// Whole pixels, ends excluded.
#[derive(Clone, Copy)]
struct Window {
    x1: usize,
    y1: usize,
    x2: usize,
    y2: usize,
}

/// One camera.
pub struct Scene {
    keys: [u64; 2],
    size: Size,
    place: Place,
    sensor: Sensor,
    backdrop: OnceLock<Backdrop>,
}

impl Scene {
    /// Plans the place; the backdrop is drawn with the first frame. Sizes beyond the range of
    /// [`Size`] are moved into it.
    pub fn new(seed: u64, camera: u32, size: Size) -> Self {
        let size = Size { width: size.width.clamp(64, 8192), height: size.height.clamp(64, 8192) };
        let keys = [seed, camera.into()];
        let mut rng = Rng::keyed(&keys);
        let sensor = Sensor::choose(&mut rng);
        let place = Place::plan(&mut rng, size.width as f32, size.height as f32);
        Self { keys, size, place, sensor, backdrop: OnceLock::new() }
    }

    pub fn size(&self) -> Size {
        self.size
    }

    pub fn kind(&self) -> Kind {
        self.place.kind
    }

    /// Renders a frame into `rgb` (packed, width x height x 3 bytes), with a scratch of its own.
    pub fn render(&self, frame: u64, rgb: &mut [u8]) -> Result<Vec<Truth>, WrongLength> {
        let mut scratch = Scratch::default();
        self.render_with(&mut scratch, frame, rgb)?;
        Ok(scratch.truths)
    }

    /// Like [`Scene::render`] without allocating once `scratch` has served a frame or two.
    pub fn render_with<'s>(
        &self,
        scratch: &'s mut Scratch,
        frame: u64,
        rgb: &mut [u8],
    ) -> Result<&'s [Truth], WrongLength> {
        let expected = self.size.bytes();
        if rgb.len() != expected {
            return Err(WrongLength { expected, got: rgb.len() });
        }
        let backdrop = self.backdrop.get_or_init(|| Backdrop::draw(&self.place));
        let seconds = frame as f64 / FRAMES_PER_SECOND;
        let (dx, dy) = self.sensor.shake(seconds);
        // Where the picture's first pixel lies in the backdrop, whose margin exceeds the shake.
        let (left, top) = ((MARGIN as i32 - dx) as usize, (MARGIN as i32 - dy) as usize);
        let origin = top * backdrop.width + left;
        let width = self.size.width as usize;
        for (y, row) in rgb.chunks_exact_mut(width * 3).enumerate() {
            let at = (origin + y * backdrop.width) * 3;
            row.copy_from_slice(&backdrop.pixels[at..at + width * 3]);
        }
        traffic::present(&self.place, self.keys, seconds, &mut scratch.actors);
        self.paint(scratch, rgb, (dx, dy), Mask { depths: &backdrop.mask, stride: backdrop.width, origin });
        self.judge(scratch);
        let mut rng = Rng::keyed(&[self.keys[0], self.keys[1], u64::MAX - 1, frame]);
        self.sensor.expose(seconds, &mut rng, rgb);
        Ok(&scratch.truths)
    }

    fn paint(&self, scratch: &mut Scratch, rgb: &mut [u8], shake: (i32, i32), mask: Mask<'_>) {
        let (width, height) = (self.size.width as usize, self.size.height as usize);
        scratch.stamps.clear();
        scratch.stamps.resize(width * height, 0);
        scratch.rows.resize(height);
        scratch.drawn.clear();
        let view = self.place.view.shifted(shake.0 as f32, shake.1 as f32);
        let mut canvas = Canvas::new((width, height), rgb, &mut scratch.stamps, Some(mask), &mut scratch.rows);
        for actor in &scratch.actors {
            let mark = scratch.drawn.len() as u8 + 1;
            canvas.start(mark, view.depth(actor.z));
            let figure =
                Figure { view: &view, light: &self.place.light, x: actor.x, z: actor.z, heading: actor.heading };
            let looks = Rng::keyed(&[actor.id, 1]);
            let class = match actor.who {
                Who::Person => {
                    person::draw(&mut canvas, &figure, looks, actor.covered, actor.moving);
                    0
                }
                Who::Car => {
                    car::draw(&mut canvas, &figure, looks, actor.covered);
                    1
                }
                Who::Bicycle => {
                    bicycle::draw(&mut canvas, &figure, looks, actor.covered, actor.moving);
                    2
                }
            };
            let extent = canvas.extent();
            let Some((window, inside)) = within(extent, width, height) else {
                continue;
            };
            let painted = count(canvas.stamps(), width, window, |stamp| stamp & !HIDDEN == mark);
            scratch.drawn.push(Drawn { class, id: actor.id, painted, inside, window });
        }
    }

    /// Looks at what the finished picture left of each actor.
    fn judge(&self, scratch: &mut Scratch) {
        let (width, height) = (self.size.width as usize, self.size.height as f32);
        scratch.truths.clear();
        for (i, drawn) in scratch.drawn.iter().enumerate() {
            let mark = i as u8 + 1;
            let Some((seen, left)) = shrink(&scratch.stamps, width, drawn.window, mark) else {
                continue;
            };
            let visible = left as f32 / drawn.painted.max(1) as f32 * drawn.inside;
            let (w, h) = ((seen.x2 - seen.x1) as f32, (seen.y2 - seen.y1) as f32);
            let tiny = w.max(h) < height * MIN_LONG || w.min(h) < height * MIN_SHORT;
            scratch.truths.push(Truth {
                class: drawn.class,
                x1: seen.x1 as f32,
                y1: seen.y1 as f32,
                x2: seen.x2 as f32,
                y2: seen.y2 as f32,
                visible,
                ignore: tiny || visible < MIN_VISIBLE,
                id: drawn.id,
            });
        }
    }
}

/// The extent's pixels within the picture and the share of it that they are.
fn within(extent: Extent, width: usize, height: usize) -> Option<(Window, f32)> {
    let (w, h) = (width as f32, height as f32);
    let (x1, y1) = (extent.x1.clamp(0.0, w), extent.y1.clamp(0.0, h));
    let (x2, y2) = (extent.x2.clamp(0.0, w), extent.y2.clamp(0.0, h));
    let area = (extent.x2 - extent.x1) * (extent.y2 - extent.y1);
    let inside = (x2 - x1) * (y2 - y1);
    if inside <= 0.0 || area <= 0.0 {
        return None;
    }
    let window = Window {
        x1: x1 as usize,
        y1: y1 as usize,
        x2: (x2.ceil() as usize).min(width),
        y2: (y2.ceil() as usize).min(height),
    };
    Some((window, (inside / area).min(1.0)))
}

fn count(stamps: &[u8], width: usize, window: Window, mine: impl Fn(u8) -> bool) -> usize {
    (window.y1..window.y2)
        .map(|y| {
            let row = &stamps[y * width + window.x1..y * width + window.x2];
            row.iter().filter(|stamp| mine(**stamp)).count()
        })
        .sum()
}

/// The tightest window around the pixels with this mark, and their number.
fn shrink(stamps: &[u8], width: usize, window: Window, mark: u8) -> Option<(Window, usize)> {
    let mut seen = Window { x1: usize::MAX, y1: usize::MAX, x2: 0, y2: 0 };
    let mut total = 0;
    for y in window.y1..window.y2 {
        let row = &stamps[y * width + window.x1..y * width + window.x2];
        let Some(first) = row.iter().position(|stamp| *stamp == mark) else {
            continue;
        };
        let last = row.iter().rposition(|stamp| *stamp == mark).unwrap_or(first);
        total += row[first..=last].iter().filter(|stamp| **stamp == mark).count();
        seen.x1 = seen.x1.min(window.x1 + first);
        seen.x2 = seen.x2.max(window.x1 + last + 1);
        seen.y1 = seen.y1.min(y);
        seen.y2 = y + 1;
    }
    (total > 0).then_some((seen, total))
}
