//! Every command in the documentation runs: in each page's own folder, in the page's order, with the built binary.
//!
//! A block of `sh run` is run; one of `toml NAME` is written to that file first. A block of plain `sh` is not run, and
//! may hold only what installs, builds or needs something that a test has not: commands that begin with `make`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const MINUTES_MAX: u32 = 5;

struct Block {
    line: usize,
    info: String,
    text: String,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut open = false;
    for (number, line) in page.lines().enumerate() {
        match (line.trim_start().strip_prefix("```"), open) {
            (Some(info), false) => {
                blocks.push(Block { line: number + 1, info: info.trim().to_owned(), text: String::new() });
                open = true;
            }
            (Some(_), true) => open = false,
            (None, true) => {
                if let Some(block) = blocks.last_mut() {
                    block.text.push_str(line);
                    block.text.push('\n');
                }
            }
            (None, false) => {}
        }
    }
    blocks
}

fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut pages = vec![root.join("README.md"), root.join("ARCHITECTURE.md")];
    let mut folders = vec![root.join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path);
            }
        }
    }
    pages.retain(|page| page.exists());
    pages.sort();
    pages
}

#[test]
fn every_command_in_the_documentation_runs() {
    let binary = Path::new(env!("CARGO_BIN_EXE_omma"));
    let path = std::env::var("PATH").expect("a PATH");
    let path = format!("{}:{path}", binary.parent().expect("a folder").display());
    let mut ran = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).expect("a page");
        let folder = tempfile::tempdir().expect("a folder");
        for block in blocks(&text) {
            let place = format!("{}:{}", page.display(), block.line);
            match block.info.split_whitespace().collect::<Vec<_>>().as_slice() {
                ["toml", name] => fs::write(folder.path().join(name), &block.text).expect("written"),
                ["sh", "run"] => {
                    let output = Command::new("timeout")
                        .args([&format!("{MINUTES_MAX}m"), "bash", "-euo", "pipefail", "-c", &block.text])
                        .current_dir(folder.path())
                        .env("PATH", &path)
                        .output()
                        .expect("bash runs");
                    let said = String::from_utf8_lossy(&output.stderr);
                    assert!(output.status.success(), "{place}: {}\n{}\n{said}", output.status, block.text);
                    ran += 1;
                }
                ["sh" | "bash" | "shell" | "console", ..] => {
                    let others: Vec<_> = block
                        .text
                        .lines()
                        .filter(|line| !line.trim().is_empty() && !line.starts_with("make"))
                        .collect();
                    assert!(others.is_empty(), "{place}: not run by any test, mark it `sh run`: {others:?}");
                }
                _ => {}
            }
        }
    }
    assert!(ran >= 4, "the guide has commands to run, found {ran}");
}

#[test]
fn blocks_are_found_with_their_place() {
    let page = "text\n```sh run\nomma --version\n```\n```toml a.toml\nx = 1\n```\n";
    let found: Vec<_> = blocks(page).into_iter().map(|block| (block.line, block.info, block.text)).collect();
    assert_eq!(found, [(2, "sh run".into(), "omma --version\n".into()), (5, "toml a.toml".into(), "x = 1\n".into())]);
}
