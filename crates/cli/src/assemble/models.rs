//! Models: file to runtime, input to pictures, outputs to a decoder; each choice with its reason.

use std::path::Path;

use omma_adapters::infer::{self, Choice, Cost, OnnxModel, OnnxOptions};
use omma_adapters::picture::{self, PictureLimits};
use omma_adapters::sink::jsonl::ModelLabels;
use omma_config::{BackendConfig, Config, ModelConfig, OutputConfig, Provider, Runtime, TritonConfig, Waiting};
use omma_engine::infer::backend::{LoadedModel, ModelInfo, TensorInfo};
use omma_engine::picture::PictureSpec;
use omma_engine::pipeline::ModelParts;
use omma_engine::plan::ModelPlan;
use omma_frame::Size;

use super::outputs;
use crate::exit::Failure;

/// All models of a configuration.
#[derive(Default)]
pub struct Opened {
    pub plans: Vec<ModelPlan>,
    pub parts: Vec<ModelParts>,
    pub labels: Vec<ModelLabels>,
    pub notes: Vec<String>,
}

/// One model, opened.
pub struct OpenedModel {
    pub parts: ModelParts,
    pub picture: PictureSpec,
    pub choice: Option<Choice>,
    /// Copies of the model that its servers run, where they say so.
    pub instances: Option<usize>,
    pub notes: Vec<String>,
}

impl OpenedModel {
    /// What the configuration says, completed by what the model says.
    pub fn plan(&self, model: &ModelConfig) -> ModelPlan {
        let plan = model.plan(self.picture.clone());
        ModelPlan { instances: plan.instances.or(self.instances), ..plan }
    }
}

pub(super) fn open(config: &Config, cores: usize) -> Result<Opened, Failure> {
    let mut opened = Opened::default();
    for model in &config.models {
        let failed = |message: String| Failure::usage(format!("model {}: {message}", model.name));
        let found = open_version(model, config.engine.payload_bytes_max, None, FIRST).map_err(failed)?;
        let plan = found.plan(model);
        let OpenedModel { parts, notes, .. } = found;
        let blocking = matches!(parts.loaded.opener, omma_engine::infer::backend::Opener::Blocking(_));
        let chosen =
            omma_engine::infer::mode::choose(&plan, parts.loaded.device, parts.loaded.info.batch, blocking, cores);
        opened.notes.extend(notes.into_iter().map(|note| format!("model {}: {note}", model.name)));
        opened.notes.push(format!("model {}: {}", model.name, chosen.why));
        opened
            .notes
            .extend(unused_sizes(model, chosen.batch.size_max).map(|note| format!("model {}: {note}", model.name)));
        opened.plans.push(plan);
        opened.parts.push(parts);
        opened.labels.push(ModelLabels { name: model.name.clone(), labels: model.output.labels.clone() });
    }
    Ok(opened)
}

/// What `batch_sizes` has beyond the largest batch there is.
fn unused_sizes(model: &ModelConfig, batch_max: usize) -> Option<String> {
    let BackendConfig::Onnx { batch_sizes, .. } = &model.backend else { return None };
    let unused: Vec<String> = batch_sizes.iter().filter(|size| **size > batch_max).map(usize::to_string).collect();
    (!unused.is_empty()).then(|| {
        format!(
            "batch_sizes has {}, which no batch is filled up to: here they are of {batch_max} at most; for larger ones set \
             mode = \"sync\"",
            unused.join(", ")
        )
    })
}

/// The number of a model's first version, where versions have no numbers of their own.
pub(super) const FIRST: u32 = 1;

/// Opens a version of a model: the one `wanted`, the configured one, or the highest there is. `number` is what it is called
/// if it has no number of its own.
///
/// # Errors
/// There is no such version, or what is wrong with it.
pub(super) fn open_version(
    model: &ModelConfig,
    bytes_max: usize,
    wanted: Option<u32>,
    number: u32,
) -> Result<OpenedModel, String> {
    let mut model = model.clone();
    let found = match &mut model.backend {
        BackendConfig::Onnx { path, version, .. } => {
            let located = infer::locate(path, wanted.or(*version))?;
            *path = located.file;
            located.number
        }
        BackendConfig::Triton(triton) => {
            triton.version = wanted.or(triton.version);
            triton.version
        }
        _ if wanted.is_none() => None,
        _ => return Err(format!("it has no numbered versions, found version {}", wanted.unwrap_or_default())),
    };
    let mut opened = open_one(&model, bytes_max)?;
    opened.parts.version = found.unwrap_or(number);
    Ok(opened)
}

fn open_one(model: &ModelConfig, bytes_max: usize) -> Result<OpenedModel, String> {
    let limits = PictureLimits { bytes_max, expect_size: model.input.expect, ..PictureLimits::default() };
    match &model.backend {
        BackendConfig::Onnx {
            path,
            runtime,
            provider,
            library,
            threads_per_instance,
            cores,
            batch_sizes,
            version: _,
            watch: _,
        } => {
            let options = OnnxOptions {
                runtime: match runtime {
                    Runtime::Auto => None,
                    Runtime::OnnxRuntime => Some(infer::Runtime::OnnxRuntime),
                    Runtime::OpenVino => Some(infer::Runtime::OpenVino),
                    Runtime::Rten => Some(infer::Runtime::Rten),
                },
                threads_per_instance: *threads_per_instance,
                library: library.clone(),
                provider: match provider {
                    Provider::Cpu => infer::Provider::Cpu,
                    Provider::Cuda => infer::Provider::Cuda,
                    Provider::TensorRt => infer::Provider::TensorRt,
                    Provider::OpenVino => infer::Provider::OpenVino,
                },
                cores: cores.clone(),
                batch_sizes: batch_sizes.clone(),
                open_size: Option::zip(model.input.width, model.input.height)
                    .map(|(width, height)| Size { width, height }),
            };
            let picture = |info: &ModelInfo| {
                let open_size = options.open_size;
                model.input.picture(infer::guess_spec(info, open_size).as_ref()).ok_or_else(|| {
                    let input = info.inputs.first().map(shape).unwrap_or_default();
                    format!(
                        "the model's input {input} leaves the pictures' size open: set input.width and input.height"
                    )
                })
            };
            onnx(path, &options, picture, &model.output, limits)
        }
        BackendConfig::Python(python) => super::python::open(model, python, limits),
        BackendConfig::Triton(triton) => served(model, triton, limits),
        BackendConfig::Null => stand_in(model, limits, infer::null),
        BackendConfig::Identity => stand_in(model, limits, infer::identity),
        BackendConfig::Simulated { base, per_item, waiting } => {
            let waiting = match waiting {
                Waiting::Sleep => infer::Waiting::Sleep,
                Waiting::Spin => infer::Waiting::Spin,
                Waiting::Request => infer::Waiting::Request,
            };
            let cost = Cost { base: *base, per_item: *per_item, waiting };
            stand_in(model, limits, |picture| infer::simulated(picture, cost, model.batch.size_max))
        }
    }
}

#[cfg(feature = "triton")]
fn served(model: &ModelConfig, triton: &TritonConfig, limits: PictureLimits) -> Result<OpenedModel, String> {
    super::triton::open(model, triton, limits)
}

#[cfg(not(feature = "triton"))]
fn served(_: &ModelConfig, _: &TritonConfig, _: PictureLimits) -> Result<OpenedModel, String> {
    Err("this build asks no servers for models, expected one with the feature `triton`".to_owned())
}

/// A model file, read in the usual way of what `output` says, with the pictures that it asks for itself.
///
/// # Errors
/// What is wrong with the file, or why no runtime runs it.
pub fn embedded(path: &Path, options: &OnnxOptions, output: &OutputConfig) -> Result<OpenedModel, String> {
    let picture = |info: &ModelInfo| {
        infer::guess_spec(info, None).ok_or_else(|| "the model does not say how it wants its pictures".to_owned())
    };
    onnx(path, options, picture, output, PictureLimits::default())
}

/// While one instance copies its pictures and reads its outputs, the other one computes. More gave more in
/// docs/design/gpu.md, and each takes the GPU's memory once more: for people to say.
const GPU_INSTANCES: usize = 2;

fn onnx(
    path: &Path,
    options: &OnnxOptions,
    picture: impl Fn(&ModelInfo) -> Result<PictureSpec, String>,
    output: &OutputConfig,
    limits: PictureLimits,
) -> Result<OpenedModel, String> {
    let OnnxModel { model, choice } = infer::open(path, options).map_err(|error| error.to_string())?;
    let picture = picture(&model.info)?;
    infer::check(&model.info, &picture)?;
    let mut notes = vec![choice.why.clone()];
    notes.extend(choice.better.clone());
    let mut opened = finish(model, picture, output, limits)?;
    opened.choice = Some(choice);
    opened.instances = options.provider.is_nvidia().then_some(GPU_INSTANCES);
    notes.append(&mut opened.notes);
    Ok(OpenedModel { notes, ..opened })
}

fn stand_in(
    model: &ModelConfig,
    limits: PictureLimits,
    open: impl Fn(&PictureSpec) -> LoadedModel,
) -> Result<OpenedModel, String> {
    let picture = model.input.picture(None).ok_or("set input.width and input.height")?;
    let loaded = open(&picture);
    let runtime = loaded.info.runtime.clone();
    let mut opened = finish(loaded, picture, &model.output, limits)?;
    opened.notes.insert(0, format!("a stand-in ({runtime}): its results say nothing"));
    Ok(opened)
}

pub(super) fn finish(
    loaded: LoadedModel,
    picture: PictureSpec,
    output: &OutputConfig,
    limits: PictureLimits,
) -> Result<OpenedModel, String> {
    let (plan, why) = outputs::plan(output, &loaded.info.outputs, picture.size)?;
    let pictures = picture::factory(picture.clone(), limits).map_err(|error| error.to_string())?;
    let Size { width, height } = picture.size;
    let mut notes =
        vec![format!("pictures as {} {width}x{height}, decoded by {}", picture.dtype.name(), picture::decoder_name())];
    notes.extend(why.map(|why| format!("outputs read as guessed: {why}")));
    let parts = ModelParts { version: FIRST, outputs: plan.factory(picture.size), loaded, pictures };
    Ok(OpenedModel { parts, picture, choice: None, instances: None, notes })
}

fn shape(tensor: &TensorInfo) -> String {
    let dims: Vec<_> =
        tensor.shape.iter().map(|dim| dim.map_or_else(|| "any".to_owned(), |dim| dim.to_string())).collect();
    format!("`{}` [{}]", tensor.name, dims.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use omma_engine::infer::backend::{BatchLimit, Device};
    use omma_engine::infer::mode::choose;

    #[test]
    fn sizes_that_the_mode_has_no_use_for_are_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("omma.toml");
        std::fs::write(folder.path().join("m.onnx"), b"").expect("written");
        for (mode, device, expected) in [
            (
                "auto",
                Device::Cpu,
                Some("batch_sizes has 8, 16, which no batch is filled up to: here they are of 1 at most; "),
            ),
            ("sync", Device::Cpu, None),
            ("auto", Device::Accelerator, None),
        ] {
            let text = format!(
                "[[models]]\nname = \"m\"\npath = \"m.onnx\"\nmode = \"{mode}\"\nbatch_sizes = [8, 16]\n\
                 [[sources]]\ntype = \"synthetic\"\ncameras = 1\n[[sinks]]\ntype = \"null\"\nname = \"k\"\n"
            );
            std::fs::write(&file, &text).expect("written");
            let config = omma_config::load(&file).unwrap_or_else(|problems| panic!("{text}\n{problems}"));
            let plan = config.models[0].plan(omma_testkit::doubles_picture::spec());
            let batch = choose(&plan, device, BatchLimit::UpTo(usize::MAX), true, 4).batch;
            let said = unused_sizes(&config.models[0], batch.size_max);
            match expected {
                None => assert_eq!(said, None, "{mode}"),
                Some(start) => assert!(said.as_ref().is_some_and(|said| said.starts_with(start)), "{said:?}"),
            }
        }
    }
}
