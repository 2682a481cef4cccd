//! A real redis-server of a test's own: on a free port and a Unix socket in a temporary folder, with the faults that a
//! server can have.
//!
//! `OMMA_REDIS_SERVER` names another program in its place: a Valkey.
//!
//! Where the program is missing, [`RedisServer::start`] says so and gives none, or fails if `OMMA_REQUIRE_RUNTIMES=1`.

use std::ffi::OsString;
use std::io::{self, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::ports::free_port;
use crate::process::{ServerProcess, required};

/// A server that takes longer to start, to load its files or to join its cluster is broken.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a test wants of its server.
#[derive(Debug, Clone, Default)]
pub struct RedisSetup {
    /// Each write is on disk before it is answered, so that nothing is lost by kill -9.
    pub append_only: bool,
    pub bytes_max: Option<u64>,
    pub password: Option<String>,
    pub cluster: bool,
    /// Further settings, as on the command line: `["--maxmemory-policy", "noeviction"]`.
    pub more: Vec<String>,
}

/// A running server, or one that was killed and may be started again on the same files.
pub struct RedisServer {
    folder: tempfile::TempDir,
    port: u16,
    arguments: Vec<OsString>,
    process: ServerProcess,
    password: Option<String>,
}

/// The program that is started.
fn program() -> OsString {
    std::env::var_os("OMMA_REDIS_SERVER").filter(|told| !told.is_empty()).unwrap_or_else(|| "redis-server".into())
}

/// Whether there is a redis-server to be started; says loudly if there is none.
///
/// # Panics
/// There is none and `OMMA_REQUIRE_RUNTIMES=1`.
#[must_use]
pub fn is_installed() -> bool {
    let program = program();
    let found = Command::new(&program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    required(found.is_ok_and(|status| status.success()), &program.to_string_lossy())
}

impl RedisServer {
    /// Starts a server and waits until it answers; `None`: there is no redis-server here, which has been said.
    ///
    /// # Panics
    /// The server does not start.
    #[must_use]
    pub fn start(setup: &RedisSetup) -> Option<Self> {
        if !is_installed() {
            return None;
        }
        // A port that was free may be taken by the time the server asks for it.
        for _ in 0..5 {
            let folder = tempfile::Builder::new().prefix("redis-").tempdir().expect("a temporary folder");
            let port = free_port();
            let arguments = arguments(setup, folder.path(), port, free_port());
            let (process, password) = (ServerProcess::default(), setup.password.clone());
            let mut server = Self { folder, port, arguments, process, password };
            server.spawn();
            if server.wait_ready() {
                return Some(server);
            }
        }
        panic!("redis-server does not start on any of five free ports");
    }

    /// `redis://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// `unix:///...`, which is the faster way.
    #[must_use]
    pub fn unix_url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("redis.sock")
    }

    /// The server's process, for whoever looks at what it uses; `None` while it is dead.
    #[must_use]
    pub fn process(&self) -> Option<u32> {
        self.process.id()
    }

    /// A connection of the test's own.
    ///
    /// # Panics
    /// The server does not answer.
    #[must_use]
    pub fn client(&self) -> RedisClient {
        let mut client = RedisClient::connect(&self.socket()).expect("the server's socket");
        if let Some(password) = &self.password {
            client.ok(&["AUTH", password]);
        }
        client
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// SIGSTOP: it keeps its connections and answers nobody.
    pub fn pause(&self) {
        self.process.signal(libc::SIGSTOP);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.process.signal(libc::SIGCONT);
    }

    /// Starts a killed server again, on the same files, port and socket.
    ///
    /// # Panics
    /// It does not start.
    pub fn restart(&mut self) {
        self.spawn();
        assert!(self.wait_ready(), "redis-server does not start again");
    }

    fn spawn(&mut self) {
        let mut command = Command::new(program());
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.process.start(&mut command);
    }

    /// Whether it answers; `false`: it has ended.
    fn wait_ready(&mut self) -> bool {
        let (socket, log) = (self.socket(), self.folder.path().join("redis.log"));
        let is_ready = || {
            let answer = RedisClient::connect(&socket).and_then(|mut client| client.command(&["PING"]));
            match answer {
                // NOAUTH too is an answer.
                Ok(Reply::Error(text)) => !text.starts_with("LOADING"),
                Ok(_) => true,
                Err(_) => false,
            }
        };
        self.process.wait(PATIENCE, is_ready, || std::fs::read_to_string(&log).unwrap_or_default())
    }
}

fn arguments(setup: &RedisSetup, folder: &Path, port: u16, bus_port: u16) -> Vec<OsString> {
    let mut words: Vec<OsString> = Vec::new();
    let mut set = |name: &str, value: OsString| words.extend([format!("--{name}").into(), value]);
    set("bind", "127.0.0.1".into());
    set("port", port.to_string().into());
    set("unixsocket", folder.join("redis.sock").into());
    set("dir", folder.into());
    set("logfile", folder.join("redis.log").into());
    set("save", "".into());
    set("daemonize", "no".into());
    if setup.append_only {
        set("appendonly", "yes".into());
        set("appendfsync", "always".into());
    }
    if let Some(bytes) = setup.bytes_max {
        set("maxmemory", bytes.to_string().into());
    }
    if let Some(password) = &setup.password {
        set("requirepass", password.into());
    }
    if setup.cluster {
        set("cluster-enabled", "yes".into());
        set("cluster-port", bus_port.to_string().into());
        set("cluster-node-timeout", "1000".into());
        // Slots whose master is away cost their own cameras only.
        set("cluster-require-full-coverage", "no".into());
    }
    words.extend(setup.more.iter().map(OsString::from));
    words
}

/// A cluster of masters with the slots evenly among them, each with a replica if asked for.
pub struct RedisCluster {
    /// The masters first, then their replicas in the same order.
    pub nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts the nodes and waits until all agree; `None`: there is no redis-server here, which has been said.
    ///
    /// # Panics
    /// The cluster does not come to be.
    #[must_use]
    pub fn start(masters: usize, replicas: bool, setup: &RedisSetup) -> Option<Self> {
        let setup = RedisSetup { cluster: true, ..setup.clone() };
        let count = if replicas { 2 * masters } else { masters };
        let nodes: Vec<RedisServer> = (0..count).map_while(|_| RedisServer::start(&setup)).collect();
        if nodes.len() < count {
            return None;
        }
        for (number, node) in nodes.iter().take(masters).enumerate() {
            let (first, end) = (16_384 * number / masters, 16_384 * (number + 1) / masters);
            node.client().ok(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &(end - 1).to_string()]);
        }
        for node in &nodes[1..] {
            let bus = node.arguments.iter().position(|word| word == "--cluster-port").expect("a cluster's node");
            let (port, bus) = (node.port.to_string(), node.arguments[bus + 1].to_string_lossy().into_owned());
            nodes[0].client().ok(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
        }
        let cluster = Self { nodes };
        cluster.wait_for("cluster_state:ok");
        cluster.wait_for(&format!("cluster_known_nodes:{count}"));
        cluster.wait_for(&format!("cluster_size:{masters}"));
        for (number, replica) in cluster.nodes.iter().enumerate().skip(masters) {
            let master = cluster.nodes[number - masters].client().text(&["CLUSTER", "MYID"]);
            let begin = Instant::now();
            // A node that has heard of the other may still be shaking hands with it.
            while !matches!(replica.client().command(&["CLUSTER", "REPLICATE", &master]), Ok(Reply::Simple(_))) {
                assert!(begin.elapsed() < PATIENCE, "no replica");
                std::thread::sleep(Duration::from_millis(1));
            }
            let begin = Instant::now();
            while !replica.client().text(&["INFO", "replication"]).contains("master_link_status:up") {
                assert!(begin.elapsed() < PATIENCE, "the replica does not follow its master");
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Some(cluster)
    }

    /// Waits until every living node says this of the cluster.
    ///
    /// # Panics
    /// They do not.
    pub fn wait_for(&self, said: &str) {
        let begin = Instant::now();
        let agreed = |node: &RedisServer| node.client().text(&["CLUSTER", "INFO"]).lines().any(|line| line == said);
        while !self.nodes.iter().filter(|node| node.process.id().is_some()).all(agreed) {
            assert!(begin.elapsed() < PATIENCE, "the cluster does not come to {said}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Runs a command where its key lives, following where the cluster sends it. A node that is dead says nothing:
    /// [`Reply::Nil`].
    ///
    /// # Panics
    /// No node takes it.
    #[must_use]
    pub fn command(&self, words: &[&[u8]]) -> Reply {
        let mut port = self.nodes.iter().find(|node| node.process.id().is_some()).expect("a living node").port;
        for _ in 0..5 {
            let node = self.nodes.iter().find(|node| node.port == port).expect("a node of this cluster");
            if node.process.id().is_none() {
                return Reply::Nil;
            }
            let reply = node.client().command(words).expect("the node answers");
            match &reply {
                Reply::Error(text) if text.starts_with("MOVED ") => {
                    port = text.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
                }
                _ => return reply,
            }
        }
        panic!("the cluster sends a command round in circles");
    }
}

/// What a server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Simple(String),
    Error(String),
    Int(i64),
    Bulk(Vec<u8>),
    Array(Vec<Reply>),
    Nil,
}

impl Reply {
    /// The items of a list; none of what is no list.
    #[must_use]
    pub fn items(&self) -> &[Reply] {
        match self {
            Self::Array(items) => items,
            _ => &[],
        }
    }

    /// As text; empty for what has none.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Simple(text) | Self::Error(text) => text.clone(),
            Self::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Self::Int(number) => number.to_string(),
            Self::Array(_) | Self::Nil => String::new(),
        }
    }
}

/// A test's plain client, independent of what is tested.
pub struct RedisClient {
    read: BufReader<Box<dyn Read + Send>>,
    write: Box<dyn Write + Send>,
}

impl RedisClient {
    /// # Errors
    /// Nobody listens there.
    pub fn connect(socket: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let read = stream.try_clone()?;
        Ok(Self { read: BufReader::with_capacity(1 << 16, Box::new(read)), write: Box::new(stream) })
    }

    /// # Errors
    /// Nobody listens there.
    pub fn connect_tcp(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let read = stream.try_clone()?;
        Ok(Self { read: BufReader::with_capacity(1 << 16, Box::new(read)), write: Box::new(stream) })
    }

    /// Runs a command.
    ///
    /// # Errors
    /// The server is away.
    pub fn command(&mut self, words: &[impl AsRef<[u8]>]) -> io::Result<Reply> {
        let mut bytes = Vec::new();
        encode(words, &mut bytes);
        self.write.write_all(&bytes)?;
        self.reply()
    }

    /// Runs many commands with one write; the answers come in their order.
    ///
    /// # Errors
    /// The server is away.
    pub fn pipeline<W: AsRef<[u8]>>(&mut self, commands: &[Vec<W>]) -> io::Result<Vec<Reply>> {
        let mut bytes = Vec::new();
        commands.iter().for_each(|words| encode(words, &mut bytes));
        self.write.write_all(&bytes)?;
        commands.iter().map(|_| self.reply()).collect()
    }

    /// Runs a command that must not be refused.
    ///
    /// # Panics
    /// It is, or the server is away.
    pub fn ok(&mut self, words: &[&str]) -> Reply {
        match self.command(words) {
            Ok(Reply::Error(text)) => panic!("{words:?}: {text}"),
            Ok(reply) => reply,
            Err(error) => panic!("{words:?}: {error}"),
        }
    }

    /// As [`RedisClient::ok`], for answers that are one text.
    pub fn text(&mut self, words: &[&str]) -> String {
        self.ok(words).text()
    }

    /// Makes what is pending with a consumer look as if that had left it alone for two hours.
    ///
    /// # Panics
    /// The server refuses, or is away.
    pub fn left_alone(&mut self, stream: &str, group: &str, consumer: &str) {
        let pending = self.ok(&["XPENDING", stream, group, "-", "+", "100000", consumer]);
        let ids: Vec<String> = pending.items().iter().map(|entry| entry.items()[0].text()).collect();
        let ids = ids.iter().map(String::as_str);
        let claim =
            ["XCLAIM", stream, group, consumer, "0"].into_iter().chain(ids).chain(["IDLE", "7200000", "JUSTID"]);
        self.ok(&claim.collect::<Vec<_>>());
    }

    fn reply(&mut self) -> io::Result<Reply> {
        let mut line = Vec::new();
        io::BufRead::read_until(&mut self.read, b'\n', &mut line)?;
        let text = String::from_utf8_lossy(&line);
        let Some(rest) = text.strip_suffix("\r\n").and_then(|text| text.get(1..)) else {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        };
        let number = || rest.parse::<i64>().map_err(io::Error::other);
        Ok(match line[0] {
            b'+' => Reply::Simple(rest.to_owned()),
            b'-' => Reply::Error(rest.to_owned()),
            b':' => Reply::Int(number()?),
            b'$' => match usize::try_from(number()?) {
                Ok(length) => {
                    let mut bytes = vec![0; length + 2];
                    self.read.read_exact(&mut bytes)?;
                    bytes.truncate(length);
                    Reply::Bulk(bytes)
                }
                Err(_) => Reply::Nil,
            },
            b'*' => match usize::try_from(number()?) {
                Ok(count) => Reply::Array((0..count).map(|_| self.reply()).collect::<io::Result<_>>()?),
                Err(_) => Reply::Nil,
            },
            other => return Err(io::Error::other(format!("{:?} in an answer", char::from(other)))),
        })
    }
}

fn encode(words: &[impl AsRef<[u8]>], bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.as_ref().len()).as_bytes());
        bytes.extend_from_slice(word.as_ref());
        bytes.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_killed_and_comes_back_with_what_it_had_on_disk() {
        for append_only in [false, true] {
            let setup = RedisSetup { append_only, ..RedisSetup::default() };
            let Some(mut server) = RedisServer::start(&setup) else { return };
            server.client().ok(&["SET", "k", "v"]);
            server.kill();
            assert!(RedisClient::connect(&server.socket()).is_err());
            server.restart();
            let expected = if append_only { Reply::Bulk(b"v".to_vec()) } else { Reply::Nil };
            assert_eq!(server.client().ok(&["GET", "k"]), expected);
        }
    }

    #[test]
    fn three_masters_share_the_slots() {
        let Some(cluster) = RedisCluster::start(3, false, &RedisSetup::default()) else { return };
        for key in ["a", "b", "c", "{a}:x"] {
            assert_eq!(cluster.command(&[b"SET", key.as_bytes(), b"v"]), Reply::Simple("OK".to_owned()), "{key}");
        }
    }
}
