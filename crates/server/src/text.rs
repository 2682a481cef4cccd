//! Prometheus' text format: families with their help and type, samples with escaped labels.

use std::fmt::Write as _;

/// A family's kind, as the format names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A page under construction.
#[derive(Default)]
pub(crate) struct Page {
    text: String,
}

impl Page {
    pub(crate) fn family(&mut self, name: &str, kind: Kind, help: &str) {
        // Writing to a string cannot fail; here and below.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {}", kind.name());
    }

    /// One sample; `labels` as name and value.
    pub(crate) fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.text.push_str(name);
        for (number, (label, value)) in labels.iter().enumerate() {
            let _ = write!(self.text, "{}{label}=\"", if number == 0 { '{' } else { ',' });
            escape(value, &mut self.text);
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }

    pub(crate) fn finish(self) -> String {
        self.text
    }
}

/// The format's three escapes; camera ids may hold quotes and backslashes, never line ends, but names may.
fn escape(value: &str, text: &mut String) {
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            c => text.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_written_as_prometheus_reads_them() {
        for (labels, value, expected) in [
            (&[][..], 3.0, "x 3\n"),
            (&[("a", "b")], 0.25, "x{a=\"b\"} 0.25\n"),
            (&[("a", "\"\\\n"), ("le", "+Inf")], 1e9, "x{a=\"\\\"\\\\\\n\",le=\"+Inf\"} 1000000000\n"),
        ] {
            let mut page = Page::default();
            page.sample("x", labels, value);
            assert_eq!(page.finish(), expected);
        }
    }
}
