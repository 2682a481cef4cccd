//! What model files say of themselves, before and after a runtime has read them.

use omma_adapters::fuzzing::model_file;
use omma_adapters::infer::{check, guess_spec};
use omma_engine::infer::backend::{BatchLimit, ModelInfo};
use omma_engine::post::decode::guess as guess_outputs;
use omma_engine::tensor::{DType, TensorInfo};
use omma_frame::Size;

use crate::input::Input;

const DTYPES: [DType; 5] = [DType::F32, DType::U8, DType::F16, DType::I32, DType::I64];

/// The look at a model file before any runtime.
pub fn onnx(bytes: &[u8]) {
    match model_file(bytes) {
        Ok(()) => {
            let cut = &bytes[..bytes.len() - 1];
            assert!(model_file(cut).is_err(), "a file cut off by one byte passes as whole");
        }
        Err(problem) => assert!(!problem.to_string().is_empty()),
    }
}

pub(crate) fn onnx_seeds() -> Vec<Vec<u8>> {
    let whole = [&[0x08, 8, 0x12, 4][..], b"omma", &[0x3A, 3, 1, 2, 3, 0x42, 2, 8, 9]].concat();
    let fixed = [&[0x3A, 1, 0][..], &[0x09, 1, 2, 3, 4, 5, 6, 7, 8, 0x0D, 1, 2, 3, 4]].concat();
    let endless = [&[0x3A][..], &[0xFF; 10]].concat();
    let huge = [&[0x3A, 1, 0, 0x12][..], &[0xFF; 9], &[0x01]].concat();
    vec![whole, fixed, endless, huge, b"version https://git-lfs".to_vec(), b"\x08\x08".to_vec()]
}

/// A tensor as a runtime describes it: any dimensions, also ones that no machine has.
fn tensor(input: &mut Input, names: &[&str]) -> TensorInfo {
    let (name, dtype) = (input.pick(names).to_owned(), input.pick(&DTYPES));
    let rank = input.below(6);
    let dimension = |input: &mut Input| match input.byte() {
        0 => None,
        1 => Some(usize::MAX),
        2 => Some(input.u32() as usize),
        3 => Some(0),
        4 => Some(84),
        5 => Some(8400),
        6 => Some(1000),
        7 => Some(3),
        8 => Some(640),
        small => Some(usize::from(small) - 8),
    };
    TensorInfo { name, dtype, shape: (0..rank).map(|_| dimension(input)).collect() }
}

/// Guessing pictures and decoder from a model's tensors.
pub fn guess(bytes: &[u8]) {
    const OUTPUTS: [&str; 7] = [
        "output0",
        "logits",
        "embedding",
        "detection_boxes",
        "detection_classes",
        "detection_scores",
        "num_detections",
    ];
    let mut input = Input::new(bytes);
    let class_count = [None, Some(0), Some(80), Some(1000), Some(usize::MAX)][input.below(5)];
    let side = [0, 1, 64, 640, u32::MAX];
    let size = Size { width: input.pick(&side), height: input.pick(&side) };
    let inputs = (0..input.below(3)).map(|_| tensor(&mut input, &["images"])).collect();
    let outputs: Vec<_> = (0..input.below(6)).map(|_| tensor(&mut input, &OUTPUTS)).collect();
    match guess_outputs(&outputs, size, class_count) {
        Ok(guessed) => {
            assert!(!guessed.why.is_empty());
            assert_eq!(guessed.plan.problems(), [], "{outputs:?}");
        }
        Err(why) => assert!(!why.is_empty()),
    }
    let batch = if input.flag() { BatchLimit::UpTo(input.below(9)) } else { BatchLimit::Exactly(input.below(9)) };
    let info = ModelInfo { runtime: "any".to_owned(), inputs, outputs, batch };
    if let Some(spec) = guess_spec(&info, Some(size)) {
        assert_eq!(check(&info, &spec), Ok(()), "{spec:?} was guessed of {info:?}");
    }
}

pub(crate) fn guess_seeds() -> Vec<Vec<u8>> {
    // One picture input and one output: YOLO v8, v5, a classifier, an end-to-end export, an embedding.
    let image = [0, 0, 4, 0, 7, 8, 8];
    let outputs: [&[u8]; 5] =
        [&[0, 0, 3, 0, 4, 5], &[0, 0, 3, 9, 5, 93], &[1, 0, 2, 9, 6], &[0, 0, 3, 9, 108, 14], &[2, 0, 2, 0, 72]];
    let mut seeds: Vec<Vec<u8>> =
        outputs.iter().map(|output| [&[0, 3, 3, 1][..], &image, &[1], output].concat()).collect();
    let listed = [3, 0, 3, 9, 108, 12, 4, 0, 2, 9, 108, 5, 0, 2, 9, 108, 6, 0, 1, 9];
    seeds.push([&[2, 3, 3, 1][..], &image, &[4], &listed].concat());
    seeds
}
