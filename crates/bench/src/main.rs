//! `omma-bench NAME [--json] [--quick] [--report]`: workloads that measure omma, each against a yardstick in the same run.

mod callers;
mod figures;
mod gpu;
mod load;
mod machine;
mod perf;
mod redis;
mod rig;
mod triton;
mod usage;
mod workloads;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures omma and prints medians with their range.
#[derive(Parser)]
#[command(
    version,
    after_help = "Examples:\n  omma-bench engine\n  omma-bench model --quick --json\n  omma-bench soak --minutes 10 --report\n  omma-bench redis --quick\n  omma-bench redis-soak --soak 24 --report"
)]
struct Arguments {
    /// The workload.
    #[arg(value_enum)]
    name: workloads::Name,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
    /// Shorter runs, within 40 seconds in all: for a look, not for a report.
    #[arg(long)]
    quick: bool,
    /// Save the report under docs/reports.
    #[arg(long)]
    report: bool,
    /// How long a soak lasts: 10 minutes unless this says otherwise, `redis-soak` 30.
    #[arg(long)]
    minutes: Option<f64>,
    /// The same in hours, as in `redis-soak --soak 24`.
    #[arg(long, value_name = "HOURS", conflicts_with = "minutes")]
    soak: Option<f64>,
    /// The ONNX model of the workloads that run one (see models/yolov8n_random.py).
    #[arg(long, default_value = "models/yolov8n_random.onnx")]
    model: std::path::PathBuf,
    /// The Python of workloads that run models in Python.
    #[arg(long, default_value = "python3")]
    python: std::path::PathBuf,
    /// A Triton that runs models/torch_detector/triton, for the workload gpu: grpc://127.0.0.1:8001.
    #[arg(long)]
    triton: Option<String>,
}

fn main() -> std::process::ExitCode {
    let words: Vec<String> = std::env::args().collect();
    if let [_, role, name, told] = words.as_slice()
        && role == redis::role::ROLE
    {
        return match redis::play(name, told) {
            Ok(()) => std::process::ExitCode::SUCCESS,
            Err(message) => {
                // Read by the bench, which waits for `ready` or for what was done.
                print(&message);
                std::process::ExitCode::FAILURE
            }
        };
    }
    let Arguments { name, json, quick, report: saves, minutes, soak, model, python, triton } = Arguments::parse();
    let minutes = minutes.or(soak.map(|hours| hours * 60.0));
    let options = workloads::Options { quick, minutes, model, python, triton };
    let figures = match workloads::run(name, &options) {
        Ok(figures) => figures,
        Err(message) => {
            say(&format!("omma-bench: {message}"));
            return std::process::ExitCode::FAILURE;
        }
    };
    let report = figures::Report::new(name.as_str(), figures);
    print(&if json { report.to_json() } else { report.to_table() });
    if saves {
        match report.save() {
            Ok(path) => say(&format!("saved {}", path.display())),
            Err(error) => {
                say(&format!("omma-bench: the report cannot be saved: {error}"));
                return std::process::ExitCode::FAILURE;
            }
        }
    }
    std::process::ExitCode::SUCCESS
}

#[expect(clippy::print_stdout, reason = "the report is this program's output")]
fn print(text: &str) {
    println!("{text}");
}

#[expect(clippy::print_stderr, reason = "progress and errors are for the person who waits")]
fn say(text: &str) {
    eprintln!("{text}");
}
