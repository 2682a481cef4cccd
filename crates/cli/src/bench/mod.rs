use crate::args::BenchArgs;
use crate::exit::{Exit, Failure};
pub fn run(_: &BenchArgs) -> Result<Exit, Failure> { Err(Failure::run("soon")) }
