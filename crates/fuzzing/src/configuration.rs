//! Texts that people write: the configuration, and files of labels.

use std::io;
use std::path::Path;

use omma_config::{Config, Entry, Outside, Problems, parse};
use omma_engine::post::labels::Labels;

/// Stands in a variable and a file, and nowhere in a seed.
const PASSWORD: &str = "Xq7-never-written-Vb2";

/// A machine that has whatever is asked for, but a few things that are wrong; `labels` is what its files hold.
struct AnyMachine<'a> {
    labels: &'a [u8],
}

impl Outside for AnyMachine<'_> {
    fn variable(&self, name: &str) -> Option<String> {
        (name != "NONE").then(|| PASSWORD.to_owned())
    }

    fn cores(&self) -> usize {
        4
    }

    fn entry(&self, path: &Path) -> Entry {
        match path.file_name().and_then(|name| name.to_str()) {
            Some("none") => Entry::Missing,
            Some("pipe") => Entry::Special,
            Some("locked") => Entry::Unreadable("permission denied".to_owned()),
            Some(name) if name.contains('.') => Entry::File,
            _ => Entry::Folder,
        }
    }

    fn read(&self, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
        let bytes = if path.ends_with("password.txt") { PASSWORD.as_bytes() } else { self.labels };
        if bytes.len() as u64 > bytes_max {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "too large"));
        }
        Ok(bytes.to_vec())
    }
}

fn read(text: &str, labels: &[u8]) -> Result<Config, Problems> {
    parse(text, "/c/o.toml", &AnyMachine { labels })
}

/// A configuration.
pub fn configuration(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let read = |text: &str| read(text, b"person\ncar\n");
    let said = match read(text) {
        Ok(config) => {
            let effective = config.effective();
            let again = read(effective).unwrap_or_else(|problems| panic!("{problems}\nin\n{effective}"));
            assert_eq!(again, config, "it reads back as another one");
            effective.to_owned()
        }
        Err(problems) => {
            assert!(!problems.problems.is_empty() && problems.problems.len() <= 1000);
            let lines = text.lines().count() + 1;
            for problem in &problems.problems {
                assert!(!problem.found.is_empty(), "{problem:?}");
                assert!(problem.place.is_none_or(|place| (1..=lines).contains(&place.line) && place.column > 0));
            }
            problems.to_string()
        }
    };
    assert!(text.contains(PASSWORD) || !said.contains(PASSWORD), "{said}");
}

pub(crate) fn configuration_seeds() -> Vec<Vec<u8>> {
    let texts: [&str; 7] = [
        include_str!("../../config/tests/everything.toml"),
        include_str!("../../../config/demo.toml"),
        include_str!("../../../config/images.toml"),
        include_str!("../../../config/mjpeg.toml"),
        include_str!("../../../config/null.toml"),
        "[[sources]]\ntype = \"mjpeg_http\"\nusername = \"u\"\npassword_file = \"password.txt\"\n\
         urls = [{ camera = \"a\", url = \"http://u:p@h/\" }]\n[[sources]]\ntype = \"mjpeg_file\"\npath = \"a.mjpeg\"\n\
         [[models]]\nname = \"m\"\nruntime = \"simulated\"\nbase_ms = 1\n[[sinks]]\ntype = \"null\"\nname = \"k\"\n",
        "[a\nb = \n[[c]]\nd = 1_\n\"e\" = 2026-01-01T00:00:00Z\nf = '''\n",
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// A file of labels.
pub fn labels(bytes: &[u8]) {
    const TEXT: &str = "[[models]]\nname = \"m\"\nruntime = \"null\"\n[models.output]\nlabels_file = \"labels.txt\"\n\
                        [[sources]]\ntype = \"synthetic\"\n[[sinks]]\ntype = \"null\"\nname = \"k\"\n";
    let configured = read(TEXT, bytes).map(|config| config.models[0].output.labels.clone());
    let Ok(text) = std::str::from_utf8(bytes) else {
        assert!(configured.is_err(), "labels of bytes that are no text");
        return;
    };
    match (Labels::parse(text), configured) {
        (Ok(labels), Ok(names)) => {
            assert_eq!(labels.len(), names.len());
            let mut classes = (0..).zip(&names);
            assert!(classes.all(|(class, name)| labels.name(class) == *name), "{labels:?} and {names:?}");
        }
        (Err(error), Err(problems)) => assert!(!error.to_string().is_empty() && !problems.to_string().is_empty()),
        (engine, configured) => panic!("the engine says {engine:?}, the configuration {configured:?}"),
    }
}

pub(crate) fn labels_seeds() -> Vec<Vec<u8>> {
    let texts = [
        "person\ncar\n",
        "\u{feff}  a\tb \r\nN/A\r\n\r\n",
        "a\n\nb",
        "",
        "Зайчик\n# x\u{85}y\u{2028}z",
        "a\u{b}\n\u{a0}\n",
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).chain([vec![b'x'; 257], b"caf\xe9".to_vec()]).collect()
}
