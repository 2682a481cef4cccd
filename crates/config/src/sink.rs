//! `[[sinks]]`: where results go.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use omma_engine::plan::SinkPlan;

use crate::names::Names;
use crate::outside::Entry;
use crate::problem::quoted;
use crate::read::Table;
use crate::redis::{self, RedisConfig};
use crate::schema::Word;

/// One sink.
#[derive(Debug, Clone, PartialEq)]
pub struct SinkConfig {
    pub plan: SinkPlan,
    pub kind: SinkKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SinkKind {
    /// One JSON object on each line, appended to the file; `None`: to standard output.
    Jsonl { path: Option<PathBuf>, durability: Durability },
    /// Streams of a Redis server or cluster.
    Redis {
        redis: Box<RedisConfig>,
        /// With `{camera}` or `{shard}` in it.
        stream: String,
        form: ResultForm,
        /// About how many entries each stream keeps; `None`: all.
        entries_max: Option<u64>,
        result_bytes_max: usize,
    },
    /// Nowhere.
    Null,
}

/// How results look in Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResultForm {
    Json,
    MessagePack,
    /// That of the Python pipeline which omma replaces.
    Compat,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum FormatWord {
    Json,
    MessagePack,
}

impl Word for FormatWord {
    const WORDS: &'static [(&'static str, Self)] = &[("json", Self::Json), ("msgpack", Self::MessagePack)];
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum WireWord {
    Own,
    Compat,
}

impl Word for WireWord {
    const WORDS: &'static [(&'static str, Self)] = &[("own", Self::Own), ("compat", Self::Compat)];
}

/// When results count as published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// As soon as may be. No sink holds results back in this process today, so that it is the same as `Flush`.
    None,
    /// Once the operating system has them: a crash of the machine loses them.
    Flush,
    /// Once the disk has them.
    Fsync,
}

impl Word for Durability {
    const WORDS: &'static [(&'static str, Self)] =
        &[("none", Self::None), ("flush", Self::Flush), ("fsync", Self::Fsync)];
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum SinkWord {
    Jsonl,
    Redis,
    Null,
}

impl Word for SinkWord {
    const WORDS: &'static [(&'static str, Self)] =
        &[("jsonl", Self::Jsonl), ("redis", Self::Redis), ("null", Self::Null)];
}

pub(crate) fn read(root: &Table<'_>) -> (Vec<SinkConfig>, Names) {
    let mut names = Names::new("sinks");
    // Two sinks that write to one file would tear one another's lines.
    let mut targets: HashMap<PathBuf, String> = HashMap::new();
    let sinks = root.tables("sinks").map(|table| read_sink(&table, &mut names, &mut targets)).collect();
    (sinks, names)
}

fn read_sink(table: &Table<'_>, names: &mut Names, targets: &mut HashMap<PathBuf, String>) -> SinkConfig {
    let word = table.word_if("type");
    let name = names.add(table, table.text("name"));
    let (backoff_min, backoff_max) = (table.millis("backoff_ms_min"), table.millis("backoff_ms_max"));
    ordered(table, "backoff_ms_min", backoff_min, "backoff_ms_max", backoff_max);
    let plan = SinkPlan { name, buffer_frames_max: table.count("buffer_frames_max"), backoff_min, backoff_max };
    let kind = match word {
        Some(SinkWord::Jsonl) => {
            let written = table.text("path");
            let path = if written.as_deref() == Some("-") { None } else { table.path("path") };
            if let Some(written) = written {
                check_target(table, &written, path.as_deref(), targets);
            }
            SinkKind::Jsonl { path, durability: table.word_or("durability", Durability::Flush) }
        }
        Some(SinkWord::Redis) => redis_streams(table, targets),
        Some(SinkWord::Null) | None => SinkKind::Null,
    };
    SinkConfig { plan, kind }
}

fn redis_streams(table: &Table<'_>, targets: &mut HashMap<PathBuf, String>) -> SinkKind {
    let redis = Box::new(redis::read(table));
    let stream = table.text("stream").unwrap_or_default();
    // Each result has its place in its stream once: of two sinks, the second would find it taken.
    let target = PathBuf::from(format!("{} {stream}", redis.url));
    if let Some(first) = targets.get(&target) {
        let found = format!("{}, which {first} writes to already", quoted(&stream));
        table.problem("stream", found, "other streams for each sink");
    } else {
        targets.insert(target, table.place().to_owned());
    }
    let format = table.word_or("format", FormatWord::Json);
    let form = match (table.word_or("wire", WireWord::Own), format) {
        (WireWord::Own, FormatWord::Json) => ResultForm::Json,
        (WireWord::Own, FormatWord::MessagePack) => ResultForm::MessagePack,
        (WireWord::Compat, FormatWord::Json) => ResultForm::Compat,
        (WireWord::Compat, FormatWord::MessagePack) => {
            table.problem("format", "\"msgpack\" with wire = \"compat\"", "\"json\", which that wire is made of");
            ResultForm::Compat
        }
    };
    SinkKind::Redis {
        redis,
        stream,
        form,
        entries_max: table.integer("entries_max"),
        result_bytes_max: table.count("result_bytes_max"),
    }
}

/// A pattern of streams: one `{camera}` or one `{shard}`.
pub(crate) fn fits_stream(text: &str) -> bool {
    let holes = text.matches("{camera}").count() + text.matches("{shard}").count();
    holes == 1 && text.len() <= 512 && !text.chars().any(char::is_control)
}

/// Reports a smallest value above the largest, at the one that is written.
fn ordered(table: &Table<'_>, min_name: &str, min: Duration, max_name: &str, max: Duration) {
    if min <= max {
        return;
    }
    let (min, max) = (min.as_millis(), max.as_millis());
    if table.has(min_name) {
        table.problem(min_name, min.to_string(), format!("at most {max_name}, which is {max}"));
    } else {
        table.problem(max_name, max.to_string(), format!("at least {min_name}, which is {min}"));
    }
}

fn check_target(table: &Table<'_>, written: &str, path: Option<&Path>, targets: &mut HashMap<PathBuf, String>) {
    let target = path.map_or_else(|| PathBuf::from("-"), Path::to_path_buf);
    if let Some(first) = targets.get(&target) {
        table.problem(
            "path",
            format!("{}, which {first} writes to already", quoted(written)),
            "another file for each sink",
        );
    } else {
        targets.insert(target, table.place().to_owned());
    }
    let Some(path) = path else { return };
    match table.doc.outside.entry(path) {
        Entry::Folder => table.problem("path", format!("{}, a folder", quoted(written)), "the path of a file"),
        Entry::Unreadable(why) => {
            table.problem("path", format!("{} ({why})", quoted(written)), "a file that can be written")
        }
        Entry::File | Entry::Special => {}
        Entry::Missing => {
            let folder = path.parent().unwrap_or(path);
            if table.doc.outside.entry(folder) != Entry::Folder {
                let found =
                    format!("{}, but there is no folder {}", quoted(written), quoted(&folder.to_string_lossy()));
                table.problem("path", found, "a file in a folder that exists");
            }
        }
    }
}
