//! The first look at a document: every key is known and applies, every value is of its kind, nothing required is
//! missing. Works through the whole document whatever it finds on its way.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::keys::ROOT;
use crate::problem::{Finding, Findings, quoted};
use crate::schema::{Absent, Key, Kind, Misfit, Section, meant};

/// What is wrong with a table. `path` is empty for the root; `span` is where the table begins.
pub(crate) fn verify(
    section: &Section,
    entries: &DeTable<'_>,
    path: &str,
    span: Option<Range<usize>>,
    findings: &mut Findings,
) {
    let variant = section.variant(Some(entries));
    for (name, value) in entries {
        let key_path = join(path, name.get_ref());
        match section.key(name.get_ref()) {
            None => findings.push(unknown(section, variant, name, key_path)),
            Some(key) if !key.applies(variant) => findings.push(inapplicable(section, key, variant, name, key_path)),
            Some(key) => verify_value(&key.kind, value, &key_path, findings),
        }
    }
    for key in section.keys {
        let required = matches!(key.absent, Absent::Required) && (key.only.is_empty() || variant.is_some());
        if required && key.applies(variant) && !entries.contains_key(key.name) {
            findings.push(Finding {
                span: span.clone(),
                key: join(path, key.name),
                found: "nothing".to_owned(),
                expected: match key.kind {
                    // Its words say what it is for.
                    Kind::Word(_) => key.kind.expected(),
                    _ => format!("{}: {}", key.kind.expected(), key.about),
                },
                hint: None,
            });
        }
    }
}

fn verify_value(kind: &Kind, value: &Spanned<DeValue<'_>>, path: &str, findings: &mut Findings) {
    let mut misfits = |value: &Spanned<DeValue<'_>>, kind: &Kind, path: String| {
        if let Err(Misfit { found, expected, hint }) = kind.check(value.get_ref()) {
            findings.push(Finding { span: Some(value.span()), key: path, found, expected, hint });
        }
    };
    match (kind, value.get_ref()) {
        (Kind::Table(section), DeValue::Table(entries)) => verify(section, entries, path, Some(value.span()), findings),
        (Kind::Tables(section), DeValue::Array(items)) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                let path = format!("{path}[{index}]");
                match item.get_ref() {
                    DeValue::Table(entries) => verify(section, entries, &path, Some(item.span()), findings),
                    other => findings.push(Finding {
                        span: Some(item.span()),
                        key: path,
                        found: crate::schema::described(other),
                        expected: "a table".to_owned(),
                        hint: None,
                    }),
                }
            }
        }
        // Lists and tables of texts: the one that is wrong is pointed at, not the whole.
        (Kind::Texts(text), DeValue::Array(items)) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                misfits(item, &Kind::Text(text), format!("{path}[{index}]"));
            }
        }
        (Kind::Named, DeValue::Table(entries)) => {
            for (name, item) in entries {
                misfits(item, &Kind::Text(&crate::schema::ANY_TEXT), join(path, name.get_ref()));
            }
        }
        _ => misfits(value, kind, path.to_owned()),
    }
}

fn unknown(section: &Section, variant: Option<&str>, name: &Spanned<impl AsRef<str>>, path: String) -> Finding {
    let name_text = name.get_ref().as_ref();
    let known: Vec<&str> = section.keys.iter().filter(|key| key.applies(variant)).map(|key| key.name).collect();
    let hint = match name_text.to_lowercase().as_str() {
        "password" | "passwd" | "pass" if known.contains(&"password_env") => {
            Some("a password is named by \"password_env\" or \"password_file\", it never stands in the file".to_owned())
        }
        _ => elsewhere(name_text).or_else(|| meant(name_text, &known)),
    };
    let expected = match section.path {
        "" => format!("one of {}", known.iter().map(|key| quoted(key)).collect::<Vec<_>>().join(", ")),
        path => format!("a key of [{path}]"),
    };
    Finding { span: Some(name.span()), key: path, found: "an unknown key".to_owned(), expected, hint }
}

/// Where a key of this name has a meaning.
fn elsewhere(name: &str) -> Option<String> {
    fn search(section: &Section, name: &str, found: &mut Vec<String>) {
        for key in section.keys {
            if key.name == name && !section.path.is_empty() {
                found.push(if section.list { format!("[[{}]]", section.path) } else { format!("[{}]", section.path) });
            }
            if let Kind::Table(inner) | Kind::Tables(inner) = key.kind {
                search(inner, name, found);
            }
        }
    }
    let mut found = Vec::new();
    search(&ROOT, name, &mut found);
    (!found.is_empty()).then(|| format!("it is a key of {}", found.join(" and ")))
}

fn inapplicable(
    section: &Section,
    key: &Key,
    variant: Option<&str>,
    name: &Spanned<impl AsRef<str>>,
    path: String,
) -> Finding {
    let by = section.by.unwrap_or_default();
    let only = key.only.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(" or ");
    Finding {
        span: Some(name.span()),
        key: path,
        found: format!("a key that has no meaning with {by} = {:?}", variant.unwrap_or_default()),
        expected: format!("it only with {by} = {only}"),
        hint: None,
    }
}

/// The path of a key in a table; names that TOML would quote are quoted.
pub(crate) fn join(path: &str, name: &str) -> String {
    let bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    let name = if bare && name.len() <= 60 { name.to_owned() } else { quoted(name) };
    if path.is_empty() { name } else { format!("{path}.{name}") }
}
