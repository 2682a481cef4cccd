//! JPEG: what the header says, checked before a library sees the bytes, and the two libraries behind one trait.
//!
//! The header is read here rather than by the libraries so that both refuse the same pictures with the same words,
//! and so that nothing is allocated for a picture that is refused.

mod header;
#[cfg(feature = "turbojpeg")]
mod turbo;
mod zune;

use omma_engine::picture::{Color, PictureError};
use omma_frame::Size;

pub(super) use header::{Header, is_jpeg};

use super::place::Region;

/// A progressive picture has about ten scans. Each costs a walk over the whole picture, however few bytes it has, so
/// a small payload with thousands of them would hold a thread for minutes.
const SCANS_MAX: u32 = 64;

/// Which library decodes JPEG.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JpegLibrary {
    /// libjpeg-turbo: SIMD, decodes at 1/2, 1/4 and 1/8 directly.
    #[cfg(feature = "turbojpeg")]
    Turbo,
    /// zune-jpeg: pure Rust, always decodes the whole picture.
    Zune,
}

impl JpegLibrary {
    /// The fastest one of this build.
    #[must_use]
    pub const fn best() -> Self {
        #[cfg(feature = "turbojpeg")]
        return Self::Turbo;
        #[cfg(not(feature = "turbojpeg"))]
        return Self::Zune;
    }

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            #[cfg(feature = "turbojpeg")]
            Self::Turbo => "libjpeg-turbo",
            Self::Zune => "zune-jpeg",
        }
    }
}

/// A picture as the library will give it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Reduced {
    /// 1, 2, 4 or 8.
    pub(super) denominator: u32,
    /// Of the decoded picture, rounded up.
    pub(super) size: Size,
    /// How much of the decoded picture the original fills: not whole where its size is no multiple of the
    /// denominator.
    pub(super) extent: (f64, f64),
}

impl Reduced {
    /// The smallest power-of-two reduction that is not smaller than `placed`.
    ///
    /// 3/8, 5/8 and their like would come closer, but their inverse transforms have no SIMD code and cost more than
    /// the resize saves.
    pub(super) fn to(original: Size, placed: Size) -> Self {
        let reductions = [8, 4, 2].map(|denominator| Self::by(original, denominator));
        let enough = |reduced: &Self| reduced.size.width >= placed.width && reduced.size.height >= placed.height;
        reductions.into_iter().find(enough).unwrap_or_else(|| Self::by(original, 1))
    }

    fn by(original: Size, denominator: u32) -> Self {
        let Size { width, height } = original;
        Self {
            denominator,
            size: Size { width: width.div_ceil(denominator), height: height.div_ceil(denominator) },
            extent: (f64::from(width) / f64::from(denominator), f64::from(height) / f64::from(denominator)),
        }
    }
}

pub(super) trait JpegRead: Send {
    /// How the library would best bring the picture near `placed`.
    fn reduced(&self, header: &Header, placed: Size) -> Reduced;

    /// The colour that it gives where `wanted` is asked for.
    fn color(&self, header: &Header, wanted: Color) -> Color;

    /// Whether it can leave a gap between rows.
    fn takes_pitch(&self) -> bool;

    /// Fills `region`, which has `reduced`'s size, with pixels of a colour that [`Self::color`] gave.
    ///
    /// # Errors
    /// The picture is damaged; the region's content is then undefined.
    fn read(
        &mut self,
        bytes: &[u8],
        header: &Header,
        reduced: &Reduced,
        color: Color,
        region: &mut Region,
    ) -> Result<(), PictureError>;
}

pub(super) fn open(library: JpegLibrary) -> Box<dyn JpegRead> {
    match library {
        #[cfg(feature = "turbojpeg")]
        JpegLibrary::Turbo => Box::new(turbo::Turbo::new()),
        JpegLibrary::Zune => Box::new(zune::Zune::default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reduction_is_the_smallest_that_still_covers_the_place() {
        let cases = [
            ((640, 480), (640, 480), 1, (640, 480)),
            ((1280, 720), (640, 360), 2, (640, 360)),
            ((1920, 1080), (640, 360), 2, (960, 540)),
            ((2560, 1440), (640, 360), 4, (640, 360)),
            ((5120, 2880), (640, 360), 8, (640, 360)),
            ((641, 481), (321, 241), 2, (321, 241)),
            ((641, 481), (322, 241), 1, (641, 481)),
            ((320, 240), (640, 480), 1, (320, 240)),
            ((7, 5), (1, 1), 8, (1, 1)),
            ((10_000, 10), (640, 1), 8, (1250, 2)),
        ];
        for ((width, height), placed, denominator, size) in cases {
            let placed = Size { width: placed.0, height: placed.1 };
            let reduced = Reduced::to(Size { width, height }, placed);
            let expected = Size { width: size.0, height: size.1 };
            assert_eq!((reduced.denominator, reduced.size), (denominator, expected), "{width}x{height} to {placed:?}");
        }
    }
}
