//! Where the native runtimes' libraries are: searched for in a fixed order, without starting a process.
//!
//! 1. what the configuration names; 2. the environment variable; 3. omma's cache folder, which `make runtimes` fills;
//! 4. beside the executable; 5. the site-packages of the Python in PATH; 6. the system's library folders.
//!
//! What a person named (1, 2) must be there: falling back to another copy would hide their mistake.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::onnx::Refusal;

/// A native library, as its distributions name things.
pub(super) struct Wanted {
    /// `libX.so`, which may be followed by a version.
    pub(super) file: &'static str,
    pub(super) variable: &'static str,
    /// Folders of the cache begin with this, followed by a version.
    pub(super) cached: &'static str,
    /// The folder below Python's site-packages.
    pub(super) package: &'static str,
}

/// The machine's places, gathered once per search so that tests can make up their own.
#[derive(Debug, Default)]
struct Places {
    variable: Option<PathBuf>,
    cache: Option<PathBuf>,
    beside: Option<PathBuf>,
    site_packages: Vec<PathBuf>,
    system: Vec<PathBuf>,
}

/// The library to load: `named` if given, else the first in the order above.
///
/// # Errors
/// `Refused`: what was named is not there. `Absent`: nothing was named and nothing was found; says where it looked.
pub(super) fn find(wanted: &Wanted, named: Option<&Path>) -> Result<PathBuf, Refusal> {
    search(wanted, named, &Places::of_this_process(wanted))
}

fn search(wanted: &Wanted, named: Option<&Path>, places: &Places) -> Result<PathBuf, Refusal> {
    let by_variable = places.variable.as_deref().map(|path| (path, wanted.variable));
    if let Some((path, by)) = named.map(|path| (path, "library")).or(by_variable) {
        if path.is_file() {
            return Ok(path.into());
        }
        return newest(path, wanted.file).ok_or_else(|| {
            Refusal::Refused(format!(
                "{by} = {} is neither the library {} nor a folder that holds it",
                path.display(),
                wanted.file
            ))
        });
    }
    let mut folders = Vec::new();
    if let Some(cache) = &places.cache {
        let mut versions: Vec<_> = entries(cache).filter(|(_, name)| name.starts_with(wanted.cached)).collect();
        versions.sort_by_key(|(_, name)| std::cmp::Reverse(version(&name[wanted.cached.len()..])));
        folders.extend(versions.into_iter().map(|(path, _)| path));
    }
    folders.extend(places.beside.clone());
    folders.extend(places.site_packages.iter().map(|folder| folder.join(wanted.package)));
    folders.extend(places.system.iter().cloned());
    folders.iter().find_map(|folder| newest(folder, wanted.file)).ok_or_else(|| {
        let looked = places.cache.iter().chain(&folders).map(|folder| folder.display().to_string()).collect::<Vec<_>>();
        Refusal::Absent(format!("no {} in {}", wanted.file, looked.join(", ")))
    })
}

impl Places {
    fn of_this_process(wanted: &Wanted) -> Self {
        let path = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = path("HOME");
        let caches = path("XDG_CACHE_HOME").or_else(|| home.as_ref().map(|home| home.join(".cache")));
        let split = |name: &str| {
            env::var_os(name).map(|value| env::split_paths(&value).collect::<Vec<_>>()).unwrap_or_default()
        };
        let mut system = split("LD_LIBRARY_PATH");
        system.extend(
            [
                "/usr/local/lib",
                "/usr/lib",
                "/usr/lib/x86_64-linux-gnu",
                "/usr/lib/aarch64-linux-gnu",
                "/usr/lib64",
                "/opt/intel/openvino/runtime/lib/intel64",
            ]
            .map(PathBuf::from),
        );
        Self {
            variable: path(wanted.variable),
            cache: caches.map(|caches| caches.join("omma/runtimes")),
            beside: env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_owned)),
            site_packages: site_packages(&split("PATH"), home.as_deref()),
            system,
        }
    }
}

/// The package folders of the first `python3` in PATH and of the user: told from where it lies. Asking Python itself
/// would cost a process and 20 ms at each start.
fn site_packages(path: &[PathBuf], home: Option<&Path>) -> Vec<PathBuf> {
    let prefix = path.iter().find(|folder| folder.join("python3").is_file()).and_then(|folder| folder.parent());
    let mut roots: Vec<_> = prefix.map(Path::to_owned).into_iter().collect();
    if prefix == Some(Path::new("/usr")) {
        // Where Debian's own Python puts what pip installs.
        roots.push("/usr/local".into());
    }
    roots.extend(home.map(|home| home.join(".local")));
    let mut found = Vec::new();
    for root in roots {
        let mut versions: Vec<_> =
            entries(&root.join("lib")).filter(|(_, name)| name.starts_with("python3.")).collect();
        versions.sort_by_key(|(_, name)| std::cmp::Reverse(version(&name["python".len()..])));
        found.extend(
            versions.iter().flat_map(|(folder, _)| [folder.join("site-packages"), folder.join("dist-packages")]),
        );
    }
    found.retain(|folder| folder.is_dir());
    found
}

/// `file`, or the newest of `file.VERSION`, in `folder`.
fn newest(folder: &Path, file: &str) -> Option<PathBuf> {
    let plain = folder.join(file);
    if plain.is_file() {
        return Some(plain);
    }
    let suffix =
        |name: &str| Some(version(name.strip_prefix(file)?.strip_prefix('.')?)).filter(|version| !version.is_empty());
    entries(folder).filter_map(|(path, name)| Some((suffix(&name)?, path))).max().map(|(_, path)| path)
}

/// The folders of Python packages that go with a library: those that it was installed among, and those of the Python
/// in PATH.
#[cfg(feature = "onnxruntime")]
pub(super) fn packages_around(library: &Path) -> Vec<PathBuf> {
    let among = library
        .ancestors()
        .skip(1)
        .find(|folder| folder.ends_with("site-packages") || folder.ends_with("dist-packages"));
    let home = env::var_os("HOME").map(PathBuf::from);
    let path = env::var_os("PATH").map(|value| env::split_paths(&value).collect::<Vec<_>>()).unwrap_or_default();
    among.map(Path::to_owned).into_iter().chain(site_packages(&path, home.as_deref())).collect()
}

/// What a folder holds, with its names; nothing if it cannot be read.
pub(super) fn entries(folder: &Path) -> impl Iterator<Item = (PathBuf, String)> {
    let names = std::fs::read_dir(folder).into_iter().flatten().flatten();
    names.filter_map(|entry| Some((entry.path(), OsString::into_string(entry.file_name()).ok()?)))
}

/// The numbers of a version, so that 1.10 is newer than 1.9; empty for what does not begin with a number.
fn version(text: &str) -> Vec<u64> {
    text.split('.').map_while(|part| part.parse().ok()).collect()
}

/// The version at the end of a library's real file name, for people.
pub(super) fn version_of(library: &Path, wanted: &Wanted) -> String {
    let real = library.canonicalize().unwrap_or_else(|_| library.into());
    let name = real.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.strip_prefix(wanted.file).and_then(|rest| rest.strip_prefix('.')).unwrap_or("of unknown version").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: Wanted =
        Wanted { file: "libmodel.so", variable: "OMMA_MODEL", cached: "model-", package: "model/capi" };

    fn touch(root: &Path, path: &str) -> PathBuf {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(&path, "").expect("a file");
        path
    }

    /// All places below `root`, none of them filled yet.
    fn places(root: &Path) -> Places {
        Places {
            variable: None,
            cache: Some(root.join("cache")),
            beside: Some(root.join("bin")),
            site_packages: vec![root.join("site")],
            system: vec![root.join("system")],
        }
    }

    #[test]
    fn earlier_places_win_over_later_ones_and_newer_versions_over_older() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let root = root.path();
        // From the last place to the first: each file added must win over those before it.
        for file in [
            "system/libmodel.so",
            "site/model/capi/libmodel.so.1.2",
            "bin/libmodel.so.9",
            "cache/model-1.9.0/libmodel.so.1.9.0",
            "cache/model-1.10.0/libmodel.so.1.9.9",
            "cache/model-1.10.0/libmodel.so.1.10.0",
        ] {
            let path = touch(root, file);
            assert_eq!(search(&WANTED, None, &places(root)).expect(file), path);
        }
    }

    #[test]
    fn what_was_named_wins_as_file_or_folder_and_must_be_there() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let root = root.path();
        touch(root, "cache/model-1.0/libmodel.so");
        let mine = touch(root, "mine/libmodel.so.3");
        for named in [root.join("mine"), mine.clone()] {
            assert_eq!(search(&WANTED, Some(&named), &places(root)).expect("named"), mine);
            let by_variable = Places { variable: Some(named), ..places(root) };
            assert_eq!(search(&WANTED, None, &by_variable).expect("by variable"), mine);
        }
        let wrong = Places { variable: Some(root.join("nowhere")), ..places(root) };
        match search(&WANTED, None, &wrong) {
            Err(Refusal::Refused(message)) => assert!(message.starts_with("OMMA_MODEL = "), "{message}"),
            other => panic!("expected a refusal, found {other:?}"),
        }
    }

    #[test]
    fn nothing_found_says_where_it_looked() {
        let root = tempfile::tempdir().expect("a temporary folder");
        match search(&WANTED, None, &places(root.path())) {
            Err(Refusal::Absent(message)) => {
                for place in ["libmodel.so", "cache", "bin", "site/model/capi", "system"] {
                    assert!(message.contains(place), "{place} is missing in: {message}");
                }
            }
            other => panic!("expected absence, found {other:?}"),
        }
    }

    #[test]
    fn the_site_packages_of_the_python_in_path_come_newest_first() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let root = root.path();
        touch(root, "venv/bin/python3");
        touch(root, "venv/lib/python3.9/site-packages/x");
        touch(root, "venv/lib/python3.11/site-packages/x");
        let expected =
            ["venv/lib/python3.11/site-packages", "venv/lib/python3.9/site-packages"].map(|folder| root.join(folder));
        assert_eq!(site_packages(&[root.join("empty"), root.join("venv/bin")], None), expected);
    }
}
