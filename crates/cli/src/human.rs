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
        assert_eq!((counted(1, "camera"), counted(2000, "camera")), ("1 camera".into(), "2,000 cameras".into()));
    }
}
