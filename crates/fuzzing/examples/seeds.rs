//! Writes each target's seeds into a folder of its name: where `scripts/fuzz.sh` begins.

use std::io;
use std::path::PathBuf;

use omma_fuzzing::TARGETS;

fn main() -> io::Result<()> {
    let usage = || io::Error::new(io::ErrorKind::InvalidInput, "expected one argument: the folder to write to");
    let corpus: PathBuf = std::env::args_os().nth(1).ok_or_else(usage)?.into();
    for target in &TARGETS {
        let folder = corpus.join(target.name);
        std::fs::create_dir_all(&folder)?;
        for (number, seed) in (target.seeds)().iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{number}")), seed)?;
        }
    }
    Ok(())
}
