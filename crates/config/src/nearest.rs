//! "did you mean": the known word that a misspelt one is nearest to.

/// The candidate that differs least from `word`, if it differs little enough to be meant: a third of its letters,
/// at least one of three. Case and the choice between `-` and `_` are not counted as a difference.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = folded(word);
    let distance_max = (word.len() / 3).max(usize::from(word.len() > 2));
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let other = folded(candidate);
            // A whole part of a longer name is the commonest slip: `batch_timeout` for `batch_timeout_ms`.
            let part = word.len() >= 4 && (other.starts_with(&word) || other.ends_with(&word));
            let distance = if part { 1 } else { distance(&word, &other, distance_max)? };
            Some((distance, candidate))
        })
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

fn folded(word: &str) -> Vec<char> {
    word.chars().take(64).flat_map(char::to_lowercase).map(|c| if c == '-' || c == ' ' { '_' } else { c }).collect()
}

/// Insertions, deletions, replacements and swaps of neighbours from one word to the other; `None` above the limit.
fn distance(a: &[char], b: &[char], distance_max: usize) -> Option<usize> {
    if a.len().abs_diff(b.len()) > distance_max {
        return None;
    }
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before_last[j - 2] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last.last().copied().filter(|&distance| distance <= distance_max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant() {
        let keys = ["batch_size", "batch_size_max", "batch_timeout_ms", "mode", "path", "name"];
        let table = [
            ("batch_size", Some("batch_size")),
            ("batchsize", Some("batch_size")),
            ("BATCH_SIZE", Some("batch_size")),
            ("batch-size-max", Some("batch_size_max")),
            ("batch_timeout", Some("batch_timeout_ms")),
            ("timeout_ms", Some("batch_timeout_ms")),
            ("mdoe", Some("mode")),
            ("modes", Some("mode")),
            ("pth", Some("path")),
            ("x", None),
            ("k", None),
            ("at", None),
            ("", None),
            ("something_else", None),
        ];
        for (word, expected) in table {
            assert_eq!(nearest(word, keys), expected, "{word}");
        }
    }
}
