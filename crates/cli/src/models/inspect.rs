//! `omma models inspect`: inputs, outputs, how they would be read, and a configuration to paste.

use std::path::Path;

use omma_adapters::infer::{self, OnnxModel, OnnxOptions};
use omma_config::{Decoder, OutputConfig};
use omma_engine::infer::backend::{BatchLimit, TensorInfo};
use omma_engine::picture::PictureSpec;
use omma_engine::post::decode::{OutputPlan, guess};
use serde_json::json;

use super::args::InspectArgs;
use super::{pictures, tensor, tensor_json};
use crate::assemble::output_plan;
use crate::exit::{Exit, Failure};
use crate::say;

pub fn run(args: &InspectArgs) -> Result<Exit, Failure> {
    let located = infer::locate(&args.file, None).map_err(Failure::usage)?;
    let OnnxModel { model, choice } = infer::open(&located.file, &OnnxOptions::default()).map_err(Failure::usage)?;
    let info = &model.info;
    let (spec, open_size) = pictures(info)?;
    let guessed = guess(&info.outputs, spec.size, None);
    let (decoder, why) = match &guessed {
        Ok(guess) => (word(&guess.plan, &info.outputs, &spec), guess.why.clone()),
        Err(why) => (Some("tensors"), format!("as raw tensors, because {why}")),
    };
    let toml = configuration(&args.file, &spec, open_size, info.batch, decoder, &why);
    let (batch, exactly) = match info.batch {
        BatchLimit::Exactly(fixed) => (Some(fixed), true),
        BatchLimit::UpTo(usize::MAX) => (None, false),
        BatchLimit::UpTo(most) => (Some(most), false),
    };
    if args.json {
        say::json(&json!({
            "file": located.file,
            "version": located.number,
            "runtime": info.runtime,
            "runtime_why": choice.why,
            "inputs": info.inputs.iter().map(tensor_json).collect::<Vec<_>>(),
            "outputs": info.outputs.iter().map(tensor_json).collect::<Vec<_>>(),
            "batch_max": batch,
            "batch_fixed": exactly,
            "picture": { "width": spec.size.width, "height": spec.size.height, "open": open_size,
                         "dtype": spec.dtype.name() },
            "decoder": decoder.unwrap_or("auto"),
            "decoder_why": why,
            "configuration": toml,
        }));
        return Ok(Exit::Done);
    }
    let mut lines = vec![format!("{}", located.file.display())];
    lines.extend(info.inputs.iter().map(|input| format!("  takes  {}", tensor(input))));
    lines.extend(info.outputs.iter().map(|output| format!("  gives  {}", tensor(output))));
    lines.push(match (batch, exactly) {
        (None, _) => "  batch  any size".to_owned(),
        (Some(size), true) => format!("  batch  exactly {size}"),
        (Some(size), false) => format!("  batch  up to {size}"),
    });
    lines.push(format!("  runs   on {}", choice.why));
    lines.push(format!("  read   {why}"));
    lines.push(format!("\n{toml}"));
    say::out(lines.join("\n").trim_end());
    Ok(Exit::Done)
}

/// The decoder that, named and with nothing else said, reads the outputs as guessed; `None`: only `auto` does.
fn word(plan: &OutputPlan, outputs: &[TensorInfo], spec: &PictureSpec) -> Option<&'static str> {
    const NAMED: [(&str, Decoder); 5] = [
        ("yolov5", Decoder::YoloV5),
        ("yolov8", Decoder::YoloV8),
        ("yolo_end2end", Decoder::YoloEnd2End),
        ("classes", Decoder::Classes),
        ("embedding", Decoder::Embedding),
    ];
    let reads = |decoder| {
        let written = OutputConfig { decoder, ..OutputConfig::default() };
        output_plan(&written, outputs, spec.size).is_ok_and(|(other, _)| other == *plan)
    };
    NAMED.into_iter().find_map(|(word, decoder)| reads(decoder).then_some(word))
}

/// A `[[models]]` entry that opens this file.
fn configuration(
    file: &Path,
    spec: &PictureSpec,
    open_size: bool,
    batch: BatchLimit,
    decoder: Option<&str>,
    why: &str,
) -> String {
    let stem = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let mut name: String = stem.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).take(64).collect();
    if name.is_empty() {
        name = "model".to_owned();
    }
    // What JSON escapes, TOML reads alike.
    let text = |text: &str| serde_json::Value::from(text).to_string();
    let mut lines = vec![
        "[[models]]".to_owned(),
        format!("name = {}", text(&name)),
        format!("path = {}", text(&file.to_string_lossy())),
    ];
    if let BatchLimit::Exactly(fixed) = batch {
        lines.push(format!("batch_size = {fixed}"));
    }
    if open_size {
        lines.push("# The model takes pictures of any size.".to_owned());
        lines.push(format!("input = {{ width = {}, height = {} }}", spec.size.width, spec.size.height));
    }
    // A comment ends with its line.
    lines.push(format!("# {}", why.replace('\n', " ")));
    let decoder = decoder.unwrap_or("auto");
    lines.push(format!("output = {{ decoder = {} }}", text(decoder)));
    if !matches!(decoder, "embedding" | "tensors") {
        lines.push("# With names for the classes: output.labels = [\"person\", ...], or output.labels_file".to_owned());
    }
    lines.join("\n")
}
