//! The Python of the tests and benches: the one that `scripts/setup.sh test` has made, or any that has what is needed.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::skipped;

/// An interpreter that can import all of `modules`.
///
/// # Errors
/// There is none here; how to get it.
pub fn find(modules: &[&str]) -> Result<PathBuf, String> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    let made = cache.map(|cache| cache.join("omma/python/bin/python"));
    let named = std::env::var_os("OMMA_PYTHON").map(PathBuf::from);
    let found = [named, made, Some("python3".into())].into_iter().flatten().find(|candidate| has(candidate, modules));
    found.ok_or_else(|| format!("no Python with {} is here: `scripts/setup.sh test` makes one", modules.join(", ")))
}

/// As [`find`]. `None`: there is none, which has been said.
///
/// # Panics
/// There is none and `OMMA_REQUIRE_RUNTIMES=1`.
#[must_use]
pub fn interpreter(modules: &[&str]) -> Option<PathBuf> {
    match find(modules) {
        Ok(found) => Some(found),
        Err(what) => {
            skipped(&what);
            None
        }
    }
}

/// Whether an interpreter can import all of `modules`.
#[must_use]
pub fn has(interpreter: &Path, modules: &[&str]) -> bool {
    let output = Command::new(interpreter).args(["-c", &format!("import {}", modules.join(", "))]).output();
    output.is_ok_and(|output| output.status.success())
}
