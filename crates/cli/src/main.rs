//! The binary `omma`: reads the command line, runs one command, ends with a code that scripts may trust.
//!
//! Everything that the process shows goes through `say` and `screen`; everything that it opens, through `assemble`.

mod args;
mod assemble;
mod bench;
mod cast;
mod demo;
mod descriptors;
mod exit;
mod figures;
mod human;
mod models;
#[cfg(feature = "redis")]
mod publish;
mod reload;
mod run;
mod say;
mod screen;
mod signals;
mod supervise;
mod usage;
mod validate;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use args::{Args, Command};
use exit::{Exit, Failure};

// Pictures and batches of results are allocated on one thread and freed on another all the time, which the system's
// allocator answers by giving pages back and faulting them in again.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Wrong usage ends here, with clap's message and its code, which is `Exit::Usage`'s.
    let args = Args::parse();
    match command(args.command) {
        Ok(exit) => exit.into(),
        Err(Failure { exit, message }) => {
            say::note(&format!("error: {message}"));
            exit.into()
        }
    }
}

fn command(command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Demo(args) => demo::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Validate(args) => Ok(validate::run(&args)),
        Command::Bench(args) => bench::run(&args),
        #[cfg(feature = "redis")]
        Command::Publish(args) => publish::run(&args),
        Command::Models(args) => models::run(&args),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Args::command(), "omma", &mut std::io::stdout());
            Ok(Exit::Done)
        }
    }
}
