//! The versions of a model on disk: a file that changes at its path, or a folder of numbered versions
//! (`PATH/1/model.onnx`, `PATH/2/model.onnx`, ...).
//!
//! Only looks at names and metadata, on the control plane. A file that is still being written is told by its size and
//! time of change: it is complete once two looks find both the same. That is a guess, which is why what comes of it must
//! also open and warm up before it replaces anything; whoever can, writes beside and renames.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The file in a version's folder.
const FILE: &str = "model.onnx";
/// Entries of a folder that are looked at; a folder of versions has some tens.
const ENTRIES_MAX: usize = 10_000;

/// A version's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    pub file: PathBuf,
    /// `None`: the path is a file itself, whose versions have no numbers of their own.
    pub number: Option<u32>,
}

/// The numbers of the versions in a folder, rising; none of a file.
#[must_use]
pub fn versions(path: &Path) -> Vec<u32> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten().take(ENTRIES_MAX);
    let mut numbers: Vec<u32> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            // "007" and "7" would be one version in two folders.
            let number = name.parse().ok().filter(|number: &u32| *number > 0 && number.to_string() == name)?;
            entry.path().join(FILE).is_file().then_some(number)
        })
        .collect();
    numbers.sort_unstable();
    numbers
}

/// Where the version `wanted` is, or the highest.
///
/// # Errors
/// There is no such version; says which there are.
pub fn locate(path: &Path, wanted: Option<u32>) -> Result<Located, String> {
    if !path.is_dir() {
        return match wanted {
            None => Ok(Located { file: path.into(), number: None }),
            Some(number) => Err(format!(
                "{} is a file, it has no version {number}: expected a folder of numbered versions, as {}/{number}/{FILE}",
                path.display(),
                path.with_extension("").display()
            )),
        };
    }
    let there = versions(path);
    let Some(number) = wanted.or(there.last().copied()) else {
        return Err(format!("{} holds no version: expected numbered folders, as 1/{FILE}", path.display()));
    };
    if !there.contains(&number) {
        let listed: Vec<String> = there.iter().map(ToString::to_string).collect();
        let listed = if listed.is_empty() { "none".to_owned() } else { listed.join(", ") };
        return Err(format!("{} has no version {number} with a file {FILE}; there is: {listed}", path.display()));
    }
    Ok(Located { file: path.join(number.to_string()).join(FILE), number: Some(number) })
}

/// What tells one state of a version's file from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    pub number: Option<u32>,
    bytes: u64,
    modified: Option<SystemTime>,
}

impl Stamp {
    /// Of the version that would be opened now; `None`: there is none.
    #[must_use]
    pub fn of(path: &Path, wanted: Option<u32>) -> Option<Self> {
        let Located { file, number } = locate(path, wanted).ok()?;
        let metadata = fs::metadata(file).ok()?;
        Some(Self { number, bytes: metadata.len(), modified: metadata.modified().ok() })
    }
}

/// Watches one model's files: says once of each new state that it is complete.
#[derive(Debug)]
pub struct Lookout {
    /// What is in use, or was tried.
    known: Option<Stamp>,
    seen: Option<Stamp>,
}

impl Lookout {
    /// `known`: the state that is in use already.
    #[must_use]
    pub fn new(known: Option<Stamp>) -> Self {
        Self { known, seen: None }
    }

    /// `now` is what there is at this look. `true`: it is new, it was the same at the look before, and it has not been
    /// told before, whatever came of it.
    pub fn look(&mut self, now: Option<Stamp>) -> bool {
        let still = now.is_some() && now == self.seen;
        self.seen = now;
        if still && self.seen != self.known {
            self.known.clone_from(&self.seen);
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(root: &Path, file: &str) {
        let path = root.join(file);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, file).expect("a file");
    }

    #[test]
    fn the_highest_complete_version_is_taken_unless_another_is_named() {
        let root = tempfile::tempdir().expect("a folder");
        let root = root.path();
        for file in ["9/model.onnx", "10/model.onnx", "11/other.onnx", "x/model.onnx", "007/model.onnx", "0/model.onnx"]
        {
            touch(root, file);
        }
        assert_eq!(versions(root), [9, 10]);
        for (wanted, expected) in [(None, 10), (Some(9), 9), (Some(10), 10)] {
            let located = locate(root, wanted).expect("there");
            assert_eq!((located.number, located.file.is_file()), (Some(expected), true), "{wanted:?}");
        }
        let error = locate(root, Some(11)).expect_err("no file in it");
        assert!(error.contains("has no version 11 with a file model.onnx; there is: 9, 10"), "{error}");
    }

    #[test]
    fn a_file_has_no_numbers_and_an_empty_folder_no_version() {
        let root = tempfile::tempdir().expect("a folder");
        touch(root.path(), "one.onnx");
        let file = root.path().join("one.onnx");
        assert_eq!(locate(&file, None), Ok(Located { file: file.clone(), number: None }));
        assert!(locate(&file, Some(2)).expect_err("a file").contains("is a file, it has no version 2"));
        fs::create_dir(root.path().join("empty")).expect("a folder");
        assert!(locate(&root.path().join("empty"), None).expect_err("empty").contains("holds no version"));
    }

    #[test]
    fn a_new_state_is_told_once_and_only_when_it_has_come_to_rest() {
        let stamp = |bytes| Some(Stamp { number: None, bytes, modified: None });
        let mut lookout = Lookout::new(stamp(1));
        // (what is there) -> (whether it is told): unchanged, growing, at rest, told, gone, as before, another.
        let table = [
            (stamp(1), false),
            (stamp(1), false),
            (stamp(2), false),
            (stamp(3), false),
            (stamp(3), true),
            (stamp(3), false),
            (None, false),
            (None, false),
            (stamp(3), false),
            (stamp(3), false),
            (stamp(4), false),
            (stamp(4), true),
        ];
        for (step, (now, expected)) in table.into_iter().enumerate() {
            assert_eq!(lookout.look(now), expected, "step {step}");
        }
    }
}
