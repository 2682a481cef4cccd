//! The command line, as clap reads it.

use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;
use clap::{Parser, Subcommand};
use clap_complete::Shell;
use omma_adapters::infer::Runtime;

/// Streaming inference for video: many cameras in, results of vision models out, in order for each camera, and nothing
/// lost in silence.
#[derive(Parser)]
#[command(name = "omma", version, after_help = AFTER, arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

const AFTER: &str = "\
Begin with `omma demo`, which needs no file; then write a configuration, check it with `omma validate -c FILE` and run \
it with `omma run -c FILE`.

Exit codes: 0 done; 1 it ran and failed; 2 wrong usage or configuration; 3 stopped in order, but frames were late; \
130 a second signal ended it at once.";

#[derive(Subcommand)]
pub enum Command {
    /// Show what omma does, with everything embedded: cameras, a detector, results
    Demo(DemoArgs),
    /// Run a pipeline as configured, until its sources end or a signal comes
    Run(RunArgs),
    /// Check a configuration and report all its problems at once
    Validate(ValidateArgs),
    /// Find out how many cameras a configuration holds on this machine, and what limits it
    Bench(BenchArgs),
    /// Simulate cameras that send frames into Redis
    #[cfg(feature = "redis")]
    Publish(Box<crate::publish::args::PublishArgs>),
    /// Look into a model file, measure it on this machine, or see what could run it
    Models(crate::models::args::ModelsArgs),
    /// Print completions for a shell
    #[command(after_help = "Example:\n  omma completions bash > ~/.local/share/bash-completion/completions/omma")]
    Completions { shell: Shell },
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  omma demo                               as many cameras as this machine keeps up with, for 20 seconds
  omma demo --cameras 64 --seconds 60     64 cameras, for a minute
  omma demo --json | jq .score.map50      one number of its summary

Exit code 1 if the detector's measured mAP@0.5 is below 0.9 (judged from 16 cameras on), a frame is not accounted for, \
or a camera's results came out of order.")]
pub struct DemoArgs {
    /// How many cameras; `auto`: as many as this machine keeps up with
    #[arg(long, value_name = "N", default_value = "auto", value_parser = cameras)]
    pub cameras: Cameras,
    /// How long
    #[arg(long, value_name = "S", default_value = "20", value_parser = seconds)]
    pub seconds: f64,
    /// Frames per second of each camera
    #[arg(long, default_value = "10", value_parser = rate)]
    pub fps: f64,
    /// The same seed draws the same scenes; the detector was trained on other seeds, from 1000000
    #[arg(long, default_value = "1", value_parser = RangedU64ValueParser::<u64>::new().range(..omma_scenes::TRAINING_SEEDS))]
    pub seed: u64,
    /// Where the results and the contact sheet go
    #[arg(long, value_name = "DIR", default_value = "omma-demo")]
    pub out: PathBuf,
    /// What runs the detector: auto, openvino, onnxruntime or rten
    #[arg(long, default_value = "auto", value_parser = runtime)]
    pub runtime: RuntimeChoice,
    /// Print the summary as one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  omma run -c omma.toml                   until the sources end or Ctrl-C; a second Ctrl-C ends it at once
  omma run -c omma.toml --json 2>log      progress and messages as JSON lines on the standard error

Exit code 3 if frames were not done within the drain's deadline.")]
pub struct RunArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Say everything as JSON lines, on the standard error: the standard output belongs to the sinks
    #[arg(long)]
    pub json: bool,
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  omma validate -c omma.toml              each problem with its line, what was found, and what would be right
  omma validate -c omma.toml --effective  the whole configuration, all defaults filled in

Exit code 2 if there is any problem.")]
pub struct ValidateArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print the whole configuration as it takes effect, all defaults filled in
    #[arg(long)]
    pub effective: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  omma bench -c omma.toml                       cameras within 100 ms, and a page omma-bench.html
  omma bench -c omma.toml --latency-ms 40       a tighter budget
  omma bench -c omma.toml --quick --json        in half a minute, for a script

Some pictures of each configured source are taken into memory and replayed at rising rates through the configured \
models; results go nowhere. A rate is held if the 99th percentile of the latency is within the budget and at most one \
frame in a thousand is lost.")]
pub struct BenchArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// The budget for the 99th percentile of the latency, from arrival to publication
    #[arg(long, value_name = "MS", default_value = "100", value_parser = milliseconds)]
    pub latency_ms: f64,
    /// Frames per second of each camera
    #[arg(long, default_value = "10", value_parser = rate)]
    pub fps: f64,
    /// Shorter measurements: rougher, but within half a minute
    #[arg(long)]
    pub quick: bool,
    /// The page to write
    #[arg(long, value_name = "FILE", default_value = "omma-bench.html")]
    pub out: PathBuf,
    /// Print the figures as one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(clap::Args)]
pub struct ConfigArgs {
    /// The configuration, in TOML
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    pub file: PathBuf,
}

/// A number of cameras, or `auto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cameras(pub Option<usize>);

/// A runtime, or `auto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuntimeChoice(pub Option<Runtime>);

const CAMERAS_MAX: usize = 10_000;

fn cameras(text: &str) -> Result<Cameras, String> {
    if text == "auto" {
        return Ok(Cameras(None));
    }
    match text.parse() {
        Ok(count @ 1..=CAMERAS_MAX) => Ok(Cameras(Some(count))),
        _ => Err(format!("expected auto, or 1 to {CAMERAS_MAX}")),
    }
}

pub fn within(text: &str, min: f64, max: f64) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if (min..=max).contains(&value) => Ok(value),
        _ => Err(format!("expected a number from {min} to {max}")),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    within(text, 1.0, 86_400.0)
}

fn rate(text: &str) -> Result<f64, String> {
    within(text, 0.1, 1000.0)
}

fn milliseconds(text: &str) -> Result<f64, String> {
    within(text, 1.0, 60_000.0)
}

fn runtime(text: &str) -> Result<RuntimeChoice, String> {
    if text == "auto" {
        return Ok(RuntimeChoice(None));
    }
    let known = Runtime::ALL.into_iter().find(|runtime| runtime.name() == text);
    known.map(|runtime| RuntimeChoice(Some(runtime))).ok_or_else(|| {
        let names: Vec<_> = Runtime::ALL.iter().map(|runtime| runtime.name()).collect();
        format!("expected auto, {}", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_configuration_is_named_in_either_way() {
        for command in ["run", "validate", "bench"] {
            for flag in ["-c", "--config"] {
                assert!(Args::try_parse_from(["omma", command, flag, "x.toml"]).is_ok(), "{command} {flag}");
            }
        }
    }

    #[test]
    fn the_reference_page_has_every_command_and_option() {
        let page = include_str!("../../../docs/ref/cli.md");
        for command in Args::command().get_subcommands() {
            assert!(page.contains(&format!("`omma {}", command.get_name())), "{}", command.get_name());
            let section = page.split(&format!("## omma {}\n", command.get_name())).nth(1);
            let section = section.and_then(|rest| rest.split("\n## ").next()).unwrap_or_default();
            let nested = command.get_subcommands().flat_map(clap::Command::get_arguments);
            let options = command.get_arguments().chain(nested).filter_map(clap::Arg::get_long);
            for option in options.filter(|option| *option != "help") {
                assert!(section.contains(&format!("--{option}")), "{} --{option}", command.get_name());
            }
        }
    }

    #[test]
    fn values_are_checked_where_they_are_read() {
        for (args, expected) in [
            (&["demo", "--cameras", "0"][..], "expected auto, or 1 to 10000"),
            (&["demo", "--seconds", "0"], "expected a number from 1 to 86400"),
            (&["demo", "--fps", "nan"], "expected a number from 0.1 to 1000"),
            (&["demo", "--runtime", "tensorrt"], "expected auto, openvino, onnxruntime, rten"),
            (&["demo", "--seed", "1000000"], "0..1000000"),
            (&["bench", "-c", "x", "--latency-ms", "0"], "expected a number from 1 to 60000"),
            (&["models", "bench", "x", "--batch", "0"], "0 is not in 1..=1024"),
            (&["models", "bench", "x", "--seconds", "0"], "expected a number from 0.05 to 60"),
            (&["run"], "--config <FILE>"),
            #[cfg(feature = "redis")]
            (&["publish", "--cameras", "10001"], "10001 is not in 1..=10000"),
            #[cfg(feature = "redis")]
            (&["publish", "--id", "cam"], "names every camera the same"),
            #[cfg(feature = "redis")]
            (&["publish", "--stream", "frames"], "as in omma:frames:{camera}"),
            #[cfg(feature = "redis")]
            (&["publish", "--size", "640"], "as in 640x360"),
            #[cfg(feature = "redis")]
            (&["publish", "--format", "yuy2"], "expected jpeg, rgb, bgr, gray, nv12 or i420"),
            #[cfg(feature = "redis")]
            (&["publish", "--ring", "x"], "--handles"),
            #[cfg(feature = "redis")]
            (&["publish", "--seconds", "1", "--frames", "1"], "cannot be used with"),
        ] {
            let error = Args::try_parse_from([&["omma"], args].concat()).err().expect("refused");
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(expected), "{args:?}: {error}");
        }
    }
}
