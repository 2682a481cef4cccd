//! Times and entry ids as text, without an allocation and without the machinery of formatting: each result has them.

use omma_frame::{Token, UnixNanos};

/// A time as RFC 3339 says it, in UTC, to the nanosecond.
pub(crate) struct Rfc3339([u8; 30]);

impl Rfc3339 {
    pub fn of(time: UnixNanos) -> Self {
        let (seconds, nanos) = (time.0 / 1_000_000_000, time.0 % 1_000_000_000);
        let (year, month, day) = civil(seconds / 86_400);
        let second = seconds % 86_400;
        let mut text = *b"0000-00-00T00:00:00.000000000Z";
        // 64 bits of nanoseconds end in the year 2554, so that four digits hold it.
        let parts = [
            (0, 4, year),
            (5, 2, month),
            (8, 2, day),
            (11, 2, second / 3600),
            (14, 2, second / 60 % 60),
            (17, 2, second % 60),
            (20, 9, nanos),
        ];
        for (at, digits, value) in parts {
            fill(&mut text[at..at + digits], value);
        }
        Self(text)
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// The id of an entry in a Redis stream: `1700000000000-12`.
pub(crate) struct EntryId {
    text: [u8; 41],
    start: usize,
}

impl EntryId {
    pub fn of(token: Token) -> Self {
        let mut text = [b'-'; 41];
        let after = text.len() - digits(token.1);
        fill(&mut text[after..], token.1);
        let dash = after - 1;
        let start = dash - digits(token.0);
        fill(&mut text[start..dash], token.0);
        Self { text, start }
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.text[self.start..]).unwrap_or_default()
    }
}

fn digits(value: u64) -> usize {
    value.checked_ilog10().map_or(1, |log| log as usize + 1)
}

/// Decimal, filled up with zeros.
fn fill(into: &mut [u8], mut value: u64) {
    for digit in into.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Year, month and day of the Gregorian calendar, `days` after 1970-01-01. Counts in years that begin in March, so that
/// the leap day is the last of its year.
fn civil(days: u64) -> (u64, u64, u64) {
    const DAYS_400_YEARS: u64 = 146_097;
    // Days from 0000-03-01 to 1970-01-01.
    let days = days + 719_468;
    let (era, day) = (days / DAYS_400_YEARS, days % DAYS_400_YEARS);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, january) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + january, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (seconds, shown) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000000Z"),
            (1_709_210_096, "2024-02-29T12:34:56.000000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000000Z"),
            (18_446_744_073, "2554-07-21T23:34:33.000000000Z"),
        ] {
            assert_eq!(Rfc3339::of(UnixNanos(seconds * 1_000_000_000)).as_str(), shown);
        }
    }

    #[test]
    fn entry_ids() {
        for ((ms, seq), shown) in [
            ((0, 0), "0-0"),
            ((1_700_000_000_000, 12), "1700000000000-12"),
            ((9, 10), "9-10"),
            ((u64::MAX, u64::MAX), "18446744073709551615-18446744073709551615"),
        ] {
            assert_eq!(EntryId::of(Token(ms, seq)).as_str(), shown);
        }
    }
}
