//! Compiles `proto/open_inference.proto` into the build's output folder, in pure Rust: no protoc is needed.
#![allow(clippy::print_stdout, reason = "it is how a build script speaks to cargo")]

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["proto/open_inference.proto"], ["proto"])?;
    // `Bytes` for every bytes field: a tensor of a received message is a part of the message, not a copy of it.
    tonic_prost_build::configure().bytes(".").build_transport(false).compile_fds(files)?;
    Ok(())
}
