//! Whether pictures fit a model: its one picture input, held against the pictures that the configuration promises.
//!
//! Pure; `check` runs at start, [`PictureInput::request`] once per batch and without allocating unless it refuses.

use omma_engine::infer::backend::{BackendError, BatchInput, BatchLimit, ModelInfo, TensorInfo};
use omma_engine::picture::{Color, Layout, PictureSpec, Resize};
use omma_engine::tensor::DType;
use omma_frame::Size;

/// A model's one input, known to be a batch of pictures. `None` dimensions may vary.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PictureInput {
    info: TensorInfo,
    dims: [Option<usize>; 3],
    batch: BatchLimit,
}

/// What a runtime is given for one batch: a dense tensor, to be read where it lies.
pub(super) struct Request<'a> {
    pub(super) shape: [usize; 4],
    pub(super) bytes: &'a [u8],
    pub(super) dtype: DType,
}

/// The largest side, and batch, that is taken for real; the sizes of pictures are computed without fear of overflow.
const DIM_MAX: usize = 1 << 16;

/// The batch sizes that a first dimension means.
pub(super) fn batch_limit(inputs: &[TensorInfo]) -> BatchLimit {
    match inputs.first().and_then(|input| input.shape.first()) {
        Some(Some(fixed)) => BatchLimit::Exactly(*fixed),
        _ => BatchLimit::UpTo(usize::MAX),
    }
}

impl PictureInput {
    /// # Errors
    /// The model takes something other than one batch of pictures; the text says what.
    pub(super) fn of(info: &ModelInfo) -> Result<Self, String> {
        let [input] = info.inputs.as_slice() else {
            let names: Vec<_> = info.inputs.iter().map(describe).collect();
            return Err(format!(
                "the model has {} inputs ({}), expected exactly one, a batch of pictures",
                info.inputs.len(),
                names.join(", ")
            ));
        };
        let [batch, a, b, c] = *input.shape.as_slice() else {
            return Err(format!(
                "input {} has rank {}, expected 4: batch, channels, height, width",
                describe(input),
                input.shape.len()
            ));
        };
        if !DType::OF_PICTURES.contains(&input.dtype) {
            return Err(format!("input {} holds {}, expected u8, f16 or f32", describe(input), input.dtype.name()));
        }
        if [batch, a, b, c].iter().flatten().any(|dim| !(1..=DIM_MAX).contains(dim)) {
            return Err(format!("input {} has a dimension outside of 1 to {DIM_MAX}", describe(input)));
        }
        Ok(Self { info: input.clone(), dims: [a, b, c], batch: info.batch })
    }

    /// What a runtime has to be given for `batch`: with a batch size that is fixed, all of its slots, used or not.
    ///
    /// # Errors
    /// The batch does not fit the model. Costs nothing to the batches that do.
    pub(super) fn request<'a>(&self, batch: &BatchInput<'a>) -> Result<Request<'a>, BackendError> {
        let refuse = |message: String| Err(BackendError::batch(message));
        let (count, spec) = (batch.len(), batch.spec);
        if count == 0 {
            return refuse("the batch is empty".into());
        }
        let rows = match self.batch {
            BatchLimit::UpTo(most) if count > most => {
                return refuse(format!("the batch has {count} pictures, the model takes at most {most}"));
            }
            BatchLimit::Exactly(fixed) if count > fixed => {
                return refuse(format!("the batch has {count} pictures, the model takes exactly {fixed}"));
            }
            BatchLimit::UpTo(_) => count,
            BatchLimit::Exactly(fixed) => fixed,
        };
        if rows > batch.tensor.slots() {
            return refuse(format!("the batch tensor has {} slots, the model needs {rows}", batch.tensor.slots()));
        }
        let dims = item_dims(spec);
        if spec.dtype != self.info.dtype
            || self.dims.iter().zip(dims).any(|(want, is)| want.is_some_and(|want| want != is))
        {
            return refuse(mismatch(&self.info, spec).unwrap_or_default());
        }
        let bytes = batch.tensor.bytes(rows);
        if bytes.len() != rows * spec.slot_bytes() {
            return refuse(format!(
                "a slot of the batch tensor has {} bytes, a picture {}",
                bytes.len() / rows,
                spec.slot_bytes()
            ));
        }
        Ok(Request { shape: [rows, dims[0], dims[1], dims[2]], bytes, dtype: spec.dtype })
    }
}

/// Height, width and channels in the order of the layout.
pub(super) fn item_dims(spec: &PictureSpec) -> [usize; 3] {
    let (height, width, channels) = (spec.size.height as usize, spec.size.width as usize, spec.color.channels());
    match spec.layout {
        Layout::Nchw => [channels, height, width],
        Layout::Nhwc => [height, width, channels],
    }
}

/// Whether the pictures of `spec` are what the model takes.
///
/// # Errors
/// They are not, or the model takes no pictures: says what the model has, what was said of it, and what to set.
pub fn check(info: &ModelInfo, spec: &PictureSpec) -> Result<(), String> {
    let input = PictureInput::of(info)?;
    mismatch(&input.info, spec).map_or(Ok(()), Err)
}

/// The message for pictures that do not fit, or `None`.
fn mismatch(input: &TensorInfo, spec: &PictureSpec) -> Option<String> {
    let dims = item_dims(spec);
    let fits =
        |dims: [usize; 3]| input.shape.iter().skip(1).zip(dims).all(|(want, is)| want.is_none_or(|want| want == is));
    if input.dtype == spec.dtype && fits(dims) {
        return None;
    }
    let mut set = Vec::new();
    if input.dtype != spec.dtype {
        set.push(format!("dtype = \"{}\"", input.dtype.name()));
    }
    if !fits(dims) {
        match picture_shape(input) {
            Some((layout, channels, height, width)) => {
                if layout != spec.layout {
                    set.push(format!("layout = \"{}\"", layout_name(layout).to_lowercase()));
                }
                if channels != spec.color.channels() {
                    set.push(if channels == 1 { "color = \"gray\"".into() } else { "color = \"rgb\"".into() });
                }
                for (key, want, is) in [("width", width, spec.size.width), ("height", height, spec.size.height)] {
                    if let Some(want) = want.filter(|want| *want != is as usize) {
                        set.push(format!("{key} = {want}"));
                    }
                }
            }
            None => set.push("a model whose input has 1 or 3 channels".into()),
        }
    }
    Some(format!(
        "input {} is {}, the configuration says {} {}x{}x{} {}: set {}",
        quoted(&input.name),
        typed_shape(input),
        spec.dtype.name(),
        spec.color.channels(),
        spec.size.height,
        spec.size.width,
        layout_name(spec.layout),
        set.join(", ")
    ))
}

/// Pictures as the model's input suggests them, with the conventions of the YOLO family for what an input cannot
/// tell (letterbox with grey 114; red first; values 0 to 1 for `f32`), and `open_size` for the sides that the model
/// leaves open. `None` if a side is open and no size is given, or no dimension can be the channels.
#[must_use]
pub fn guess_spec(info: &ModelInfo, open_size: Option<Size>) -> Option<PictureSpec> {
    let input = PictureInput::of(info).ok()?;
    let (layout, channels, height, width) = picture_shape(&input.info)?;
    let side = |pixels: Option<usize>, open: fn(Size) -> u32| match pixels {
        Some(pixels) => u32::try_from(pixels).ok(),
        None => open_size.map(open),
    };
    Some(PictureSpec {
        size: Size { width: side(width, |open| open.width)?, height: side(height, |open| open.height)? },
        dtype: input.info.dtype,
        layout,
        color: if channels == 1 { Color::Gray } else { Color::Rgb },
        resize: Resize::Letterbox { pad: 114 },
        scale: input.info.dtype.usual_scale(),
        mean: [0.0; 3],
        std: [1.0; 3],
    })
}

/// Layout, channels, height and width, told by which dimension is 1 or 3. Planes first: it is what exporters write,
/// and an NHWC picture that is 3 pixels high is not.
fn picture_shape(input: &TensorInfo) -> Option<(Layout, usize, Option<usize>, Option<usize>)> {
    match *input.shape.as_slice() {
        [_, Some(channels @ (1 | 3)), height, width] => Some((Layout::Nchw, channels, height, width)),
        [_, height, width, Some(channels @ (1 | 3))] => Some((Layout::Nhwc, channels, height, width)),
        _ => None,
    }
}

const fn layout_name(layout: Layout) -> &'static str {
    match layout {
        Layout::Nchw => "NCHW",
        Layout::Nhwc => "NHWC",
    }
}

fn quoted(name: &str) -> String {
    format!("`{name}`")
}

fn typed_shape(tensor: &TensorInfo) -> String {
    let dims: Vec<_> = tensor
        .shape
        .iter()
        .enumerate()
        .map(|(at, dim)| {
            dim.map_or_else(|| if at == 0 { "batch".to_owned() } else { "any".to_owned() }, |dim| dim.to_string())
        })
        .collect();
    format!("{} [{}]", tensor.dtype.name(), dims.join(", "))
}

/// ``"`images` f32 [batch, 3, 640, 640]"``.
fn describe(tensor: &TensorInfo) -> String {
    format!("{} {}", quoted(&tensor.name), typed_shape(tensor))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(dtype: DType, shape: &[Option<usize>]) -> ModelInfo {
        let inputs = vec![TensorInfo { name: "images".into(), dtype, shape: shape.to_vec() }];
        ModelInfo { runtime: "test".into(), batch: batch_limit(&inputs), inputs, outputs: vec![] }
    }

    fn spec(dtype: DType, width: u32, height: u32, layout: Layout, color: Color) -> PictureSpec {
        PictureSpec {
            size: Size { width, height },
            dtype,
            layout,
            color,
            resize: Resize::Stretch,
            scale: 1.0,
            mean: [0.0; 3],
            std: [1.0; 3],
        }
    }

    #[test]
    fn a_misfit_says_what_the_model_has_what_was_said_and_what_to_set() {
        use Color::{Gray, Rgb};
        use DType::{F32, U8};
        use Layout::{Nchw, Nhwc};
        let planes = [None, Some(3), Some(480), Some(640)];
        for (shape, dtype, spec, expected) in [
            (&planes, F32, spec(F32, 640, 480, Nchw, Rgb), None),
            (&[None, Some(3), None, None], F32, spec(F32, 99, 77, Nchw, Rgb), None),
            (&[Some(1), Some(480), Some(640), Some(1)], U8, spec(U8, 640, 480, Nhwc, Gray), None),
            (
                &planes,
                F32,
                spec(U8, 320, 320, Nchw, Rgb),
                Some(
                    "input `images` is f32 [batch, 3, 480, 640], the configuration says u8 3x320x320 NCHW: set dtype = \"f32\", width = 640, height = 480",
                ),
            ),
            (
                &planes,
                F32,
                spec(F32, 640, 480, Nhwc, Rgb),
                Some(
                    "input `images` is f32 [batch, 3, 480, 640], the configuration says f32 3x480x640 NHWC: set layout = \"nchw\"",
                ),
            ),
            (
                &[Some(4), Some(1), None, None],
                F32,
                spec(F32, 64, 32, Nchw, Rgb),
                Some(
                    "input `images` is f32 [4, 1, any, any], the configuration says f32 3x32x64 NCHW: set color = \"gray\"",
                ),
            ),
            (
                &[None, Some(4), Some(8), Some(8)],
                F32,
                spec(F32, 8, 8, Nchw, Rgb),
                Some(
                    "input `images` is f32 [batch, 4, 8, 8], the configuration says f32 3x8x8 NCHW: set a model whose input has 1 or 3 channels",
                ),
            ),
        ] {
            assert_eq!(check(&model(dtype, shape), &spec).err().as_deref(), expected);
        }
    }

    #[test]
    fn pictures_are_guessed_from_the_input() {
        for (shape, dtype, expected) in [
            (
                &[None, Some(3), Some(480), Some(640)],
                DType::F32,
                Some((640, 480, Layout::Nchw, Color::Rgb, 1.0 / 255.0)),
            ),
            (&[Some(1), Some(224), Some(192), Some(3)], DType::U8, Some((192, 224, Layout::Nhwc, Color::Rgb, 1.0))),
            (&[None, Some(1), Some(28), Some(28)], DType::F32, Some((28, 28, Layout::Nchw, Color::Gray, 1.0 / 255.0))),
            // Both ends could be channels: planes win.
            (&[None, Some(3), Some(8), Some(3)], DType::F32, Some((3, 8, Layout::Nchw, Color::Rgb, 1.0 / 255.0))),
            (&[None, Some(3), None, Some(640)], DType::F32, None),
            (&[None, Some(4), Some(8), Some(8)], DType::F32, None),
            (&[None, None, Some(8), Some(8)], DType::F32, None),
            (&[None, Some(3), Some(8), Some(8)], DType::I64, None),
        ] {
            let guessed = guess_spec(&model(dtype, shape), None);
            assert_eq!(
                guessed.as_ref().map(|spec| (spec.size.width, spec.size.height, spec.layout, spec.color, spec.scale)),
                expected,
                "{shape:?}"
            );
            if let Some(spec) = guessed {
                assert_eq!(check(&model(dtype, shape), &spec), Ok(()), "what is guessed fits");
            }
        }
    }

    #[test]
    fn sides_that_a_model_leaves_open_are_taken_from_the_size_that_is_given() {
        let size = |shape: &[Option<usize>]| {
            guess_spec(&model(DType::F32, shape), Some(Size { width: 64, height: 32 })).map(|spec| spec.size)
        };
        assert_eq!(size(&[None, Some(3), None, None]), Some(Size { width: 64, height: 32 }));
        assert_eq!(size(&[None, Some(3), Some(48), None]), Some(Size { width: 64, height: 48 }));
        assert_eq!(size(&[None, Some(3), Some(48), Some(96)]), Some(Size { width: 96, height: 48 }));
    }

    #[test]
    fn a_first_dimension_is_a_batch_size_only_if_it_is_fixed() {
        for (first, expected) in
            [(None, BatchLimit::UpTo(usize::MAX)), (Some(1), BatchLimit::Exactly(1)), (Some(8), BatchLimit::Exactly(8))]
        {
            assert_eq!(model(DType::F32, &[first, Some(3), Some(8), Some(8)]).batch, expected);
        }
    }
}
