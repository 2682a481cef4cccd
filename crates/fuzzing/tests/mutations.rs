//! The fuzz targets in the ordinary suite: every seed as it is, and some thousand mutations of it, always the same ones.
//!
//! What libFuzzer (`scripts/fuzz.sh`) finds is kept as a test beside the parser at fault; this one keeps the targets
//! from rotting and finds again what is shallow.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use omma_fuzzing::{TARGETS, Target};

/// For each target; fewer on a machine where they take longer than [`TIME_MAX`].
const MUTATIONS: usize = 4000;
const TIME_MAX: Duration = Duration::from_secs(5);
const BYTES_MAX: usize = 8 << 10;

/// Marsaglia's xorshift: the same on every machine.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.roll() % end.max(1) as u64) as usize
    }
}

/// What parsers branch on.
const TELLING: [&[u8]; 16] = [
    b"\r\n",
    b"\n",
    b"\"",
    b"\\",
    b"--",
    b"%",
    b"=",
    b"[[",
    b"@",
    b":",
    b"\xFF\xD8",
    b"\xFF\xD9",
    b"\xFF\xDA",
    b"\xFF\xC0",
    b"\xFF\xFF\xFF\xFF",
    b"\0\0\0\0",
];

fn mutate(dice: &mut Dice, seeds: &[Vec<u8>], bytes: &mut Vec<u8>) {
    let at = dice.below(bytes.len() + 1);
    let span = dice.below(bytes.len() - at + 1).min(64);
    match dice.below(8) {
        0 | 1 if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
        2 if at < bytes.len() => bytes[at] = dice.roll() as u8,
        3 => bytes.truncate(at),
        4 => drop(bytes.drain(at..at + span)),
        5 => {
            let piece = TELLING[dice.below(TELLING.len())];
            bytes.splice(at..at, piece.iter().copied());
        }
        6 => {
            let again = bytes[at..at + span].repeat(1 + dice.below(4));
            bytes.splice(at..at, again);
        }
        _ => {
            let other = &seeds[dice.below(seeds.len())];
            let from = dice.below(other.len() + 1);
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
    }
    bytes.truncate(BYTES_MAX);
}

/// Panics with the target's name and the bytes.
fn hold(target: &Target, bytes: &[u8]) {
    let held = catch_unwind(AssertUnwindSafe(|| (target.check)(bytes)));
    assert!(held.is_ok(), "{} does not hold its law ({}) of {}", target.name, target.law, bytes.escape_ascii());
}

fn mutations_hold(target: &Target) {
    let begun = Instant::now();
    let seeds = (target.seeds)();
    assert!(!seeds.is_empty());
    hold(target, &[]);
    seeds.iter().for_each(|seed| hold(target, seed));
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let mut tried = 0;
    while tried < MUTATIONS && begun.elapsed() < TIME_MAX {
        let mut bytes = seeds[dice.below(seeds.len())].clone();
        for _ in 0..=dice.below(4) {
            mutate(&mut dice, &seeds, &mut bytes);
        }
        hold(target, &bytes);
        tried += 1;
    }
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                let target = TARGETS.iter().find(|target| target.name == stringify!($name));
                mutations_hold(target.expect("a target"));
            }
        )*

        const TESTED: &[&str] = &[$(stringify!($name)),*];
    };
}

targets! { challenge configuration form_file guess http_head infer_body infer_message jpeg labels mjpeg_file model_description multipart onnx outputs png raw redis_answer redis_message ring_header server_outputs url worker_answer }

/// The folder `fuzz/` is a workspace of its own, which the ordinary build never compiles.
#[test]
fn each_target_is_tested_here_and_has_its_fuzzer() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).expect("fuzz/Cargo.toml");
    let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    assert!(names.is_sorted());
    assert_eq!(names, TESTED);
    let mut files: Vec<String> = std::fs::read_dir(fuzz.join("fuzz_targets"))
        .expect("fuzz/fuzz_targets")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    files.sort();
    assert_eq!(files, names.iter().map(|name| format!("{name}.rs")).collect::<Vec<_>>());
    for target in &TARGETS {
        let Target { name, .. } = target;
        let path = format!("fuzz_targets/{name}.rs");
        assert!(manifest.contains(&format!("name = \"{name}\"\npath = \"{path}\"")), "{name} in fuzz/Cargo.toml");
        let code = std::fs::read_to_string(fuzz.join(path)).expect("the fuzzer");
        assert!(code.contains(&format!("fuzz_target!(|data: &[u8]| omma_fuzzing::{name}(data));")), "{name}: {code}");
    }
}
