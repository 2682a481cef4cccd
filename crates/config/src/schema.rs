//! What a key is: its name, the values it takes, what holds without it, and what it means. The keys themselves stand
//! in [`crate::keys`]; checking, reading, the reference page and the effective configuration all follow them.

use toml::de::{DeFloat, DeInteger, DeTable, DeValue};

use crate::problem::quoted;

/// A table of the file.
pub(crate) struct Section {
    /// As the reference names it: `models.input`.
    pub path: &'static str,
    /// `[[...]]`: there may be many.
    pub list: bool,
    pub about: &'static str,
    /// The key whose value decides which of the others apply.
    pub by: Option<&'static str>,
    pub keys: &'static [Key],
}

pub(crate) struct Key {
    pub name: &'static str,
    pub kind: Kind,
    pub absent: Absent,
    pub about: &'static str,
    /// Values of the section's deciding key with which this one applies; empty: with all.
    pub only: &'static [&'static str],
    /// The setting of the specification's section 5 that this is: its name and its section.
    pub spec: Option<(&'static str, &'static str)>,
}

/// What holds when a key is not written.
pub(crate) enum Absent {
    Required,
    /// A value, as TOML.
    Is(&'static str),
    /// What is derived from other things, in words; or that there is no such setting then.
    Means(&'static str),
}

/// The values that a key takes.
pub(crate) enum Kind {
    Flag,
    Integer {
        min: u64,
        max: u64,
    },
    Number {
        min: f64,
        max: f64,
    },
    /// A list of whole numbers, none of them twice.
    Integers {
        min: u64,
        max: u64,
    },
    /// One number for all channels, or one for each of three.
    Channels {
        min: f64,
        max: f64,
    },
    Word(fn() -> Vec<&'static str>),
    Text(&'static Text),
    Texts(&'static Text),
    /// A list of classes, each by number or by label.
    Classes,
    /// A table of texts under names of the user's choice.
    Named,
    Table(&'static Section),
    Tables(&'static Section),
    /// A word, or what the other kind says.
    Or(&'static str, &'static Kind),
}

/// What a text must look like.
pub(crate) struct Text {
    /// With its article, as in "expected ...".
    pub what: &'static str,
    pub fits: fn(&str) -> bool,
    /// A password may stand here by mistake: what was found is never repeated.
    pub delicate: bool,
}

/// Texts that are the user's own business.
pub(crate) static ANY_TEXT: Text = Text { what: "a text", fits: |_| true, delicate: false };

/// An enumeration as it is written in the file.
pub(crate) trait Word: Copy + PartialEq + 'static {
    const WORDS: &'static [(&'static str, Self)];

    fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, value)| *value == self).map_or("", |(word, _)| word)
    }
}

pub(crate) fn words<T: Word>() -> Vec<&'static str> {
    T::WORDS.iter().map(|(word, _)| *word).collect()
}

impl Key {
    pub const fn new(name: &'static str, kind: Kind, absent: Absent, about: &'static str) -> Self {
        Self { name, kind, absent, about, only: &[], spec: None }
    }

    pub const fn only(self, only: &'static [&'static str]) -> Self {
        Self { only, ..self }
    }

    pub const fn spec(self, name: &'static str, section: &'static str) -> Self {
        Self { spec: Some((name, section)), ..self }
    }

    /// Whether the key has a meaning when the deciding key says `variant` (`None`: it does not say).
    pub fn applies(&self, variant: Option<&str>) -> bool {
        self.only.is_empty() || variant.is_none_or(|variant| self.only.contains(&variant))
    }
}

impl Section {
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// What the deciding key says in this table: its value if that is one of its words, its default if it is not
    /// written; `None` if there is no telling.
    pub fn variant(&self, entries: Option<&DeTable<'_>>) -> Option<&'static str> {
        let key = self.key(self.by?)?;
        let Kind::Word(words) = key.kind else { return None };
        match (entries.and_then(|entries| entries.get(key.name)), &key.absent) {
            (Some(value), _) => words().into_iter().find(|&word| value.get_ref().as_str() == Some(word)),
            (None, Absent::Is(default)) => words().into_iter().find(|&word| *default == format!("{word:?}")),
            (None, _) => None,
        }
    }
}

/// A value that its key does not take.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Misfit {
    pub found: String,
    pub expected: String,
    pub hint: Option<String>,
}

impl Kind {
    /// What the kind takes, as in "expected ...".
    pub fn expected(&self) -> String {
        match self {
            Self::Flag => "true or false".to_owned(),
            Self::Integer { min, max } => format!("a whole number from {min} to {max}"),
            Self::Number { min, max } => format!("a number from {min} to {max}"),
            Self::Integers { min, max } => format!("a list of different whole numbers from {min} to {max}"),
            Self::Channels { min, max } => format!("a number from {min} to {max}, or three of them in a list"),
            Self::Word(words) => match words().as_slice() {
                [word] => format!("{word:?}"),
                words => {
                    format!("one of {}", words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", "))
                }
            },
            Self::Text(text) => text.what.to_owned(),
            Self::Texts(text) => format!("a list whose items are each {}", text.what),
            Self::Classes => "a list of class numbers and labels".to_owned(),
            Self::Named => "a table of names and texts".to_owned(),
            Self::Table(section) => format!("a table, written [{}]", section.path),
            Self::Tables(section) => format!("a list of tables, each written [[{}]]", section.path),
            Self::Or(word, kind) => format!("{word:?} or {}", kind.expected()),
        }
    }

    /// Whether the kind takes the value. Tables and their lists are only told from other types: what is in them is
    /// for their own sections to say.
    pub fn check(&self, value: &DeValue<'_>) -> Result<(), Misfit> {
        let fits = match (self, value) {
            (Self::Or(word, _), DeValue::String(text)) if text == word => true,
            (Self::Or(_, kind), _) => kind.check(value).is_ok(),
            (Self::Flag, DeValue::Boolean(_)) | (Self::Table(_), DeValue::Table(_)) => true,
            (Self::Integer { min, max }, DeValue::Integer(integer)) => {
                integer_of(integer).is_some_and(|integer| (*min..=*max).contains(&integer))
            }
            (Self::Number { min, max }, _) => number_of(value).is_some_and(|number| (*min..=*max).contains(&number)),
            (Self::Channels { min, max }, _) => {
                let inside =
                    |value: &DeValue<'_>| number_of(value).is_some_and(|number| (*min..=*max).contains(&number));
                value.as_array().map_or_else(
                    || inside(value),
                    |list| list.len() == 3 && list.iter().all(|item| inside(item.get_ref())),
                )
            }
            (Self::Integers { min, max }, DeValue::Array(items)) => {
                let mut numbers: Vec<_> =
                    items.iter().filter_map(|item| item.get_ref().as_integer().and_then(integer_of)).collect();
                numbers.sort_unstable();
                numbers.dedup();
                !items.is_empty() && numbers.len() == items.len() && numbers.iter().all(|n| (*min..=*max).contains(n))
            }
            (Self::Word(words), DeValue::String(text)) => words().contains(&&**text),
            (Self::Text(text), DeValue::String(value)) => (text.fits)(value),
            (Self::Texts(text), DeValue::Array(items)) => {
                !items.is_empty() && items.iter().all(|item| item.get_ref().as_str().is_some_and(text.fits))
            }
            (Self::Classes, DeValue::Array(items)) => {
                let class = |item: &DeValue<'_>| {
                    item.as_integer().map_or(item.is_str(), |n| integer_of(n).is_some_and(|n| n < 65_536))
                };
                !items.is_empty() && items.iter().all(|item| class(item.get_ref()))
            }
            (Self::Named, DeValue::Table(entries)) => entries.iter().all(|(_, value)| value.get_ref().is_str()),
            (Self::Tables(_), DeValue::Array(items)) => {
                !items.is_empty() && items.iter().all(|item| item.get_ref().is_table())
            }
            _ => false,
        };
        if fits { Ok(()) } else { Err(self.misfit(value)) }
    }

    fn misfit(&self, value: &DeValue<'_>) -> Misfit {
        let hint = match (self, value) {
            (Self::Or(word, _), DeValue::String(text)) => unquoted(self, text).or_else(|| meant(text, &[word])),
            (Self::Word(words), DeValue::String(text)) => meant(text, &words()),
            (Self::Texts(_), DeValue::String(text)) => Some(format!("write [{}]", quoted(text))),
            (_, DeValue::String(text)) => unquoted(self, text),
            (Self::Tables(section), DeValue::Table(_)) => Some(format!("write [[{}]] with two brackets", section.path)),
            (Self::Table(section), DeValue::Array(_)) => Some(format!("write [{}] with one bracket", section.path)),
            (Self::Text(text), DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_)) => {
                let text_of = described(value);
                (text.fits)(&text_of).then(|| format!("write {text_of:?} with quotes"))
            }
            _ => None,
        };
        // The number is one, but too small or too large: its range says enough.
        let expected = match (self, value) {
            (Self::Integer { min, max }, DeValue::Integer(_)) => format!("{min} to {max}"),
            (Self::Number { min, max }, DeValue::Integer(_) | DeValue::Float(_)) => format!("{min} to {max}"),
            (Self::Or(word, Self::Integer { min, max }), DeValue::Integer(_)) => format!("{word:?} or {min} to {max}"),
            (Self::Or(word, Self::Number { min, max }), DeValue::Integer(_) | DeValue::Float(_)) => {
                format!("{word:?} or {min} to {max}")
            }
            _ => self.expected(),
        };
        let found = match self {
            Self::Text(Text { delicate: true, .. }) => "something else".to_owned(),
            _ => described(value),
        };
        Misfit { found, expected, hint }
    }
}

/// A number in quotes is the commonest slip of all.
fn unquoted(kind: &Kind, text: &str) -> Option<String> {
    let value = DeValue::parse(text).ok()?;
    let scalar = matches!(value.get_ref(), DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_));
    (scalar && kind.check(value.get_ref()).is_ok()).then(|| format!("write {text} without quotes"))
}

/// "did you mean", if something near is known.
pub(crate) fn meant(word: &str, candidates: &[&str]) -> Option<String> {
    crate::nearest::nearest(word, candidates.iter().copied()).map(|near| format!("did you mean {near:?}?"))
}

/// A value as messages speak of it.
pub(crate) fn described(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => quoted(text),
        DeValue::Integer(integer) => clipped(&integer.to_string()),
        DeValue::Float(float) => clipped(float.as_str()),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(_) => "a date or time".to_owned(),
        DeValue::Array(items) if items.is_empty() => "an empty list".to_owned(),
        DeValue::Array(items) if items.iter().any(|item| item.get_ref().is_table()) => "a list of tables".to_owned(),
        DeValue::Array(items) => {
            match items.iter().map(|item| described(item.get_ref())).collect::<Vec<_>>().join(", ") {
                list if list.len() <= 60 => format!("[{list}]"),
                _ => format!("a list of {}", items.len()),
            }
        }
        DeValue::Table(_) => "a table".to_owned(),
    }
}

fn clipped(digits: &str) -> String {
    if digits.len() > 40 { format!("{}...", &digits[..40]) } else { digits.to_owned() }
}

/// `None` if it is negative or larger than any key allows.
pub(crate) fn integer_of(integer: &DeInteger<'_>) -> Option<u64> {
    u64::from_str_radix(integer.as_str().trim_start_matches('+'), integer.radix()).ok()
}

/// A number, written with a point or without; `None` for infinities and for what is none.
pub(crate) fn number_of(value: &DeValue<'_>) -> Option<f64> {
    let float = |float: &DeFloat<'_>| float.as_str().parse::<f64>().ok();
    match value {
        DeValue::Float(value) => float(value),
        DeValue::Integer(value) => i64::from_str_radix(value.as_str(), value.radix()).ok().map(|value| value as f64),
        _ => None,
    }
    .filter(|number| number.is_finite())
}
