//! What no compiler checks and every change must keep: the layering, what is absent, the size and the head of each
//! file, the licences. A rule that is broken says where, and why it is there.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The stages of the engine, in the order of a frame's way.
const STAGES: [&str; 6] = ["source", "shard", "batch", "infer", "post", "sink"];

/// All that the engine may build on: no network, no C library, no GPU, so that its tests are hermetic.
const ENGINE_DEPENDENCIES: [&str; 10] = [
    "omma-frame",
    "arc-swap",
    "bytes",
    "crossbeam-channel",
    "hdrhistogram",
    "parking_lot",
    "rayon",
    "serde",
    "thiserror",
    "tokio",
];

/// Crates whose output is the user's: programs.
const PROGRAMS: [&str; 2] = ["cli", "bench"];

/// Lines of one file without its tests; one idea needs no more.
const LINES_MAX: usize = 600;

/// Where the repository begins.
fn root() -> PathBuf {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    crates.and_then(Path::parent).expect("a crate of the workspace").to_owned()
}

/// One file of Rust.
struct File {
    /// From the repository's root.
    path: String,
    /// The crate's folder.
    krate: String,
    /// Without its module of tests; empty for files that are nothing but tests.
    code: String,
    /// Its module of tests, or all of it.
    tests: String,
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All files of Rust under `crates/`.
fn files() -> Vec<File> {
    let root = root();
    let mut folders = vec![root.join("crates")];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(file(&root, &path));
            }
        }
    }
    assert!(files.len() > 100, "only {} files found: is this the right place?", files.len());
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

fn file(root: &Path, path: &Path) -> File {
    let content = read(path);
    let relative = path.strip_prefix(root).expect("below the root");
    let parts: Vec<&str> = relative.iter().filter_map(|part| part.to_str()).collect();
    let only_tests = parts.iter().any(|part| matches!(*part, "tests" | "tests.rs"));
    let (code, tests) = match content.find("#[cfg(test)]\nmod tests {") {
        _ if only_tests => (String::new(), content),
        Some(at) => (content[..at].to_owned(), content[at..].to_owned()),
        None => (content, String::new()),
    };
    File { path: parts.join("/"), krate: parts[1].to_owned(), code, tests }
}

/// Lines of code, without comments, numbered from 1.
fn lines(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = code.lines().enumerate().map(|(at, line)| (at + 1, line));
    numbered.filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// Fails with all places at once.
fn hold(rule: &str, broken: Vec<String>) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

/// The modules of this crate that a line of code names: `crate::a` and each head of `crate::{a, b::c}`.
fn named_modules(code: &str) -> Vec<(usize, String)> {
    let plain: String = code.lines().map(|line| if line.trim_start().starts_with("//") { "" } else { line }).fold(
        String::new(),
        |mut all, line| {
            all.push_str(line);
            all.push('\n');
            all
        },
    );
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut named = Vec::new();
    for (at, matched) in plain.match_indices("crate::") {
        let line = plain[..at].matches('\n').count() + 1;
        let rest = &plain[at + matched.len()..];
        let Some(list) = rest.strip_prefix('{') else {
            named.push((line, word(rest)));
            continue;
        };
        let mut depth = 0_i32;
        for part in list.split_inclusive([',', '{', '}']) {
            if depth == 0 {
                named.push((line, word(part.trim_start())));
            }
            match part.chars().last() {
                Some('{') => depth += 1,
                Some('}') => depth -= 1,
                _ => {}
            }
            if depth < 0 {
                break;
            }
        }
    }
    // What is left of a nested list's end is no name.
    named.retain(|(_, module)| !module.is_empty());
    named
}

#[test]
fn no_stage_imports_another() {
    let mut broken = Vec::new();
    for file in files() {
        let Some(rest) = file.path.strip_prefix("crates/engine/src/") else { continue };
        let own = rest.split(['/', '.']).next().unwrap_or_default();
        if !STAGES.contains(&own) {
            continue;
        }
        for (line, module) in named_modules(&file.code) {
            if module == "pipeline" || (STAGES.contains(&module.as_str()) && module != own) {
                broken.push(format!("{}:{line}: {own} imports {module}", file.path));
            }
        }
        for (line, text) in lines(&file.code) {
            let other =
                STAGES.iter().filter(|stage| **stage != own).find(|stage| text.contains(&format!("super::{stage}::")));
            broken.extend(other.map(|other| format!("{}:{line}: {own} imports {other}", file.path)));
        }
    }
    hold("only the pipeline knows two stages, so that each can be read and tested alone", broken);
}

#[test]
fn names_in_lists_of_imports_are_seen() {
    let code = "use crate::plan::Plan;\n// crate::sink\nuse crate::{batch::{Desk, sink}, infer, post::nms};\ncrate::sink::Sink";
    let named: Vec<String> = named_modules(code).into_iter().map(|(line, module)| format!("{line} {module}")).collect();
    assert_eq!(named, ["1 plan", "3 batch", "3 infer", "3 post", "4 sink"]);
}

#[test]
fn the_engine_knows_no_network_no_c_library_and_no_gpu() {
    let manifest: Vec<String> =
        read(&root().join("crates/engine/Cargo.toml")).lines().map(|line| line.trim().to_owned()).collect();
    let mut section = "";
    let mut broken = Vec::new();
    for line in &manifest {
        if line.starts_with('[') {
            section = line;
        } else if matches!(section, "[dependencies]" | "[build-dependencies]")
            && !line.is_empty()
            && !line.starts_with('#')
        {
            let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
            if !ENGINE_DEPENDENCIES.contains(&name) {
                broken.push(name.to_owned());
            }
        } else if section.contains(".dependencies]") {
            broken.push(format!("{section}: dependencies of one platform"));
        }
    }
    hold("what touches the outside implements the engine's traits elsewhere (crates/adapters)", broken);
}

#[test]
fn libraries_do_not_print_and_nobody_unwraps() {
    let never = [".unwrap()", "dbg!(", "todo!(", "unimplemented!("];
    let prints = ["println!(", "print!("];
    let mut broken = Vec::new();
    for file in files().iter().filter(|file| file.path.contains("/src/")) {
        let library = !PROGRAMS.contains(&file.krate.as_str());
        for (line, text) in lines(&file.code) {
            let found = never.iter().chain(prints.iter().filter(|_| library)).find(|found| text.contains(**found));
            broken.extend(found.map(|found| format!("{}:{line}: {found}", file.path)));
        }
    }
    hold("a library that prints cannot be embedded, and what comes from outside must never panic", broken);
}

#[test]
fn files_hold_one_idea_and_say_which() {
    let mut broken = Vec::new();
    for file in files() {
        let lines = file.code.lines().count();
        if lines > LINES_MAX {
            broken.push(format!("{}: {lines} lines without its tests, expected at most {LINES_MAX}", file.path));
        }
        let first = if file.code.is_empty() { &file.tests } else { &file.code };
        if !first.starts_with("//!") {
            broken.push(format!("{}: begins without saying what it holds (`//!`)", file.path));
        }
    }
    hold("a file holds one idea, and its head says which", broken);
}

/// A pause between two looks at a condition is short; a longer one is a guess of how long something takes.
#[test]
fn no_test_sleeps_in_the_place_of_waiting() {
    let mut broken = Vec::new();
    for file in files() {
        for (line, text) in lines(&file.tests) {
            let sleeps = text.contains("thread::sleep") && file.path != "crates/testkit/tests/tidy.rs";
            let short = text.contains("from_micros(") || text.contains("from_millis(1)");
            if sleeps && !short {
                broken.push(format!("{}:{line}: {}", file.path, text.trim()));
            }
        }
    }
    hold("tests wait for a condition with a deadline (omma_testkit::engine_rig::until)", broken);
}

/// The licences that `deny.toml` allows: one list, held here too where cargo-deny is not installed.
fn allowed_licences() -> Vec<String> {
    let deny = read(&root().join("deny.toml"));
    let list = deny.split_once("allow = [").and_then(|(_, rest)| rest.split_once(']')).expect("a list of licences").0;
    let allowed: Vec<String> =
        list.split(',').map(|name| name.trim().trim_matches('"').to_owned()).filter(|name| !name.is_empty()).collect();
    assert!(allowed.iter().any(|name| name == "MIT"), "{allowed:?}");
    allowed
}

/// Whether an SPDX expression can be satisfied with what is allowed. `/` is the older way to write `OR`.
fn permissive(expression: &str, allowed: &[String]) -> Option<bool> {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    let value = any_of(&mut words, allowed)?;
    words.next().is_none().then_some(value)
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any_of(words: &mut Words, allowed: &[String]) -> Option<bool> {
    let mut value = all_of(words, allowed)?;
    while words.next_if_eq(&"OR").is_some() {
        value |= all_of(words, allowed)?;
    }
    Some(value)
}

fn all_of(words: &mut Words, allowed: &[String]) -> Option<bool> {
    let mut value = licence(words, allowed)?;
    while words.next_if_eq(&"AND").is_some() {
        value &= licence(words, allowed)?;
    }
    Some(value)
}

fn licence(words: &mut Words, allowed: &[String]) -> Option<bool> {
    if words.next_if_eq(&"(").is_some() {
        let value = any_of(words, allowed)?;
        return words.next_if_eq(&")").map(|_| value);
    }
    let mut name = words.next()?.to_owned();
    if words.next_if_eq(&"WITH").is_some() {
        name = format!("{name} WITH {}", words.next()?);
    }
    Some(allowed.contains(&name))
}

#[test]
fn licence_expressions_are_understood() {
    let allowed = ["MIT".to_owned(), "IJG".to_owned(), "Apache-2.0 WITH LLVM-exception".to_owned()];
    let table = [
        ("MIT", Some(true)),
        ("GPL-3.0", Some(false)),
        ("GPL-3.0 OR MIT", Some(true)),
        ("GPL-3.0/MIT", Some(true)),
        ("MIT AND GPL-3.0", Some(false)),
        ("MIT AND GPL-3.0 OR IJG", Some(true)),
        ("MIT AND (GPL-3.0 OR IJG)", Some(true)),
        ("GPL-3.0 AND (MIT OR IJG)", Some(false)),
        ("Apache-2.0 WITH LLVM-exception", Some(true)),
        ("Apache-2.0", Some(false)),
        ("(MIT", None),
        ("MIT IJG", None),
        ("", None),
    ];
    for (expression, expected) in table {
        assert_eq!(permissive(expression, &allowed), expected, "{expression:?}");
    }
}

#[test]
fn every_dependency_has_a_permissive_licence() {
    let cargo = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO")).args(arguments).current_dir(root()).output().expect("cargo runs");
        assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("cargo speaks UTF-8")
    };
    let version = cargo(&["-vV"]);
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("cargo tells its host");
    let metadata = cargo(&[
        "metadata",
        "--offline",
        "--locked",
        "--format-version",
        "1",
        "--all-features",
        "--filter-platform",
        host,
    ]);
    let metadata: Value = serde_json::from_str(&metadata).expect("cargo tells JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    assert!(packages.len() > 50);
    let allowed = allowed_licences();
    let outside = packages.iter().filter(|package| !package["source"].is_null());
    let broken = outside
        .filter(|package| permissive(package["license"].as_str().unwrap_or_default(), &allowed) != Some(true))
        .map(|package| format!("{} {}: {}", package["name"], package["version"], package["license"]))
        .collect();
    hold("whoever ships omma owes its users a notice and nothing more (deny.toml)", broken);
}
