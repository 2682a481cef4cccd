//! Numbers as people read them.

use std::time::Duration;

/// `12345` as `12,345`.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A rate with as many digits as mean something.
pub fn rate(per_s: f64) -> String {
    if per_s >= 1000.0 {
        count(per_s.round() as u64)
    } else if per_s >= 100.0 {
        format!("{per_s:.0}")
    } else {
        format!("{per_s:.1}")
    }
}

/// A latency, in the unit that fits it.
pub fn time(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1e3;
    if ms >= 10_000.0 {
        format!("{:.1} s", ms / 1e3)
    } else if ms >= 100.0 {
        format!("{ms:.0} ms")
    } else if ms >= 10.0 {
        format!("{ms:.1} ms")
    } else {
        format!("{ms:.2} ms")
    }
}

/// `1 camera`, `2 cameras`.
pub fn counted(value: usize, noun: &str) -> String {
    format!("{} {noun}{}", count(value as u64), if value == 1 { "" } else { "s" })
}

/// Seconds since 1970 as `2031-05-07 14:02 UTC`.
pub fn date(unix_s: u64) -> String {
    let (days, seconds) = (unix_s / 86_400, unix_s % 86_400);
    // The calendar from March on, in which a leap day is the last of its year: days to eras of 400 years, then down.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + next;
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", seconds / 3600, seconds / 60 % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_people_read_them() {
        for (value, expected) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(value), expected);
        }
        for (value, expected) in [(0.0, "0.0"), (9.96, "10.0"), (123.4, "123"), (12_345.6, "12,346")] {
            assert_eq!(rate(value), expected);
        }
        for (us, expected) in [(42, "0.04 ms"), (4_250, "4.25 ms"), (42_500, "42.5 ms"), (425_000, "425 ms"), (42_500_000, "42.5 s")] {
            assert_eq!(time(Duration::from_micros(us)), expected);
        }
        for (unix_s, expected) in [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_340, "2000-02-28 23:59 UTC"),
            (951_782_400, "2000-02-29 00:00 UTC"),
            (1_709_251_200, "2024-03-01 00:00 UTC"),
            (4_102_444_799, "2099-12-31 23:59 UTC"),
        ] {
            assert_eq!(date(unix_s), expected);
        }
        assert_eq!((counted(1, "camera"), counted(2000, "camera")), ("1 camera".into(), "2,000 cameras".into()));
    }
}
