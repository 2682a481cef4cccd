//! What the camera's electronics add: noise, a drifting exposure and a slight shake.
//!
//! Noise is a tile drawn once per process and laid over the picture at random offsets; adding
//! it costs a pass over the bytes that the compiler turns into vector instructions.

use std::sync::OnceLock;

use crate::math::sin;
use crate::rng::Rng;

/// Bytes that share one offset into the tile.
const RUN: usize = 1920;
const TILE: usize = 1 << 16;

/// A camera's own weaknesses.
pub struct Sensor {
    strength: usize,
    drift: f32,
    shake: f32,
    phase: f32,
}

impl Sensor {
    pub fn choose(rng: &mut Rng) -> Self {
        Self {
            strength: rng.below(TILES),
            drift: rng.range(2.0, 9.0),
            shake: if rng.chance(0.5) { rng.range(0.3, 2.2) } else { 0.0 },
            phase: rng.unit(),
        }
    }

    /// By how many pixels the picture is off at a moment, at most 3 either way.
    pub fn shake(&self, seconds: f64) -> (i32, i32) {
        let t = (seconds % 4096.0) as f32;
        let wobble = |a: f32, b: f32| {
            let at = sin(t * a + self.phase) + 0.5 * sin(t * b + self.phase * 3.0);
            ((at * self.shake + 0.5).floor() as i32).clamp(-3, 3)
        };
        (wobble(0.23, 0.71), wobble(0.31, 0.93))
    }

    /// Applies exposure and noise to a finished picture.
    pub fn expose(&self, seconds: f64, rng: &mut Rng, pixels: &mut [u8]) {
        let t = (seconds % 4096.0) as f32;
        let wave = sin(t * 0.021 + self.phase) * 0.7 + sin(t * 0.13) * 0.3;
        // In 256ths; small enough that the product with a byte fits sixteen bits.
        let gain = (wave * self.drift) as i16 + rng.below(3) as i16 - 1;
        let tile = &tiles()[self.strength];
        for run in pixels.chunks_mut(RUN) {
            let offset = rng.below(TILE - RUN);
            for (value, noise) in run.iter_mut().zip(&tile[offset..offset + RUN]) {
                let v = i16::from(*value);
                let v = v + ((v * gain) >> 8) + i16::from(*noise);
                *value = v.clamp(0, 255) as u8;
            }
        }
    }
}

const TILES: usize = 4;

fn tiles() -> &'static [Box<[i8]>; TILES] {
    static TILES_DRAWN: OnceLock<[Box<[i8]>; TILES]> = OnceLock::new();
    TILES_DRAWN.get_or_init(|| [1.0, 1.8, 2.8, 4.2].map(tile))
}

/// Noise of a standard deviation, half shared by the three channels and half their own.
fn tile(deviation: f32) -> Box<[i8]> {
    let mut rng = Rng::keyed(&[0x006E_6F69_7365, deviation.to_bits().into()]);
    let mut bell = || {
        // The sum of four even numbers is near enough to a bell, of variance 4/12.
        (0..4).map(|_| rng.range(-1.0, 1.0)).sum::<f32>() * 0.866
    };
    let mut out = vec![0; TILE];
    for pixel in out.chunks_mut(3) {
        let grey = bell();
        for value in pixel {
            *value = ((grey + bell()) * 0.707 * deviation).round() as i8;
        }
    }
    out.into_boxed_slice()
}
