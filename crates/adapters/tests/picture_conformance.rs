//! Every JPEG library of this build does what the engine expects of a picture decoder.

use std::sync::Arc;

use omma_adapters::picture::{JpegLibrary, PictureLimits, factory_with};
use omma_engine::picture::{PictureDecoderFactory, PictureSpec};
use omma_testkit::picture_decoder_conformance;

fn open(library: JpegLibrary) -> impl Fn(PictureSpec) -> Arc<dyn PictureDecoderFactory> {
    move |spec| factory_with(library, spec, PictureLimits::default()).expect("a sound model input")
}

#[cfg(feature = "turbojpeg")]
mod turbo {
    use super::*;

    picture_decoder_conformance!(open(JpegLibrary::Turbo));
}

mod zune {
    use super::*;

    picture_decoder_conformance!(open(JpegLibrary::Zune));
}
