//! What is wrong with a configuration, where, and what would be right: for people as a compiler would say it, for
//! programs as fields.
//!
//! Passwords never stand in a problem: credentials inside a URL are masked wherever a text is quoted, and a source
//! line that may hold a secret is not shown.

use std::fmt;
use std::ops::Range;

use serde::Serialize;

/// Where in the file, both counted from one; the column in characters, not bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    pub line: usize,
    pub column: usize,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    pub file: String,
    /// `None` when nothing in the file can be pointed at: a section that is not there, a file that cannot be read.
    #[serde(flatten)]
    pub place: Option<Place>,
    /// The path of the key, as `models[0].input.width`; empty for the file as a whole and for its syntax.
    pub key: String,
    pub found: String,
    /// Empty where `found` says it all.
    pub expected: String,
    /// What was perhaps meant.
    pub hint: Option<String>,
    #[serde(skip)]
    excerpt: Option<Excerpt>,
}

/// The source line under a problem.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Excerpt {
    text: String,
    /// Characters before the marked part, and in it.
    before: usize,
    marked: usize,
}

/// What is wrong with a configuration, in the order of the file. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problems {
    /// All of them, up to a thousand.
    pub problems: Vec<Problem>,
    /// How many more there are.
    pub omitted: usize,
}

impl Problem {
    /// A problem of the file as a whole.
    pub(crate) fn of_file(file: &str, found: impl Into<String>, expected: impl Into<String>) -> Self {
        let (found, expected) = (found.into(), expected.into());
        Self { file: file.to_owned(), place: None, key: String::new(), found, expected, hint: None, excerpt: None }
    }
}

/// `FILE:LINE:COLUMN: KEY: found ..., expected ...; HINT`, one line.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(Place { line, column }) = self.place {
            write!(f, ":{line}:{column}")?;
        }
        f.write_str(": ")?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "found {}", self.found)?;
        if !self.expected.is_empty() {
            write!(f, ", expected {}", self.expected)?;
        }
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "; {hint}"))
    }
}

/// Each problem with its source line and a caret under the place, and how many there are.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            writeln!(f, "{problem}")?;
            if let (Some(place), Some(excerpt)) = (problem.place, &problem.excerpt) {
                writeln!(f, "{:>6} | {}", place.line, excerpt.text)?;
                writeln!(f, "{:>6} | {:>2$}", "", "^".repeat(excerpt.marked), excerpt.before + excerpt.marked)?;
            }
        }
        match (self.problems.len(), self.omitted) {
            (1, 0) => f.write_str("1 problem"),
            (count, 0) => write!(f, "{count} problems"),
            (count, omitted) => write!(f, "{count} problems, and {omitted} more that are not shown"),
        }
    }
}

impl std::error::Error for Problems {}

/// The text of a file, and where its lines begin.
pub(crate) struct Text<'a> {
    file: &'a str,
    text: &'a str,
    line_starts: Vec<usize>,
}

/// A problem before its place is looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub span: Option<Range<usize>>,
    pub key: String,
    pub found: String,
    pub expected: String,
    pub hint: Option<String>,
}

/// What was found so far: each finding once, and no more than anyone would read, however wrong a file is.
#[derive(Default)]
pub(crate) struct Findings {
    list: Vec<Finding>,
    omitted: usize,
}

impl Findings {
    const COUNT_MAX: usize = 1000;

    pub(crate) fn push(&mut self, finding: Finding) {
        if self.list.contains(&finding) {
            return;
        }
        if self.list.len() < Self::COUNT_MAX {
            self.list.push(finding);
        } else {
            self.omitted += 1;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

impl<'a> Text<'a> {
    pub(crate) fn new(file: &'a str, text: &'a str) -> Self {
        let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { file, text, line_starts }
    }

    /// The findings as problems, sorted by place.
    pub(crate) fn problems(&self, findings: Findings) -> Problems {
        let Findings { mut list, omitted } = findings;
        list.sort_by_key(|finding| finding.span.as_ref().map_or((usize::MAX, 0), |span| (span.start, span.end)));
        Problems { problems: list.into_iter().map(|finding| self.problem(finding)).collect(), omitted }
    }

    fn problem(&self, Finding { span, key, found, expected, hint }: Finding) -> Problem {
        let located = span.map(|span| self.locate(&span));
        let (place, excerpt) = located.map_or((None, None), |(place, excerpt)| (Some(place), excerpt));
        Problem { file: self.file.to_owned(), place, key, found, expected, hint, excerpt }
    }

    fn locate(&self, span: &Range<usize>) -> (Place, Option<Excerpt>) {
        let start = self.floor(span.start);
        let line = self.line_starts.partition_point(|&at| at <= start).saturating_sub(1);
        let line_start = self.line_starts.get(line).copied().unwrap_or_default();
        let line_text = self.text.get(line_start..).unwrap_or_default().lines().next().unwrap_or_default();
        let before = self.text.get(line_start..start).unwrap_or_default().chars().count();
        let end = self.floor(span.end.max(start)).min(line_start + line_text.len());
        let marked = self.text.get(start..end).unwrap_or_default().chars().count().max(1);
        (Place { line: line + 1, column: before + 1 }, Excerpt::new(line_text, before, marked))
    }

    /// The start of the character that a byte belongs to.
    fn floor(&self, at: usize) -> usize {
        self.text.floor_char_boundary(at.min(self.text.len()))
    }
}

impl Excerpt {
    /// A longer line is nothing that a person wrote.
    const LINE_BYTES_MAX: usize = 64 << 10;
    /// Characters of a line that are shown.
    const CHARS_MAX: usize = 120;
    /// Of these, how many before the marked part when the line's beginning must go.
    const LEAD: usize = 40;

    fn new(line: &str, before: usize, marked: usize) -> Option<Self> {
        if line.len() > Self::LINE_BYTES_MAX || may_hold_secret(line) {
            return None;
        }
        let skipped = if before + marked > Self::CHARS_MAX { before.saturating_sub(Self::LEAD) } else { 0 };
        // A tab is as wide as the terminal likes; a control character may do worse than be wide.
        let shown = |c: char| if c.is_control() { ' ' } else { c };
        let text: String = line.chars().skip(skipped).take(Self::CHARS_MAX).map(shown).collect();
        let before = before - skipped;
        Some(Self { text, before, marked: marked.min(Self::CHARS_MAX - before.min(Self::CHARS_MAX - 1)) })
    }
}

/// Whether a source line had better not be repeated on a terminal or in a log.
fn may_hold_secret(line: &str) -> bool {
    let lower = line.to_lowercase();
    let names_one =
        ["password", "passwd", "secret", "token", "credential", "api_key"].iter().any(|word| lower.contains(word));
    names_one || mask_credentials(line).is_some()
}

/// The text with `user:password` of each URL in it masked; `None` if there are none.
fn mask_credentials(text: &str) -> Option<String> {
    let mut masked = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (head, tail) = rest.split_at(at + 3);
        masked.push_str(head);
        let authority_end = tail.find(['/', '?', '#', '"', '\'', ' ']).unwrap_or(tail.len());
        rest = match tail[..authority_end].rfind('@') {
            Some(at) => {
                masked.push_str("***");
                &tail[at..]
            }
            None => tail,
        };
    }
    masked.push_str(rest);
    (masked != text).then_some(masked)
}

/// A text from outside as it is quoted in messages: escaped, at most 60 characters, URL credentials masked.
pub(crate) fn quoted(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    let masked = mask_credentials(text);
    let text = masked.as_deref().unwrap_or(text);
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_masks_credentials_and_clips() {
        let long = "é".repeat(61);
        let table = [
            ("cam", r#""cam""#.to_owned()),
            ("a\"b\n", r#""a\"b\n""#.to_owned()),
            ("http://host/path", r#""http://host/path""#.to_owned()),
            ("http://admin:s3cret@host/path", r#""http://***@host/path""#.to_owned()),
            ("http://admin:p@ss@host", r#""http://***@host""#.to_owned()),
            ("http://host/path@2", r#""http://host/path@2""#.to_owned()),
            (long.as_str(), format!("{:?}...", "é".repeat(60))),
        ];
        for (text, expected) in table {
            assert_eq!(quoted(text), expected);
        }
    }

    #[test]
    fn columns_count_characters_and_carets_stay_under_their_place() {
        let text = Text::new("f.toml", "a = 1\n\t\"é\" = 22 # x\n");
        let finding = |span: Range<usize>| Finding {
            span: Some(span),
            key: "k".to_owned(),
            found: "22".to_owned(),
            expected: "1".to_owned(),
            hint: None,
        };
        let mut findings = Findings::default();
        [14..16, 14..16, 0..1].into_iter().for_each(|span| findings.push(finding(span)));
        let problems = text.problems(findings);
        let expected = "f.toml:1:1: k: found 22, expected 1\n     1 | a = 1\n       | ^\n\
                        f.toml:2:8: k: found 22, expected 1\n     2 |  \"é\" = 22 # x\n       |        ^^\n2 problems";
        assert_eq!(problems.to_string(), expected);
    }

    #[test]
    fn a_thousand_findings_are_kept() {
        let mut findings = Findings::default();
        for at in 0..1003 {
            let (key, found, expected) = (at.to_string(), String::new(), String::new());
            findings.push(Finding { span: None, key, found, expected, hint: None });
        }
        let problems = Text::new("f.toml", "").problems(findings);
        assert_eq!((problems.problems.len(), problems.omitted), (1000, 3));
        assert!(problems.to_string().ends_with("1000 problems, and 3 more that are not shown"));
    }

    #[test]
    fn lines_that_may_hold_a_secret_are_not_shown() {
        for line in ["password = \"x\"", "url = \"http://a:b@c\"", "  API_KEY=1"] {
            assert_eq!(Excerpt::new(line, 0, 1), None);
        }
    }

    #[test]
    fn a_very_long_line_is_shown_around_the_place() {
        let line = format!("{}HERE{}", "a".repeat(10_000), "b".repeat(10_000));
        let excerpt = Excerpt::new(&line, 10_000, 4).expect("an excerpt");
        assert_eq!(excerpt.text.chars().count(), Excerpt::CHARS_MAX);
        assert_eq!(&excerpt.text[excerpt.before..excerpt.before + excerpt.marked], "HERE");
    }
}
