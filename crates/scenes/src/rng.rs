//! Random numbers that never change: splitmix64, seeded by a list of keys.
//!
//! Every drawn thing has its own generator keyed by what it is (seed, camera, lane, slot), so
//! adding a choice to one thing does not shift the choices of any other.

#[derive(Clone)]
pub struct Rng(u64);

/// One step of splitmix64: a bijection whose output bits all depend on all input bits.
pub fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A number that depends on every key and on their order.
pub fn key(parts: &[u64]) -> u64 {
    parts.iter().fold(0, |sum, part| mix(sum ^ mix(*part)))
}

impl Rng {
    pub fn keyed(parts: &[u64]) -> Self {
        Self(key(parts))
    }

    pub fn bits(&mut self) -> u64 {
        let out = mix(self.0);
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        out
    }

    /// Even in 0..1; 24 bits, so that the conversion to f32 is exact.
    pub fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u32 << 24) as f32
    }

    pub fn range(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// Even in 0..count (0 where count is 0).
    pub fn below(&mut self, count: usize) -> usize {
        (((self.bits() >> 32) * count as u64) >> 32) as usize
    }

    pub fn chance(&mut self, probability: f32) -> bool {
        self.unit() < probability
    }

    /// -1 or 1.
    pub fn sign(&mut self) -> f32 {
        if self.chance(0.5) { 1.0 } else { -1.0 }
    }

    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}
