//! The little mathematics the drawing needs, from exact operations only.
//!
//! Sines from a system's library differ in the last bit between systems, which would show as
//! different pixels; additions, multiplications, divisions and square roots do not.

use std::f32::consts::TAU;

/// Sine of an angle given in full turns.
pub fn sin(turns: f32) -> f32 {
    let x = turns - turns.floor();
    // Fold onto -0.25..0.25, where the series below is good to about 1e-6.
    let x = if x < 0.25 {
        x
    } else if x < 0.75 {
        0.5 - x
    } else {
        x - 1.0
    };
    let s = x * x;
    x * (TAU - s * (41.341_7 - s * (81.605_25 - s * (76.705_86 - s * 42.058_69))))
}

pub fn cos(turns: f32) -> f32 {
    sin(turns + 0.25)
}

pub fn lerp(a: f32, b: f32, t: f32) -> f32 {
    a + (b - a) * t
}

/// 0 below `low`, 1 above `high`, smooth between.
pub fn smooth(low: f32, high: f32, x: f32) -> f32 {
    let t = ((x - low) / (high - low)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// Distance of `x` from the nearest multiple of `period`.
pub fn to_line(x: f32, period: f32) -> f32 {
    let t = x / period;
    (t - (t + 0.5).floor()).abs() * period
}

/// Position within the period, 0..1.
pub fn phase(x: f32, period: f32) -> f32 {
    let t = x / period;
    t - t.floor()
}

/// Value noise in 0..1 on a unit lattice.
pub fn noise(x: f32, y: f32, seed: u32) -> f32 {
    let (fx, fy) = (x.floor(), y.floor());
    let (ix, iy) = (fx as i32 as u32, fy as i32 as u32);
    let (tx, ty) = (x - fx, y - fy);
    let (tx, ty) = (tx * tx * (3.0 - 2.0 * tx), ty * ty * (3.0 - 2.0 * ty));
    let at = |dx: u32, dy: u32| cell(ix.wrapping_add(dx), iy.wrapping_add(dy), seed);
    lerp(lerp(at(0, 0), at(1, 0), tx), lerp(at(0, 1), at(1, 1), tx), ty)
}

/// Two octaves of noise: enough that a surface does not look like a lattice.
pub fn cloud(x: f32, y: f32, seed: u32) -> f32 {
    0.67 * noise(x, y, seed) + 0.33 * noise(x * 2.7 + 5.1, y * 2.7 - 3.3, seed ^ 0x55)
}

/// A fixed random number in 0..1 for a cell of a grid.
pub fn cell(x: u32, y: u32, seed: u32) -> f32 {
    let mut h = x.wrapping_mul(0x85EB_CA6B) ^ y.wrapping_mul(0xC2B2_AE35) ^ seed.wrapping_mul(0x27D4_EB2F);
    h ^= h >> 15;
    h = h.wrapping_mul(0x2C1B_3C6D);
    h ^= h >> 12;
    h = h.wrapping_mul(0x297A_2D39);
    h ^= h >> 15;
    (h >> 8) as f32 / (1u32 << 24) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sine_is_the_sine() {
        for i in -1000..1000 {
            let turns = i as f32 * 0.003;
            let want = (f64::from(turns) * std::f64::consts::TAU).sin() as f32;
            assert!((sin(turns) - want).abs() < 1e-5, "{turns}: {} {want}", sin(turns));
        }
    }

    #[test]
    fn noise_is_continuous_across_lattice_lines() {
        for i in -20..20 {
            let x = i as f32;
            assert!((noise(x - 1e-4, 0.3, 9) - noise(x + 1e-4, 0.3, 9)).abs() < 1e-2);
        }
    }
}
