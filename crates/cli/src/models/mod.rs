//! `omma models`: what a model file is, how fast it runs here, and what could run it.

pub mod args;
mod bench;
mod doctor;
mod inspect;

use args::{ModelsArgs, ModelsCommand};
use omma_adapters::infer;
use omma_engine::infer::backend::{BatchLimit, ModelInfo, TensorInfo};
use omma_engine::picture::PictureSpec;
use omma_frame::Size;
use serde_json::{Value, json};

use crate::exit::{Exit, Failure};

/// What pictures are scaled to where the model takes any size.
const OPEN_SIZE: Size = Size { width: 640, height: 640 };

pub fn run(args: &ModelsArgs) -> Result<Exit, Failure> {
    match &args.command {
        ModelsCommand::Inspect(args) => inspect::run(args),
        ModelsCommand::Bench(args) => bench::run(args),
        ModelsCommand::Doctor(args) => Ok(doctor::run(args)),
    }
}

/// The pictures that a model takes, and whether it left their size open.
fn pictures(info: &ModelInfo) -> Result<(PictureSpec, bool), Failure> {
    if let Some(spec) = infer::guess_spec(info, None) {
        return Ok((spec, false));
    }
    let spec = infer::guess_spec(info, Some(OPEN_SIZE));
    spec.map(|spec| (spec, true)).ok_or_else(|| Failure::usage("the model does not say how it wants its pictures"))
}

fn tensor(tensor: &TensorInfo) -> String {
    let dims: Vec<String> =
        tensor.shape.iter().map(|dim| dim.map_or_else(|| "any".to_owned(), |dim| dim.to_string())).collect();
    format!("{} {} [{}]", tensor.name, tensor.dtype.name(), dims.join(", "))
}

fn tensor_json(tensor: &TensorInfo) -> Value {
    json!({ "name": tensor.name, "dtype": tensor.dtype.name(), "shape": tensor.shape })
}

/// The sizes among `wanted` that the model takes, or its one size.
fn batches(limit: BatchLimit, wanted: &[u64]) -> Vec<usize> {
    let most = match limit {
        BatchLimit::Exactly(fixed) => return vec![fixed],
        BatchLimit::UpTo(most) => most,
    };
    let mut sizes: Vec<usize> = wanted.iter().filter_map(|&size| usize::try_from(size).ok()).collect();
    sizes.retain(|size| *size <= most);
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_batches_that_the_model_takes_are_tried() {
        for (limit, wanted, expected) in [
            (BatchLimit::UpTo(usize::MAX), &[16, 1, 4, 4][..], &[1, 4, 16][..]),
            (BatchLimit::UpTo(4), &[1, 4, 16], &[1, 4]),
            (BatchLimit::UpTo(2), &[16], &[]),
            (BatchLimit::Exactly(2), &[1, 4, 16], &[2]),
        ] {
            assert_eq!(batches(limit, wanted), expected, "{limit:?} {wanted:?}");
        }
    }
}
