//! The reference page of all keys, as Markdown, made of the table that checks them. A test holds
//! docs/ref/configuration.md against it.

use std::fmt::Write;

use crate::keys::ROOT;
use crate::schema::{Absent, Key, Kind, Section};

const HEAD: &str = "\
# Configuration

<!-- Made from crates/config/src/keys by its tests: UPDATE_DOCS=1 cargo test -p omma-config reference -->

A configuration is a TOML file. `omma validate -c FILE` prints everything that is wrong with one, and with `--effective`
everything that holds, defaults filled in. Examples stand in the folder `config`.

- A key that is not listed here is an error, as is one that has no meaning beside the others.
- Relative paths begin at the folder of the configuration file.
- Passwords are named, not written: `password_env` names an environment variable, `password_file` a file. They are read
  once at start and never printed.
- Lower case throughout. Numbers may have underscores: `10_000`.
";

/// The page.
#[must_use]
pub fn reference() -> String {
    let mut page = HEAD.to_owned();
    let mut spec = Vec::new();
    sections(&ROOT, &mut page, &mut spec);
    page.push_str(
        "\n## The settings of the specification\n\n\
         Every setting of its section 5 exists under its own name, in lower case, with its default.\n\n\
         | setting | section | key | default | what it does here |\n| --- | --- | --- | --- | --- |\n",
    );
    for (section, key, (name, number)) in spec {
        let path = format!("{}.{}", section.path, key.name);
        // Writing to a string cannot fail.
        let _ = writeln!(page, "| `{name}` | {number} | `{path}` | {} | {} |", absent(&key.absent), cell(key.about));
    }
    page
}

type SpecRow = (&'static Section, &'static Key, (&'static str, &'static str));

fn sections(section: &'static Section, page: &mut String, spec: &mut Vec<SpecRow>) {
    if !section.path.is_empty() {
        let header = if section.list { format!("[[{}]]", section.path) } else { format!("[{}]", section.path) };
        let _ = write!(page, "\n## `{header}`\n\n{}\n\n", section.about);
        page.push_str("| key | value | default | meaning |\n| --- | --- | --- | --- |\n");
        for key in section.keys {
            let only = match (section.by, key.only) {
                (Some(by), [_, ..]) => format!(" Only with {by} {}.", words(key.only)),
                _ => String::new(),
            };
            let kind = value(&key.kind);
            let _ =
                writeln!(page, "| `{}` | {kind} | {} | {}.{only} |", key.name, absent(&key.absent), cell(key.about));
        }
    }
    for key in section.keys {
        spec.extend(key.spec.map(|names| (section, key, names)));
    }
    for key in section.keys {
        if let Kind::Table(inner) | Kind::Tables(inner) = key.kind {
            sections(inner, page, spec);
        }
    }
}

fn words(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

fn value(kind: &Kind) -> String {
    match kind {
        Kind::Word(all) => words(&all()),
        Kind::Or(word, kind) => format!("`{word}` or {}", value(kind)),
        Kind::Table(section) => format!("table `[{}]`", section.path),
        Kind::Tables(section) => format!("tables `[[{}]]`", section.path),
        other => cell(&other.expected()),
    }
}

fn absent(absent: &Absent) -> String {
    match absent {
        Absent::Required => "required".to_owned(),
        Absent::Is(value) => format!("`{value}`"),
        Absent::Means(words) => cell(words),
    }
}

/// A bar would end the cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use toml::de::DeValue;

    use super::*;

    fn each_key(section: &'static Section, visit: &mut dyn FnMut(&'static Section, &'static Key)) {
        for key in section.keys {
            visit(section, key);
            if let Kind::Table(inner) | Kind::Tables(inner) = key.kind {
                each_key(inner, visit);
            }
        }
    }

    #[test]
    fn the_page_in_the_repository_is_this_one() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/ref/configuration.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folder of the page");
            std::fs::write(&path, reference()).expect("the page");
        }
        let page = std::fs::read_to_string(&path).expect("docs/ref/configuration.md");
        assert!(page == reference(), "docs/ref/configuration.md is out of date: run this test with UPDATE_DOCS=1");
    }

    #[test]
    fn every_default_is_a_value_of_its_key() {
        each_key(&ROOT, &mut |section, key| {
            if let Absent::Is(text) = key.absent {
                let value = DeValue::parse(text).expect(text);
                assert_eq!(key.kind.check(value.get_ref()), Ok(()), "[{}] {}", section.path, key.name);
            }
        });
    }

    #[test]
    fn keys_stand_once_and_depend_on_words_that_exist() {
        each_key(&ROOT, &mut |section, key| {
            let place = format!("[{}] {}", section.path, key.name);
            assert_eq!(section.keys.iter().filter(|other| other.name == key.name).count(), 1, "{place}");
            assert!(key.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{place}");
            if key.only.is_empty() {
                return;
            }
            let by = section.by.and_then(|by| section.key(by)).expect(&place);
            let Kind::Word(words) = by.kind else { panic!("{place}: its deciding key takes no words") };
            key.only.iter().for_each(|word| assert!(words().contains(word), "{place}: {word}"));
        });
    }

    #[test]
    fn the_settings_of_the_specification() {
        let mut found = Vec::new();
        each_key(&ROOT, &mut |section, key| {
            if let (Some((name, number)), Absent::Is(default)) = (key.spec, &key.absent) {
                assert_eq!(name.to_lowercase(), key.name);
                found.push((number, section.path, key.name, *default));
            }
        });
        let expected = [
            ("5.2", "consumer_manager", "async_buffer_size", "1000"),
            ("5.2", "consumer_manager", "feeder_executor_threads", "16"),
            ("5.2", "consumer_manager", "max_consumer_shards", "32"),
            ("5.2", "consumer_manager", "batch_read_count", "32"),
            ("5.2", "consumer_manager", "metrics_aggregation_count", "100"),
            ("5.1", "inference_worker", "async_buffer_size", "2000"),
            ("5.1", "inference_worker", "feeder_poll_timeout", "0.001"),
            ("5.1", "inference_worker", "batch_size", "16"),
            ("5.1", "inference_worker", "batch_timeout_ms", "5.0"),
            ("5.1", "inference_worker", "sync_mode_thread_pool_size", "8"),
        ];
        assert_eq!(found, expected);
    }
}
