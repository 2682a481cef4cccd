//! The loops over pixels. Each is one loop without branches or lookups that LLVM vectorises, compiled twice: for the
//! target's baseline, and for AVX2 if the processor has it. Slices that differ in length end with the shortest.

/// A multiple of every number of channels and of every vector width, so that one pattern of factors serves all
/// interleaved rows.
pub(super) const PATTERN: usize = 48;

/// Compiles a kernel for the target's baseline and for AVX2, and picks at run time.
macro_rules! kernel {
    ($(#[$doc:meta])* pub(super) fn $name:ident($($arg:ident: $type:ty),* $(,)?) $body:block) => {
        $(#[$doc])*
        pub(super) fn $name($($arg: $type),*) {
            #[inline(always)]
            fn generic($($arg: $type),*) $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn avx2($($arg: $type),*) {
                    generic($($arg),*);
                }
                if is_x86_feature_detected!("avx2") {
                    // SAFETY: the processor has AVX2.
                    return unsafe { avx2($($arg),*) };
                }
            }
            generic($($arg),*);
        }
    };
}

kernel! {
    /// Interleaved pixels to three `f32` planes.
    pub(super) fn split_f32(source: &[u8], a: &mut [f32], b: &mut [f32], c: &mut [f32], factor: &[f32; 3], term: &[f32; 3]) {
        let planes = a.iter_mut().zip(b.iter_mut()).zip(c.iter_mut());
        for (pixel, ((a, b), c)) in source.as_chunks::<3>().0.iter().zip(planes) {
            *a = f32::from(pixel[0]) * factor[0] + term[0];
            *b = f32::from(pixel[1]) * factor[1] + term[1];
            *c = f32::from(pixel[2]) * factor[2] + term[2];
        }
    }
}

kernel! {
    /// Interleaved pixels to three `u8` planes.
    pub(super) fn split_u8(source: &[u8], a: &mut [u8], b: &mut [u8], c: &mut [u8]) {
        let planes = a.iter_mut().zip(b.iter_mut()).zip(c.iter_mut());
        for (pixel, ((a, b), c)) in source.as_chunks::<3>().0.iter().zip(planes) {
            [*a, *b, *c] = *pixel;
        }
    }
}

kernel! {
    /// Values in the same places as `f32`.
    pub(super) fn scale_f32(source: &[u8], values: &mut [f32], factors: &[f32; PATTERN], terms: &[f32; PATTERN]) {
        let (sources, source_rest) = source.as_chunks::<PATTERN>();
        let (targets, target_rest) = values.as_chunks_mut::<PATTERN>();
        for (source, values) in sources.iter().zip(targets) {
            for i in 0..PATTERN {
                values[i] = f32::from(source[i]) * factors[i] + terms[i];
            }
        }
        for (i, (source, value)) in source_rest.iter().zip(target_rest).enumerate() {
            *value = f32::from(*source) * factors[i] + terms[i];
        }
    }
}

kernel! {
    /// RGB to BGR or back.
    pub(super) fn swap(source: &[u8], row: &mut [u8]) {
        for (pixel, swapped) in source.as_chunks::<3>().0.iter().zip(row.as_chunks_mut::<3>().0) {
            *swapped = [pixel[2], pixel[1], pixel[0]];
        }
    }
}

kernel! {
    /// Grey to three equal channels.
    pub(super) fn expand(source: &[u8], row: &mut [u8]) {
        for (grey, pixel) in source.iter().zip(row.as_chunks_mut::<3>().0) {
            *pixel = [*grey; 3];
        }
    }
}

kernel! {
    /// Three channels to one; the weights are 256ths.
    pub(super) fn luma(source: &[u8], row: &mut [u8], weights: [u32; 3]) {
        for (pixel, grey) in source.as_chunks::<3>().0.iter().zip(row) {
            let sum = u32::from(pixel[0]) * weights[0] + u32::from(pixel[1]) * weights[1] + u32::from(pixel[2]) * weights[2];
            *grey = ((sum + 128) >> 8) as u8;
        }
    }
}

kernel! {
    /// Video range luma to full range.
    pub(super) fn full_range(luma: &mut [u8]) {
        for luma in luma {
            *luma = to_u8(298 * (i32::from(*luma) - 16) + 128);
        }
    }
}

kernel! {
    /// Luma and interleaved chroma to RGB.
    pub(super) fn rgb_of_pairs(luma: &[u8], pairs: &[u8], rgb: &mut [u8]) {
        let pixels = luma.iter().zip(pairs.as_chunks::<2>().0);
        for ((y, [u, v]), pixel) in pixels.zip(rgb.as_chunks_mut::<3>().0) {
            *pixel = rgb_of(*y, *u, *v);
        }
    }
}

kernel! {
    /// Three planes to RGB.
    pub(super) fn rgb_of_planes(luma: &[u8], u: &[u8], v: &[u8], rgb: &mut [u8]) {
        let pixels = luma.iter().zip(u).zip(v);
        for (((y, u), v), pixel) in pixels.zip(rgb.as_chunks_mut::<3>().0) {
            *pixel = rgb_of(*y, *u, *v);
        }
    }
}

kernel! {
    /// Each element twice.
    pub(super) fn double(source: &[u8], doubled: &mut [u8]) {
        for (value, two) in source.iter().zip(doubled.as_chunks_mut::<2>().0) {
            *two = [*value; 2];
        }
    }
}

kernel! {
    /// Each pair twice.
    pub(super) fn double_pairs(source: &[u8], doubled: &mut [u8]) {
        for ([u, v], four) in source.as_chunks::<2>().0.iter().zip(doubled.as_chunks_mut::<4>().0) {
            *four = [*u, *v, *u, *v];
        }
    }
}

/// BT.601, video range, in 256ths.
#[inline(always)]
fn rgb_of(y: u8, u: u8, v: u8) -> [u8; 3] {
    let y = 298 * (i32::from(y) - 16) + 128;
    let (u, v) = (i32::from(u) - 128, i32::from(v) - 128);
    [to_u8(y + 409 * v), to_u8(y - 100 * u - 208 * v), to_u8(y + 516 * u)]
}

#[inline(always)]
fn to_u8(sum: i32) -> u8 {
    (sum >> 8).clamp(0, 255) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn video_range_colours_are_those_of_bt601() {
        let cases = [
            ([16, 128, 128], [0, 0, 0]),
            ([235, 128, 128], [255, 255, 255]),
            ([81, 90, 240], [255, 0, 0]),
            ([145, 54, 34], [0, 255, 0]),
            ([41, 240, 110], [0, 0, 255]),
            ([0, 128, 128], [0, 0, 0]),
            ([255, 128, 128], [255, 255, 255]),
        ];
        for ([y, u, v], expected) in cases {
            let (mut of_pairs, mut of_planes) = ([0; 3], [0; 3]);
            rgb_of_pairs(&[y], &[u, v], &mut of_pairs);
            rgb_of_planes(&[y], &[u], &[v], &mut of_planes);
            assert_eq!(of_pairs, of_planes);
            let far = of_pairs.iter().zip(expected).map(|(a, b): (&u8, u8)| a.abs_diff(b)).max().unwrap();
            assert!(far <= 2, "{y} {u} {v}: {of_pairs:?}, expected {expected:?}");
        }
        let mut luma = [0, 16, 126, 235, 255];
        full_range(&mut luma);
        assert_eq!(luma, [0, 0, 128, 255, 255]);
    }
}
