//! Colours in 0..255 per channel, and the light of a place that tints them all.

use crate::rng::Rng;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Colour(pub [f32; 3]);

pub const fn rgb(r: u8, g: u8, b: u8) -> Colour {
    Colour([r as f32, g as f32, b as f32])
}

impl Colour {
    pub fn times(self, factor: f32) -> Self {
        Self(self.0.map(|v| v * factor))
    }

    pub fn plus(self, amount: f32) -> Self {
        Self(self.0.map(|v| v + amount))
    }

    pub fn toward(self, other: Self, t: f32) -> Self {
        let [a, b, c] = self.0;
        let [x, y, z] = other.0;
        Self([a + (x - a) * t, b + (y - b) * t, c + (z - c) * t])
    }

    pub fn bytes(self) -> [u8; 3] {
        // Conversion from float saturates, so colours beyond the range end at its ends.
        self.0.map(|v| (v + 0.5) as u8)
    }

    /// A little of each channel moved at random, so that two things painted alike differ.
    pub fn varied(self, rng: &mut Rng, amount: f32) -> Self {
        let all = rng.range(-amount, amount);
        Self(self.0.map(|v| v + all + rng.range(-amount, amount) * 0.4))
    }
}

/// The hour and weather of a place.
#[derive(Clone, Copy)]
pub struct Light {
    pub tint: [f32; 3],
    /// Toward the sun: x to the right, y up, z away from the camera; unit length.
    pub sun: [f32; 3],
    /// 0 (overcast, no cast shadows) to 1.
    pub contrast: f32,
    pub sky_top: Colour,
    pub sky_low: Colour,
    /// Windows, lamps and head lights are lit.
    pub lamps: bool,
}

impl Light {
    pub fn outdoors(rng: &mut Rng) -> Self {
        let side = rng.range(-0.8, 0.8);
        let (tint, contrast, sky_top, sky_low, lamps) = match rng.below(10) {
            0..=3 => ([1.04, 1.02, 0.98], 1.0, rgb(92, 146, 212), rgb(196, 219, 238), false),
            4..=6 => ([0.92, 0.94, 0.97], 0.15, rgb(158, 168, 180), rgb(208, 214, 220), false),
            7..=8 => ([1.08, 0.95, 0.78], 0.8, rgb(96, 124, 176), rgb(246, 202, 150), false),
            _ => ([0.60, 0.63, 0.78], 0.1, rgb(38, 48, 84), rgb(146, 118, 128), true),
        };
        Self { tint, sun: unit([side, 0.8, rng.range(-0.5, 0.3)]), contrast, sky_top, sky_low, lamps }
    }

    pub fn indoors(rng: &mut Rng) -> Self {
        let tint = rng.pick(&[[1.0, 0.98, 0.93], [0.92, 0.97, 1.0], [0.85, 0.86, 0.84]]);
        Self {
            tint,
            sun: unit([rng.range(-0.3, 0.3), 1.0, -0.2]),
            contrast: 0.25,
            sky_top: rgb(60, 60, 60),
            sky_low: rgb(60, 60, 60),
            lamps: false,
        }
    }

    /// The colour as this light shows it.
    pub fn on(&self, colour: Colour) -> Colour {
        let [r, g, b] = colour.0;
        Colour([r * self.tint[0], g * self.tint[1], b * self.tint[2]])
    }

    /// The colour of a flat face with this (unit) normal.
    pub fn face(&self, colour: Colour, normal: [f32; 3]) -> Colour {
        let toward = normal.iter().zip(self.sun).map(|(n, s)| n * s).sum::<f32>();
        let soft = 0.82 + 0.16 * normal[1];
        self.on(colour.times(soft + self.contrast * 0.22 * toward.max(-0.3)))
    }
}

pub fn unit(v: [f32; 3]) -> [f32; 3] {
    let length = (v[0] * v[0] + v[1] * v[1] + v[2] * v[2]).sqrt().max(1e-6);
    v.map(|x| x / length)
}
