//! A model in Python: what the configuration and its class say, put together.

use omma_adapters::infer::python::{self, BatchAs, Declared, PythonDevice, PythonModel, PythonOptions};
use omma_adapters::picture::PictureLimits;
use omma_config::{self as config, ModelConfig, PythonConfig};
use omma_engine::picture::{Color, Layout, PictureSpec};
use omma_engine::tensor::DType;

use super::models::{OpenedModel, finish};

pub(super) fn open(model: &ModelConfig, python: &PythonConfig, limits: PictureLimits) -> Result<OpenedModel, String> {
    let options = PythonOptions {
        model: model.name.clone(),
        interpreter: python.interpreter.clone(),
        entry: python.entry.clone(),
        folder: python.folder.clone(),
        environment: python.environment.clone(),
        parameters: model.parameters.clone(),
        device: match python.device {
            config::PythonDevice::Cpu => PythonDevice::Cpu,
            config::PythonDevice::Cuda => PythonDevice::Cuda,
        },
        batch_as: match python.batch_as {
            config::BatchAs::Numpy => BatchAs::Numpy,
            config::BatchAs::Torch => BatchAs::Torch,
            config::BatchAs::Buffer => BatchAs::Buffer,
        },
        threads: python.threads_per_instance,
        load_timeout: python.load_timeout,
        deadline: model.deadline,
        output_bytes_max: python.output_bytes_max,
    };
    let PythonModel { model: loaded, picture, why } = python::open(options, |declared| picture(model, declared))?;
    let mut opened = finish(loaded, picture, &model.output, limits)?;
    opened.notes.insert(0, why);
    Ok(opened)
}

/// What a word that the class says stands for.
fn word<T: Copy>(name: &str, said: Option<&str>, known: &[(&str, T)]) -> Result<Option<T>, String> {
    let Some(said) = said else { return Ok(None) };
    known.iter().find(|(word, _)| *word == said).map(|(_, meaning)| Some(*meaning)).ok_or_else(|| {
        let words: Vec<_> = known.iter().map(|(word, _)| *word).collect();
        format!("its input has {name} = {said:?}, expected {}", words.join(" or "))
    })
}

/// What is configured, completed by what the class says; whether the two agree is looked at later.
fn picture(model: &ModelConfig, declared: &Declared) -> Result<PictureSpec, String> {
    let dtype = word("dtype", declared.dtype.as_deref(), &DType::OF_PICTURES.map(|dtype| (dtype.name(), dtype)))?;
    let layout = word("layout", declared.layout.as_deref(), &[("nchw", Layout::Nchw), ("nhwc", Layout::Nhwc)])?;
    let color = match declared.channels {
        None => None,
        Some(1) => Some(Color::Gray),
        Some(3) => Some(Color::Rgb),
        Some(other) => return Err(format!("its input has {other} channels, expected 1 or 3")),
    };
    let mut input = model.input.clone();
    input.width = input.width.or(declared.width);
    input.height = input.height.or(declared.height);
    input.dtype = input.dtype.or(dtype);
    input.layout = input.layout.or(layout);
    input.color = input.color.or(color);
    input.picture(None).filter(|picture| picture.size.width > 0 && picture.size.height > 0).ok_or_else(|| {
        "the size of its pictures is open: set input.width and input.height, or the class's attribute input = \
         omma.Input(width, height)"
            .to_owned()
    })
}
