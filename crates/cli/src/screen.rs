//! A block of lines that is drawn over itself while a person watches, or plain lines for everyone else.
//!
//! No alternate screen: the last state stays in the terminal's history.

use std::io::{self, Write};

use crossterm::style::{Color, Stylize};
use crossterm::{cursor, queue, terminal};

/// Owns the lines above the cursor that it drew last.
pub struct Screen {
    live: bool,
    drawn: u16,
}

impl Screen {
    pub fn new(live: bool) -> Self {
        Self { live, drawn: 0 }
    }

    /// Whether lines are drawn over one another.
    pub fn live(&self) -> bool {
        self.live
    }

    /// Replaces the block. Lines are cut at the terminal's width, so that each takes one row.
    pub fn draw(&mut self, lines: &[Line]) {
        if !self.live {
            return;
        }
        let (columns, rows) = terminal::size().unwrap_or((80, 24));
        let mut err = io::stderr().lock();
        let shown = lines.len().min(usize::from(rows.saturating_sub(1)));
        let mut text = Vec::new();
        let _ = self.rewind(&mut text);
        for line in &lines[..shown] {
            line.write(usize::from(columns), &mut text);
            text.push(b'\n');
        }
        let _ = err.write_all(&text).and_then(|()| err.flush());
        self.drawn = u16::try_from(shown).unwrap_or(u16::MAX);
    }

    /// Writes a line above the block, which is drawn anew the next time.
    pub fn say(&mut self, text: &str) {
        self.clear();
        crate::say::note(text);
    }

    /// Takes the block away.
    pub fn clear(&mut self) {
        let mut text = Vec::new();
        let _ = self.rewind(&mut text);
        let mut err = io::stderr().lock();
        let _ = err.write_all(&text).and_then(|()| err.flush());
    }

    fn rewind(&mut self, text: &mut Vec<u8>) -> io::Result<()> {
        if self.drawn > 0 {
            queue!(text, cursor::MoveToPreviousLine(self.drawn), terminal::Clear(terminal::ClearType::FromCursorDown))?;
            self.drawn = 0;
        }
        Ok(())
    }
}

/// A line of differently coloured pieces.
#[derive(Default)]
pub struct Line {
    pieces: Vec<(String, Option<Color>, bool)>,
}

impl Line {
    pub fn plain(mut self, text: impl Into<String>) -> Self {
        self.pieces.push((text.into(), None, false));
        self
    }

    pub fn bold(mut self, text: impl Into<String>) -> Self {
        self.pieces.push((text.into(), None, true));
        self
    }

    pub fn dim(self, text: impl Into<String>) -> Self {
        self.color(Color::DarkGrey, text)
    }

    pub fn color(mut self, color: Color, text: impl Into<String>) -> Self {
        self.pieces.push((text.into(), Some(color), false));
        self
    }

    /// Without colours.
    pub fn text(&self) -> String {
        self.pieces.iter().map(|(text, ..)| text.as_str()).collect()
    }

    fn write(&self, columns: usize, out: &mut Vec<u8>) {
        let mut left = columns;
        for (text, color, bold) in &self.pieces {
            let cut: String = text.chars().take(left).collect();
            left -= cut.chars().count();
            let styled = match (color, bold) {
                (Some(color), _) => cut.with(*color),
                (None, true) => cut.bold(),
                (None, false) => cut.stylize(),
            };
            let _ = write!(out, "{styled}");
        }
    }
}

/// A bar of `width` characters, filled to `share` (0 to 1).
pub fn bar(share: f64, width: usize) -> (String, String) {
    let filled = (share.clamp(0.0, 1.0) * width as f64).round() as usize;
    ("\u{2501}".repeat(filled), "\u{2501}".repeat(width - filled))
}

/// The last `width` values as a line of small bars, the highest at full height.
pub fn spark(values: &[f64], width: usize) -> String {
    const STEPS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let values = &values[values.len().saturating_sub(width)..];
    let top = values.iter().copied().fold(0.0, f64::max);
    values
        .iter()
        .map(|value| if top > 0.0 { STEPS[((value / top * 7.0).round() as usize).min(7)] } else { STEPS[0] })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_and_sparks_fill_their_width() {
        for (share, filled) in [(-1.0, 0), (0.0, 0), (0.5, 5), (1.0, 10), (7.0, 10)] {
            let (full, empty) = bar(share, 10);
            assert_eq!((full.chars().count(), empty.chars().count()), (filled, 10 - filled));
        }
        assert_eq!(spark(&[0.0, 3.5, 7.0], 10), "▁▅█");
        assert_eq!(spark(&[1.0, 2.0, 4.0], 2), "▅█");
        assert_eq!(spark(&[0.0, 0.0], 4), "▁▁");
    }

    #[test]
    fn a_line_is_cut_at_the_width_of_the_terminal() {
        let line = Line::default().plain("abc").plain("def");
        let mut out = Vec::new();
        line.write(4, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "abcd");
    }
}
