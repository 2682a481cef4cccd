//! The configuration: a TOML file, checked into a [`Config`] that cannot be wrong.
//!
//! Two steps. The document is parsed and held against the table of keys (`keys`): unknown and missing keys, types,
//! ranges. Then the sections are read into the types that the engine and the adapters take, which finds what only
//! shows between keys: names that nobody bears, settings that exclude one another, files that are not there. Neither
//! step stops at the first problem: all come back at once, each with its place ([`Problems`]).
//!
//! Rejected: serde's derive. It stops at the first problem, and its defaults, ranges and documentation would stand in
//! three places; here the reference page and the effective configuration are made of the same table that checks.
//!
//! Relative paths begin at the folder of the file, so that a configuration means the same wherever it is started from.
//! Runs once at start, on the caller's thread.

mod engine;
mod files;
mod keys;
mod model;
mod names;
mod nearest;
mod output;
mod outside;
mod problem;
mod read;
mod redis;
mod reference;
mod schema;
mod secret;
mod sink;
mod source;
mod triton;
mod verify;

use std::io;
use std::net::SocketAddr;
use std::path::{self, Path};

use omma_engine::cameras::CameraPlan;
use omma_engine::plan::EnginePlan;
use toml::de::DeTable;

pub use engine::DirectConfig;
pub use model::{
    BackendConfig, BatchAs, InputConfig, ModelConfig, Provider, PythonConfig, PythonDevice, Runtime, Waiting,
};
pub use output::{Activation, AnchorAxis, Background, BoxForm, BoxUnits, Decoder, OutputConfig};
pub use outside::{Entry, Outside, ThisMachine};
pub use problem::{Place, Problem, Problems};
pub use redis::RedisConfig;
pub use reference::reference;
pub use secret::Secret;
pub use sink::{Durability, ResultForm, SinkConfig, SinkKind};
pub use source::{FrameWire, Login, Pace, RedisStreams, SourceConfig, SourceKind, Stream};
pub use triton::{SendAs, SharedMemoryUse, TritonConfig};

use problem::{Finding, Findings, Text};
use read::{Document, Table};

/// Room for some 100,000 cameras with a URL each.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// A larger text that is no TOML is told its first fault only: each costs memory, and there may be one per byte.
const ALL_SYNTAX_BYTES_MAX: usize = 1 << 20;

/// A configuration that is complete and consistent.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub engine: EnginePlan,
    /// Where metrics and health are served.
    pub http: Option<SocketAddr>,
    pub direct: DirectConfig,
    /// Never empty, as sources and sinks are not.
    pub models: Vec<ModelConfig>,
    pub sources: Vec<SourceConfig>,
    pub sinks: Vec<SinkConfig>,
    /// The sets of sinks that sources name, each once: places among the sinks, rising.
    pub routes: Vec<Vec<usize>>,
    effective: String,
}

impl Config {
    /// The complete configuration as TOML, all defaults filled in: it reads back as the same configuration. Passwords
    /// are not in it, only where they come from.
    #[must_use]
    pub fn effective(&self) -> &str {
        &self.effective
    }

    /// The cameras of all sources, in their order.
    pub fn cameras(&self) -> impl Iterator<Item = CameraPlan> {
        self.sources.iter().flat_map(SourceConfig::camera_plans)
    }
}

/// Reads and checks a file.
///
/// # Errors
/// Everything that is wrong with it, or that it cannot be read.
pub fn load(path: &Path) -> Result<Config, Problems> {
    let file = path.to_string_lossy();
    let refused = |found: String| {
        let problem = Problem::of_file(&file, found, "a configuration in TOML");
        Err(Problems { problems: vec![problem], omitted: 0 })
    };
    let bytes = match ThisMachine.read(path, FILE_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return refused("no such file".to_owned()),
        Err(error) => return refused(format!("a file that cannot be read ({error})")),
    };
    match String::from_utf8(bytes) {
        Ok(text) => parse(&text, &file, &ThisMachine),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let line = error.as_bytes().iter().take(at).filter(|&&byte| byte == b'\n').count() + 1;
            refused(format!("bytes that are not UTF-8 in line {line}"))
        }
    }
}

/// Checks a text as if it stood in a file of this name. Of the outside only what `outside` shows is looked at.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(text: &str, file: &str, outside: &dyn Outside) -> Result<Config, Problems> {
    let source = Text::new(file, text);
    let root = match DeTable::parse(text) {
        Ok(root) => root,
        Err(first) => {
            // What could be recovered from a broken text has holes: checking it would report what is not wrong.
            let all = if text.len() > ALL_SYNTAX_BYTES_MAX { vec![first] } else { DeTable::parse_recoverable(text).1 };
            let mut findings = Findings::default();
            all.iter().for_each(|error| findings.push(syntax(error)));
            return Err(source.problems(findings));
        }
    };
    // An absolute path needs only the current folder, and that only where the name of the file is relative.
    let folder = Path::new(file).parent().unwrap_or(Path::new(""));
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let document = Document::new(path::absolute(folder).unwrap_or_else(|_| folder.to_path_buf()), outside);
    verify::verify(&keys::ROOT, root.get_ref(), "", None, &mut document.findings.borrow_mut());
    let config = assemble(&document, root.get_ref());
    let findings = document.findings.take();
    if findings.is_empty() {
        Ok(Config { effective: document.effective(), ..config })
    } else {
        Err(source.problems(findings))
    }
}

fn assemble<'d>(document: &'d Document<'d>, root: &'d DeTable<'d>) -> Config {
    let root = Table::open(document, &keys::ROOT, Some(root), String::new(), None);
    let engine = engine::read(&root);
    let (models, model_names) = model::read(&root, &engine.defaults);
    // Sinks before sources, which name them.
    let (sinks, sink_names) = sink::read(&root);
    let (sources, routes) = source::read(&root, &model_names, &sink_names, &sinks);
    Config {
        engine: engine.plan,
        http: engine.http,
        direct: engine.direct,
        models,
        sources,
        sinks,
        routes,
        effective: String::new(),
    }
}

fn syntax(error: &toml::de::Error) -> Finding {
    let (found, expected) = error.message().split_once(", expected ").unwrap_or((error.message(), ""));
    Finding {
        span: error.span(),
        key: String::new(),
        found: format!("no valid TOML: {found}"),
        expected: expected.to_owned(),
        hint: None,
    }
}
