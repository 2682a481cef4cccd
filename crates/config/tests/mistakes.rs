//! Every kind of mistake and exactly what is said about it: `mistakes.txt` beside this file.
//!
//! A case is a comment that says what is wrong, the part of the configuration that is wrong, a line `---`, and the
//! problems. What a case does not write itself stands in lines 1 to 3 of its file, so that its own begin at line 4.
//! With UPDATE_EXPECT=1 the expectations are written anew, to be read before they are kept.

mod common;

use std::fmt::Write;
use std::path::Path;

use common::OtherMachine;

const USUAL: [(&str, &str); 3] = [
    ("models", r#"models = [{ name = "m", runtime = "null" }]"#),
    ("sources", r#"sources = [{ type = "synthetic", cameras = 2 }]"#),
    ("sinks", r#"sinks = [{ type = "null", name = "k" }]"#),
];

fn completed(part: &str) -> String {
    let usual = USUAL.map(|(section, line)| {
        let written = [format!("[{section}]"), format!("[[{section}]]"), format!("# no {section}")];
        let mut above_tables = part.lines().take_while(|line| !line.starts_with('['));
        let own = part.lines().any(|line| written.iter().any(|start| line.starts_with(start)));
        if own || above_tables.any(|line| line.starts_with(&format!("{section} ="))) { "#" } else { line }
    });
    format!("{}\n{part}", usual.join("\n"))
}

fn said(part: &str) -> String {
    match omma_config::parse(&completed(part), "/c/o.toml", &OtherMachine) {
        Ok(_) => "nothing\n".to_owned(),
        Err(problems) => problems.problems.iter().fold(String::new(), |mut said, problem| {
            writeln!(said, "{problem}").expect("a string");
            said
        }),
    }
}

#[test]
fn every_mistake_is_named_exactly() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mistakes.txt");
    let text = std::fs::read_to_string(&path).expect("tests/mistakes.txt");
    let cases: Vec<&str> = text.split("\n\n\n").filter(|case| !case.trim().is_empty()).collect();
    let mut found = String::new();
    for case in &cases {
        let (part, _) = case.split_once("\n---").unwrap_or((case, ""));
        let part = part.trim_start_matches('\n');
        write!(found, "{part}\n---\n{}\n\n", said(part)).expect("a string");
    }
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, &found).expect("tests/mistakes.txt");
        return;
    }
    assert!(cases.len() >= 40, "{} cases", cases.len());
    let mut pairs = found.split("\n\n\n").zip(&cases);
    if let Some((found, case)) = pairs.find(|(found, case)| found.trim() != case.trim()) {
        panic!("found:\n{found}\n\nexpected:\n{case}");
    }
}
