//! Files that a configuration refers to: whether they are there, and what the small ones say.

use std::path::{Path, PathBuf};

use crate::outside::Entry;
use crate::problem::quoted;
use crate::read::Table;
use crate::secret::Secret;

const LABELS_BYTES_MAX: u64 = 4 << 20;
/// More than any published model has: a longer file is some other file.
const CLASSES_MAX: usize = 65_536;
const SECRET_BYTES_MAX: u64 = 64 << 10;

/// The path of a file that must be there; a problem is reported and the path returned if it is not.
pub(crate) fn existing_file(table: &Table<'_>, name: &str, what: &str) -> Option<PathBuf> {
    let written = table.text(name)?;
    let path = table.path(name)?;
    match table.doc.outside.entry(&path) {
        Entry::File => {}
        other => table.problem(name, not_it(&written, &path, &other), what),
    }
    Some(path)
}

/// The path of a model's file, or of the folder that its versions lie in.
pub(crate) fn existing_model(table: &Table<'_>, name: &str) -> Option<PathBuf> {
    let written = table.text(name)?;
    let path = table.path(name)?;
    match table.doc.outside.entry(&path) {
        Entry::File | Entry::Folder => {}
        other => table.problem(name, not_it(&written, &path, &other), "an ONNX file, or a folder of numbered versions"),
    }
    Some(path)
}

/// The path of a runtime's library, or of the folder that it lies in.
pub(crate) fn existing_library(table: &Table<'_>, name: &str) -> Option<PathBuf> {
    let written = table.text(name)?;
    let path = table.path(name)?;
    match table.doc.outside.entry(&path) {
        Entry::File | Entry::Folder => {}
        other => {
            table.problem(name, not_it(&written, &path, &other), "the runtime's library, or the folder that it lies in")
        }
    }
    Some(path)
}

/// The path of a folder that must be there; the configuration's own if none is written.
pub(crate) fn existing_folder(table: &Table<'_>, name: &str, what: &str) -> PathBuf {
    let Some(written) = table.text(name) else { return table.doc.resolve("") };
    let path = table.doc.resolve(&written);
    match table.doc.outside.entry(&path) {
        Entry::Folder => {}
        other => table.problem(name, not_it(&written, &path, &other), what),
    }
    table.path(name).unwrap_or(path)
}

/// The path of a file, a folder, or a pattern of file names, of which the part before the pattern must be there.
pub(crate) fn existing_files(table: &Table<'_>, name: &str) -> Option<PathBuf> {
    let written = table.text(name)?;
    let path = table.path(name)?;
    let literal: PathBuf =
        path.components().take_while(|part| !is_pattern(&part.as_os_str().to_string_lossy())).collect();
    let entry = table.doc.outside.entry(&literal);
    match (literal == path, entry) {
        (true, Entry::File | Entry::Folder) | (false, Entry::Folder) => {}
        (true, other) => table.problem(
            name,
            not_it(&written, &path, &other),
            "a file, a folder or a pattern such as \"clips/*.jpg\"",
        ),
        (false, _) => {
            let found = format!("{}, but there is no folder {}", quoted(&written), quoted(&literal.to_string_lossy()));
            table.problem(name, found, "a pattern of files in a folder that exists");
        }
    }
    Some(path)
}

fn is_pattern(part: &str) -> bool {
    part.contains(['*', '?', '['])
}

fn not_it(written: &str, path: &Path, entry: &Entry) -> String {
    let written = quoted(written);
    match entry {
        Entry::File => written,
        Entry::Folder => format!("{written}, a folder"),
        Entry::Special => format!("{written}, which is no regular file"),
        Entry::Missing => format!("{written}, but there is no {}", quoted(&path.to_string_lossy())),
        Entry::Unreadable(why) => format!("{written}, which cannot be read ({why})"),
    }
}

/// The names in a file of labels, one on each line. An empty line is no label: skipping it would shift every class
/// after it. A byte order mark, space around a name and empty lines at the end do not count.
pub(crate) fn labels(table: &Table<'_>, name: &str) -> Vec<String> {
    const EXPECTED: &str = "a file with one name on each line";
    let Some(written) = table.text(name) else { return Vec::new() };
    let Some(path) = existing_file(table, name, EXPECTED) else { return Vec::new() };
    if table.doc.outside.entry(&path) != Entry::File {
        return Vec::new();
    }
    let unfit = |why: String| table.problem(name, format!("{}, {why}", quoted(&written)), EXPECTED);
    let text = match read_text(table, &path, LABELS_BYTES_MAX) {
        Ok(text) => text,
        Err(why) => {
            unfit(format!("which cannot be read ({why})"));
            return Vec::new();
        }
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text).trim_end();
    let labels: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
    match labels.iter().position(|label| !fits_label(label)) {
        Some(line) => unfit(format!("whose line {} is {}", line + 1, quoted(&labels[line]))),
        None if labels.is_empty() => unfit("an empty file".to_owned()),
        None if labels.len() > CLASSES_MAX => unfit(format!("which has {} lines", labels.len())),
        None => {}
    }
    labels
}

/// 1 to 256 bytes without control characters: a label is a name, not a text.
pub(crate) fn fits_label(text: &str) -> bool {
    (1..=256).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// The password that a table names by `password_env` or `password_file`. What those keys say is never repeated: a
/// password may stand there by mistake.
pub(crate) fn password(table: &Table<'_>) -> Option<Secret> {
    let (variable, file) = (table.text("password_env"), table.path("password_file"));
    if variable.is_some() && file.is_some() {
        table.problem("password_file", "both password_env and password_file", "one of them");
    }
    let secret = match (variable, file) {
        (Some(variable), _) => match table.doc.outside.variable(&variable) {
            Some(value) if !value.is_empty() => Some(value),
            value => {
                let state = if value.is_some() { "is empty" } else { "is not set" };
                table.problem(
                    "password_env",
                    format!("a variable that {state}"),
                    "an environment variable that holds the password",
                );
                None
            }
        },
        (None, Some(path)) => match read_text(table, &path, SECRET_BYTES_MAX) {
            Ok(text) if !text.trim_end_matches(['\r', '\n']).is_empty() => {
                Some(text.trim_end_matches(['\r', '\n']).to_owned())
            }
            Ok(_) => {
                table.problem("password_file", "an empty file", "a file that holds the password");
                None
            }
            Err(why) => {
                table.problem(
                    "password_file",
                    format!("a file that cannot be read ({why})"),
                    "a file that holds the password",
                );
                None
            }
        },
        (None, None) => None,
    };
    secret.map(Secret::new)
}

fn read_text(table: &Table<'_>, path: &Path, bytes_max: u64) -> Result<String, String> {
    let bytes = table.doc.outside.read(path, bytes_max).map_err(|error| error.to_string())?;
    String::from_utf8(bytes).map_err(|error| format!("not UTF-8 at byte {}", error.utf8_error().valid_up_to()))
}
