//! What a server's refusal of a result means: it is there already, it will never be taken, or it must be tried again.
//!
//! Pure. What concerns one key only is that camera's misfortune and must not stop the others; what concerns the server
//! or the user is everybody's, and passes.

use omma_engine::sink::Retry;

use crate::redis::LinkError;

/// What a refusal means for one result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its id is not above the stream's last: it, or a later one, has been written.
    NotAbove,
    /// No repetition helps.
    Never(String),
    /// Everything is refused at the moment.
    Later(LinkError),
    /// The commands before it in its transaction say why.
    Aborted,
}

/// Refusals that concern the key or the result and will not change by themselves. Whatever else a server may say is taken
/// for its own trouble and waited out: to drop results for a word that is not known would be the worse mistake.
const FOR_GOOD: [&str; 6] = [
    "WRONGTYPE",
    "CROSSSLOT",
    "ERR The ID specified",
    "ERR The stream has exhausted",
    "ERR string exceeds maximum",
    "ERR Invalid stream ID",
];

pub(super) fn verdict(text: &str) -> Verdict {
    let text = within_script(text);
    if text.starts_with("EXECABORT") {
        return Verdict::Aborted;
    }
    if text.contains("equal or smaller than the target stream top item") {
        return Verdict::NotAbove;
    }
    let said = LinkError::of_refusal(text);
    // A user that may not touch this key may touch others; one that may not XADD may nothing.
    let key_forbidden = text.starts_with("NOPERM") && text.contains("key");
    if key_forbidden || FOR_GOOD.iter().any(|beginning| text.starts_with(beginning)) {
        return Verdict::Never(said.message);
    }
    Verdict::Later(LinkError { retry: Retry::Backoff, ..said })
}

/// Older servers put the refusal of a script's command behind the script's own: `ERR Error running script (...):
/// @user_script:9: -OOM command not allowed`.
fn within_script(text: &str) -> &str {
    let inner = text.starts_with("ERR").then(|| text.split_once("@user_script")).flatten();
    inner.and_then(|(_, rest)| rest.split_once(": -")).map_or(text, |(_, inner)| inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals() {
        let later = |text: &str| {
            let found = verdict(text);
            assert!(matches!(&found, Verdict::Later(LinkError { retry: Retry::Backoff, .. })), "{text}: {found:?}");
        };
        later("OOM command not allowed when used memory > 'maxmemory'.");
        later("OOM command not allowed when used memory > 'maxmemory'. script: 4a7b, on @user_script:9.");
        later("ERR Error running script (call to f_4a7b): @user_script:9: -OOM command not allowed when used memory");
        later("READONLY You can't write against a read only replica.");
        later("NOAUTH Authentication required.");
        later("MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.");
        later("BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.");
        later("LOADING Redis is loading the dataset in memory");
        later("NOPERM User omma has no permissions to run the 'xadd' command");
        later("CLUSTERDOWN The cluster is down");
        later("ERR unknown command 'XADD'");
        later("");

        let never = |text: &str, said: &str| {
            let found = verdict(text);
            assert!(matches!(&found, Verdict::Never(message) if message.contains(said)), "{text}: {found:?}");
        };
        never("WRONGTYPE Operation against a key holding the wrong kind of value", "wrong kind of value");
        never("NOPERM No permissions to access a key", "the user's ACL does not allow it");
        never("ERR The ID specified in XADD must be greater than 0-0", "greater than 0-0");

        let table = [
            ("ERR The ID specified in XADD is equal or smaller than the target stream top item", Verdict::NotAbove),
            ("EXECABORT Transaction discarded because of previous errors.", Verdict::Aborted),
        ];
        table.into_iter().for_each(|(text, expected)| assert_eq!(verdict(text), expected));
    }
}
