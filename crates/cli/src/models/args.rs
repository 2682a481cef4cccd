//! The command line of `omma models`.

use std::path::PathBuf;

use clap::Subcommand;
use clap::builder::RangedU64ValueParser;

use crate::args::within;

#[derive(clap::Args)]
pub struct ModelsArgs {
    #[command(subcommand)]
    pub command: ModelsCommand,
}

#[derive(Subcommand)]
pub enum ModelsCommand {
    /// Say what a model file takes and gives, how its outputs would be read, and how to configure it
    Inspect(InspectArgs),
    /// Run a model file on each runtime and provider, with several threads and batch sizes, and recommend settings
    Bench(BenchArgs),
    /// Say which runtimes and providers are on this machine, and how to get those that are not
    Doctor(DoctorArgs),
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  omma models inspect yolov8n.onnx                inputs, outputs, and a configuration to paste
  omma models inspect yolov8n.onnx --json | jq .inputs
  omma models inspect models/faces                the highest of its numbered versions")]
pub struct InspectArgs {
    /// The ONNX file, or a folder of numbered versions
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  omma models bench yolov8n.onnx                  every runtime and provider that is here
  omma models bench yolov8n.onnx --batch 1,8,32 --seconds 3
  omma models bench yolov8n.onnx --json | jq .best

The model alone is measured, on as many instances as fill the cores: no decoding, no cameras. `omma bench` measures a \
whole configuration.")]
pub struct BenchArgs {
    /// The ONNX file, or a folder of numbered versions
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Batch sizes, at most 8 of them [default: 1,4,16, on a GPU 1,16,64]
    #[arg(long, value_name = "N,N", value_delimiter = ',', num_args = 1..=8,
          value_parser = RangedU64ValueParser::<u64>::new().range(1..=1024))]
    pub batch: Vec<u64>,
    /// How long each combination is measured
    #[arg(long, value_name = "S", default_value = "1", value_parser = seconds)]
    pub seconds: f64,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  omma models doctor
  omma models doctor --json | jq '.runtimes[] | select(.present)'

Exit code 1 if there is no runtime at all.")]
pub struct DoctorArgs {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    within(text, 0.05, 60.0)
}
