//! Natural order of file names: `frame2` before `frame10`.

use std::cmp::Ordering;

/// Compares texts, runs of digits by their value (of any length), everything else by bytes. Total: texts that differ
/// only in leading zeros are ordered by bytes.
pub(crate) fn natural(a: &str, b: &str) -> Ordering {
    let (mut rest_a, mut rest_b) = (a.as_bytes(), b.as_bytes());
    loop {
        let (digits_a, digits_b) = (digits(rest_a), digits(rest_b));
        if digits_a > 0 && digits_b > 0 {
            let (number_a, number_b) = (value(&rest_a[..digits_a]), value(&rest_b[..digits_b]));
            let order = number_a.len().cmp(&number_b.len()).then(number_a.cmp(number_b));
            if order.is_ne() {
                return order;
            }
            (rest_a, rest_b) = (&rest_a[digits_a..], &rest_b[digits_b..]);
            continue;
        }
        match (rest_a.split_first(), rest_b.split_first()) {
            (Some((x, after_a)), Some((y, after_b))) if x == y => (rest_a, rest_b) = (after_a, after_b),
            (Some((x, _)), Some((y, _))) => return x.cmp(y),
            (None, None) => return a.cmp(b),
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
        }
    }
}

fn digits(text: &[u8]) -> usize {
    text.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

fn value(digits: &[u8]) -> &[u8] {
    let zeros = digits.iter().take_while(|&&byte| byte == b'0').count();
    &digits[zeros..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn order() {
        for (less, greater) in [
            ("frame2.jpg", "frame10.jpg"),
            ("frame02.jpg", "frame2.jpg"),
            ("a", "b"),
            ("a", "a1"),
            ("cam1/2.png", "cam1/11.png"),
            ("cam9/9.png", "cam10/1.png"),
            ("7", "seven"),
            ("99999999999999999999998", "99999999999999999999999"),
            ("", "x"),
        ] {
            assert_eq!(
                (natural(less, greater), natural(greater, less)),
                (Ordering::Less, Ordering::Greater),
                "{less} {greater}"
            );
        }
    }

    proptest! {
        #[test]
        fn it_is_a_total_order(mut texts in prop::collection::vec("[a0-3/]{0,6}", 3)) {
            texts.sort_by(|a, b| natural(a, b));
            prop_assert!(natural(&texts[0], &texts[2]).is_le());
            prop_assert_eq!(natural(&texts[0], &texts[1]).is_eq(), texts[0] == texts[1]);
        }
    }
}
