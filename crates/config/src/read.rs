//! Reading a document that may still be wrong: each table hands out values of the types that the code wants, its
//! defaults filled in, and notes what it handed out, which is the effective configuration.
//!
//! A value that [`crate::verify`] has complained about reads as if it were not written: the checks that follow then see
//! a sound one, and one mistake is not reported twice.

use std::cell::RefCell;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use crate::outside::Outside;
use crate::problem::{Finding, Findings};
use crate::schema::{Absent, Key, Kind, Section, Word, integer_of, number_of};
use crate::verify::join;

/// One configuration while it is read.
pub(crate) struct Document<'o> {
    /// Where relative paths begin: the folder of the file.
    pub folder: PathBuf,
    pub outside: &'o dyn Outside,
    pub findings: RefCell<Findings>,
    /// What the tables handed out, in the order in which they were opened.
    blocks: RefCell<Vec<Block>>,
}

/// A table of the effective configuration.
struct Block {
    section: &'static Section,
    variant: Option<&'static str>,
    values: Vec<(&'static str, toml::Value)>,
}

/// One table of the document, or one that is not there.
pub(crate) struct Table<'d> {
    pub doc: &'d Document<'d>,
    section: &'static Section,
    variant: Option<&'static str>,
    entries: Option<&'d DeTable<'d>>,
    path: String,
    span: Option<Range<usize>>,
    block: usize,
}

/// A value of a simple kind.
enum Simple {
    Flag(bool),
    Integer(u64),
    Number(f64),
    Integers(Vec<u64>),
    Text(String),
    Numbers([f64; 3]),
    Texts(Vec<String>),
    Classes(Vec<ClassRef>),
}

/// A class by its number or its label.
#[derive(Clone)]
pub(crate) enum ClassRef {
    Number(u32),
    Name(String),
}

impl<'o> Document<'o> {
    pub fn new(folder: PathBuf, outside: &'o dyn Outside) -> Self {
        Self { folder, outside, findings: RefCell::default(), blocks: RefCell::default() }
    }

    /// The path as seen from the file's folder.
    pub fn resolve(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    /// All that was handed out, as a TOML file; keys without a value as comments that say what holds instead.
    pub fn effective(&self) -> String {
        let mut text = String::new();
        for block in &*self.blocks.borrow() {
            if block.section.path.is_empty() {
                continue;
            }
            let brackets = if block.section.list { ("[[", "]]") } else { ("[", "]") };
            let gap = if text.is_empty() { "" } else { "\n" };
            text.push_str(&format!("{gap}{}{}{}\n", brackets.0, block.section.path, brackets.1));
            for key in block.section.keys.iter().filter(|key| key.applies(block.variant)) {
                match block.values.iter().find(|(name, _)| *name == key.name) {
                    Some((name, value)) => text.push_str(&format!("{name} = {value}\n")),
                    None if matches!(key.kind, Kind::Table(_) | Kind::Tables(_)) => {}
                    None => text.push_str(&format!("# {}: {}\n", key.name, absent_text(key))),
                }
            }
        }
        text
    }
}

fn absent_text(key: &Key) -> &'static str {
    match key.absent {
        Absent::Required => "required",
        Absent::Is(text) | Absent::Means(text) => text,
    }
}

impl<'d> Table<'d> {
    pub fn open(
        doc: &'d Document<'d>,
        section: &'static Section,
        entries: Option<&'d DeTable<'d>>,
        path: String,
        span: Option<Range<usize>>,
    ) -> Self {
        let variant = section.variant(entries);
        let mut blocks = doc.blocks.borrow_mut();
        blocks.push(Block { section, variant, values: Vec::new() });
        let block = blocks.len() - 1;
        Self { doc, section, variant, entries, path, span, block }
    }

    /// The table under a key; an empty one if it is not there.
    pub fn table(&self, name: &str) -> Table<'d> {
        let Kind::Table(section) = self.key(name).kind else { unreachable!("{name} is a table") };
        let written = self.entries.and_then(|entries| entries.get(name));
        let entries = written.and_then(|value| value.get_ref().as_table());
        Table::open(
            self.doc,
            section,
            entries,
            join(&self.path, name),
            written.map(|value| value.span()).or(self.span.clone()),
        )
    }

    /// The tables of the list under a key, one after the other: the next is opened when the one before is read, as
    /// the effective configuration shows them in the order of their opening.
    pub fn tables(&self, name: &str) -> impl Iterator<Item = Table<'d>> + use<'d> {
        let Kind::Tables(section) = self.key(name).kind else { unreachable!("{name} is a list of tables") };
        let (doc, path) = (self.doc, join(&self.path, name));
        let items = self.entries.and_then(|entries| entries.get(name)).and_then(|value| value.get_ref().as_array());
        items.into_iter().flat_map(|items| items.iter().enumerate()).filter_map(move |(index, item)| {
            let entries = item.get_ref().as_table()?;
            Some(Table::open(doc, section, Some(entries), format!("{path}[{index}]"), Some(item.span())))
        })
    }

    /// The texts of a table whose names are the user's, sorted by name.
    pub fn named(&self, name: &str) -> Vec<(String, String)> {
        let entries = self.entries.and_then(|entries| entries.get(name)).and_then(|value| value.get_ref().as_table());
        let texts = entries.into_iter().flatten();
        let texts: Vec<(String, String)> = texts
            .filter_map(|(name, text)| Some((name.get_ref().to_string(), text.get_ref().as_str()?.to_owned())))
            .collect();
        if !texts.is_empty() {
            let table = texts.iter().map(|(name, text)| (name.clone(), toml::Value::from(text.as_str()))).collect();
            self.note(name, toml::Value::Table(table));
        }
        texts
    }

    fn key(&self, name: &str) -> &'static Key {
        self.section
            .key(name)
            .unwrap_or_else(|| unreachable!("[{}] {name} is not in the table of keys", self.section.path))
    }

    /// Whether the key stands in the file.
    pub fn has(&self, name: &str) -> bool {
        self.entries.is_some_and(|entries| entries.contains_key(name))
    }

    /// Reports a problem with the value of a key, or with the table if the key is not written.
    pub fn problem(&self, name: &str, found: impl Into<String>, expected: impl Into<String>) {
        self.problem_with(name, found, expected, None);
    }

    pub fn problem_with(
        &self,
        name: &str,
        found: impl Into<String>,
        expected: impl Into<String>,
        hint: Option<String>,
    ) {
        let written = self.entries.and_then(|entries| entries.get(name)).map(|value| value.span());
        self.report(written, join(&self.path, name), found.into(), expected.into(), hint);
    }

    /// As [`Table::problem_with`], of one item of a list.
    pub fn item_problem(
        &self,
        name: &str,
        index: usize,
        found: impl Into<String>,
        expected: impl Into<String>,
        hint: Option<String>,
    ) {
        let list = self.entries.and_then(|entries| entries.get(name)).and_then(|value| value.get_ref().as_array());
        let span = list.and_then(|list| list.get(index)).map(|item| item.span());
        self.report(span, format!("{}[{index}]", join(&self.path, name)), found.into(), expected.into(), hint);
    }

    fn report(&self, span: Option<Range<usize>>, key: String, found: String, expected: String, hint: Option<String>) {
        let span = span.or_else(|| self.span.clone());
        self.doc.findings.borrow_mut().push(Finding { span, key, found, expected, hint });
    }

    /// The path of this table, for other problems to refer to.
    pub fn place(&self) -> &str {
        &self.path
    }

    fn note(&self, name: &str, value: toml::Value) {
        let name = self.key(name).name;
        let mut blocks = self.doc.blocks.borrow_mut();
        let values = &mut blocks[self.block].values;
        values.retain(|(other, _)| *other != name);
        values.push((name, value));
    }

    /// What is written, or the default; noted.
    fn simple(&self, name: &str) -> Option<Simple> {
        let key = self.key(name);
        let written = self.entries.and_then(|entries| entries.get(name)).map(|value| value.get_ref());
        let written = written.filter(|value| key.kind.check(value).is_ok() && key.applies(self.variant));
        let simple = match (written, &key.absent) {
            (Some(value), _) => convert(&key.kind, value)?,
            (None, Absent::Is(default)) => convert(&key.kind, DeValue::parse(default).ok()?.get_ref())?,
            (None, _) => return None,
        };
        self.note(name, simple.to_toml());
        Some(simple)
    }

    pub fn flag(&self, name: &str) -> bool {
        self.flag_if(name).unwrap_or_default()
    }

    pub fn flag_if(&self, name: &str) -> Option<bool> {
        match self.simple(name) {
            Some(Simple::Flag(flag)) => Some(flag),
            _ => None,
        }
    }

    /// `None`: not written, or the word that the key takes instead of a number.
    pub fn integer(&self, name: &str) -> Option<u64> {
        match self.simple(name) {
            Some(Simple::Integer(value)) => Some(value),
            _ => None,
        }
    }

    /// A number of things of a key that has a default.
    pub fn count(&self, name: &str) -> usize {
        self.count_if(name).unwrap_or_default()
    }

    pub fn count_if(&self, name: &str) -> Option<usize> {
        self.integer(name).map(|value| usize::try_from(value).unwrap_or(usize::MAX))
    }

    /// A number of things of a key whose default is derived.
    pub fn count_or(&self, name: &str, derived: usize) -> usize {
        self.count_if(name).unwrap_or_else(|| {
            self.note(name, toml::Value::Integer(i64::try_from(derived).unwrap_or(i64::MAX)));
            derived
        })
    }

    /// A key whose range fits into 32 bits.
    pub fn small(&self, name: &str) -> u32 {
        self.small_if(name).unwrap_or_default()
    }

    pub fn small_if(&self, name: &str) -> Option<u32> {
        self.integer(name).map(|value| u32::try_from(value).unwrap_or(u32::MAX))
    }

    pub fn small_or(&self, name: &str, derived: u32) -> u32 {
        u32::try_from(self.count_or(name, derived as usize)).unwrap_or(u32::MAX)
    }

    pub fn number(&self, name: &str) -> f64 {
        self.number_if(name).unwrap_or_default()
    }

    pub fn number_if(&self, name: &str) -> Option<f64> {
        match self.simple(name) {
            Some(Simple::Number(value)) => Some(value),
            _ => None,
        }
    }

    pub fn number_or(&self, name: &str, derived: f64) -> f64 {
        self.number_if(name).unwrap_or_else(|| {
            self.note(name, toml::Value::Float(derived));
            derived
        })
    }

    pub fn channels(&self, name: &str) -> [f32; 3] {
        match self.simple(name) {
            Some(Simple::Numbers(values)) => values.map(|value| value as f32),
            _ => [0.0; 3],
        }
    }

    /// Whole milliseconds.
    pub fn millis(&self, name: &str) -> Duration {
        Duration::from_millis(self.integer(name).unwrap_or_default())
    }

    pub fn text(&self, name: &str) -> Option<String> {
        match self.simple(name) {
            Some(Simple::Text(text)) => Some(text),
            _ => None,
        }
    }

    pub fn text_or(&self, name: &str, derived: String) -> String {
        self.text(name).unwrap_or_else(|| {
            self.note(name, toml::Value::String(derived.clone()));
            derived
        })
    }

    pub fn texts(&self, name: &str) -> Option<Vec<String>> {
        match self.simple(name) {
            Some(Simple::Texts(texts)) => Some(texts),
            _ => None,
        }
    }

    pub fn texts_or(&self, name: &str, derived: &[String]) -> Vec<String> {
        self.texts(name).unwrap_or_else(|| {
            self.note(name, Simple::Texts(derived.to_vec()).to_toml());
            derived.to_vec()
        })
    }

    /// Whole numbers in the order in which they are written; none if the key is not.
    pub fn integers(&self, name: &str) -> Vec<usize> {
        match self.simple(name) {
            Some(Simple::Integers(numbers)) => numbers.into_iter().filter_map(|n| usize::try_from(n).ok()).collect(),
            _ => Vec::new(),
        }
    }

    pub fn classes(&self, name: &str) -> Option<Vec<ClassRef>> {
        match self.simple(name) {
            Some(Simple::Classes(classes)) => Some(classes),
            _ => None,
        }
    }

    /// A path as seen from the file's folder. The effective configuration shows it so too, since it may be kept
    /// in another folder.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        let path = self.doc.resolve(&self.text(name)?);
        self.note_path(name, &path);
        Some(path)
    }

    fn note_path(&self, name: &str, path: &Path) {
        self.note(name, toml::Value::String(path.to_string_lossy().into_owned()));
    }

    pub fn word_if<T: Word>(&self, name: &str) -> Option<T> {
        let text = self.text(name)?;
        T::WORDS.iter().find(|(word, _)| *word == text).map(|&(_, value)| value)
    }

    pub fn word_or<T: Word>(&self, name: &str, derived: T) -> T {
        self.word_if(name).unwrap_or_else(|| {
            self.note(name, toml::Value::String(derived.word().to_owned()));
            derived
        })
    }
}

fn convert(kind: &Kind, value: &DeValue<'_>) -> Option<Simple> {
    let number = || number_of(value);
    Some(match (kind, value) {
        (Kind::Or(_, kind), value) if !value.is_str() => convert(kind, value)?,
        (_, DeValue::String(text)) => Simple::Text(text.to_string()),
        (Kind::Flag, DeValue::Boolean(flag)) => Simple::Flag(*flag),
        (Kind::Integer { .. }, DeValue::Integer(integer)) => Simple::Integer(integer_of(integer)?),
        (Kind::Number { .. }, _) => Simple::Number(number()?),
        (Kind::Integers { .. }, DeValue::Array(items)) => {
            Simple::Integers(items.iter().filter_map(|item| integer_of(item.get_ref().as_integer()?)).collect())
        }
        (Kind::Channels { .. }, DeValue::Array(items)) => {
            let mut values = items.iter().filter_map(|item| number_of(item.get_ref()));
            Simple::Numbers([values.next()?, values.next()?, values.next()?])
        }
        (Kind::Channels { .. }, _) => Simple::Numbers([number()?; 3]),
        (Kind::Texts(_), DeValue::Array(items)) => {
            Simple::Texts(items.iter().filter_map(|item| Some(item.get_ref().as_str()?.to_owned())).collect())
        }
        (Kind::Classes, DeValue::Array(items)) => {
            let class = |item: &DeValue<'_>| match item {
                DeValue::Integer(number) => {
                    integer_of(number).and_then(|number| number.try_into().ok()).map(ClassRef::Number)
                }
                other => other.as_str().map(|name| ClassRef::Name(name.to_owned())),
            };
            Simple::Classes(items.iter().filter_map(|item| class(item.get_ref())).collect())
        }
        _ => return None,
    })
}

impl Simple {
    fn to_toml(&self) -> toml::Value {
        match self {
            Self::Flag(flag) => (*flag).into(),
            Self::Integer(integer) => toml::Value::Integer(i64::try_from(*integer).unwrap_or(i64::MAX)),
            Self::Number(number) => (*number).into(),
            Self::Integers(numbers) => {
                let integer = |number: &u64| toml::Value::Integer(i64::try_from(*number).unwrap_or(i64::MAX));
                toml::Value::Array(numbers.iter().map(integer).collect())
            }
            Self::Text(text) => text.as_str().into(),
            Self::Numbers(numbers) => toml::Value::Array(numbers.iter().map(|&number| number.into()).collect()),
            Self::Classes(classes) => toml::Value::Array(classes.iter().map(ClassRef::to_toml).collect()),
            Self::Texts(texts) => toml::Value::Array(texts.iter().map(|text| text.as_str().into()).collect()),
        }
    }
}

impl ClassRef {
    fn to_toml(&self) -> toml::Value {
        match self {
            Self::Number(number) => i64::from(*number).into(),
            Self::Name(name) => name.as_str().into(),
        }
    }
}
