//! MJPEG over HTTP against a camera on the loopback that misbehaves. Sockets are real, time is the test's own: a
//! timeout is over when the test says so.

use std::sync::Arc;
use std::time::{Duration, Instant};

use omma_adapters::source::Keep;
use omma_adapters::source::mjpeg_http::{MjpegHttpCamera, MjpegHttpOptions, MjpegHttpSource};
use omma_engine::clock::ManualClock;
use omma_engine::source::{Arrival, Polled, Source, SourceError};
use omma_frame::{CameraIndex, Mono, Payload, UnixNanos};
use omma_testkit::source::{Specimen, TestDemand, conformance};
use omma_testkit::source_mjpeg_server::{Act, MjpegServer, head, part};

const PATIENCE: Duration = Duration::from_secs(20);

struct Rig {
    source: MjpegHttpSource,
    clock: Arc<ManualClock>,
    demand: TestDemand,
    arrivals: Vec<Arrival>,
    errors: Vec<SourceError>,
}

fn options(urls: &[(String, Keep)]) -> MjpegHttpOptions {
    let cameras = (0..).zip(urls).map(|(index, (url, keep))| MjpegHttpCamera {
        camera: CameraIndex(index),
        url: url.clone(),
        keep: *keep,
    });
    MjpegHttpOptions { cameras: cameras.collect(), bytes_max: 200_000, ..MjpegHttpOptions::default() }
}

impl Rig {
    fn new(urls: &[(String, Keep)]) -> Self {
        let clock = Arc::new(ManualClock::at(Mono(1), UnixNanos(0)));
        let source = MjpegHttpSource::open(options(urls), Arc::clone(&clock) as _).expect("options are right");
        Self { source, clock, demand: TestDemand::new(8, 64), arrivals: Vec::new(), errors: Vec::new() }
    }

    fn poll(&mut self) {
        match self.source.poll(&self.demand, &mut self.arrivals) {
            Ok(polled) => assert_eq!(polled, Polled::Open),
            Err(error) => self.errors.push(error),
        }
    }

    /// Polls as a reader does, until the condition holds.
    fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let begin = Instant::now();
        while !done(self) {
            self.poll();
            assert!(begin.elapsed() < PATIENCE, "no {what}: {} frames, errors {:?}", self.arrivals.len(), self.errors);
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    fn until_error(&mut self) -> SourceError {
        self.until("error", |rig| !rig.errors.is_empty());
        self.errors.remove(0)
    }

    fn frames(&self, camera: u32) -> Vec<(u64, Vec<u8>)> {
        let of = self.arrivals.iter().filter(|arrival| arrival.camera == CameraIndex(camera));
        of.map(|arrival| match &arrival.payload {
            Payload::Encoded(bytes) => (arrival.sequence.unwrap_or(u64::MAX), bytes.to_vec()),
            other => panic!("always encoded, not {other:?}"),
        })
        .collect()
    }
}

fn pictures(count: u8) -> Vec<Vec<u8>> {
    (0..count).map(|n| vec![n + 1; 1000]).collect()
}

fn every(server: &MjpegServer) -> Vec<(String, Keep)> {
    vec![(server.url("/video"), Keep::All)]
}

#[test]
fn conforms() {
    conformance(|| {
        let server = MjpegServer::showing(pictures(20), Act::Stall);
        let urls: Vec<_> = (0..3).map(|_| (server.url("/"), Keep::All)).collect();
        let clock = Arc::new(ManualClock::at(Mono(1), UnixNanos(0)));
        let source = MjpegHttpSource::open(options(&urls), clock).expect("options are right");
        let cameras = (0..3).map(CameraIndex).collect();
        Specimen {
            source: Box::new(source),
            cameras,
            frames: 20,
            lossless: true,
            ends: false,
            keep: Some(Box::new(server)),
        }
    });
}

#[test]
fn asks_as_a_camera_wants_to_be_asked() {
    let server = MjpegServer::showing(pictures(1), Act::Stall);
    let mut rig = Rig::new(&[(server.url("/axis-cgi/mjpg/video.cgi?fps=5"), Keep::All)]);
    rig.until("picture", |rig| rig.arrivals.len() == 1);
    let request = &server.requests()[0];
    assert!(request.text.starts_with("GET /axis-cgi/mjpg/video.cgi?fps=5 HTTP/1.1\r\n"), "{}", request.text);
    assert_eq!(request.header("Host"), Some(&*server.address().to_string()));
    assert_eq!(request.header("Authorization"), None);
}

#[test]
fn a_hundred_cameras_are_read_by_one_poll() {
    let server = MjpegServer::showing(pictures(10), Act::Stall);
    let urls: Vec<_> = (0..100).map(|_| (server.url("/"), Keep::All)).collect();
    let mut rig = Rig::new(&urls);
    rig.until("all pictures", |rig| rig.arrivals.len() == 1000);
    for camera in 0..100 {
        assert_eq!(rig.frames(camera), (0..).zip(pictures(10)).collect::<Vec<_>>());
    }
}

#[test]
fn a_live_camera_shows_its_newest_picture_and_a_gap() {
    let server = MjpegServer::showing(pictures(30), Act::Stall);
    let mut rig = Rig::new(&[(server.url("/"), Keep::Newest)]);
    rig.demand = TestDemand::new(0, 64);
    let sent = head("frame").len() + 30 * part("frame", &[0; 1000]).len();
    rig.until("everything sent", |_| server.sent_bytes() == sent as u64);
    for _ in 0..20 {
        rig.poll();
    }
    assert!(rig.arrivals.is_empty(), "no room");
    rig.demand = TestDemand::new(8, 64);
    rig.until("picture", |rig| !rig.arrivals.is_empty());
    let frames = rig.frames(0);
    assert_eq!(frames.last(), Some(&(29, vec![30; 1000])));
    assert!(frames.len() < 5, "{} pictures, most of which were old", frames.len());
}

#[test]
fn a_lossless_camera_without_room_is_not_read_and_its_time_stands_still() {
    let picture = vec![7; 100_000];
    let stream = [head("frame"), part("frame", &picture)].concat();
    let server = MjpegServer::start(move |_| vec![Act::Send(stream.clone()), Act::Flood(part("frame", &picture))]);
    let mut rig = Rig::new(&every(&server));
    rig.until("first picture", |rig| !rig.arrivals.is_empty());
    rig.demand = TestDemand::new(0, 64);
    // The system's buffers fill up, and then nothing moves: not for an hour.
    let mut sent = server.sent_bytes();
    let mut still = Instant::now();
    let begin = Instant::now();
    while still.elapsed() < Duration::from_millis(300) {
        assert!(begin.elapsed() < PATIENCE, "the camera is still read");
        rig.poll();
        if server.sent_bytes() != sent {
            (sent, still) = (server.sent_bytes(), Instant::now());
        }
        rig.clock.advance(Duration::from_secs(1));
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(rig.errors.is_empty(), "{:?}", rig.errors);
    let before = rig.arrivals.len();
    rig.demand = TestDemand::new(8, 64);
    rig.until("more pictures", |rig| rig.arrivals.len() >= before + 100);
    assert_eq!(
        rig.frames(0).iter().map(|(number, _)| *number).collect::<Vec<_>>(),
        (0..rig.arrivals.len() as u64).collect::<Vec<_>>()
    );
}

#[test]
fn a_camera_that_stops_is_noticed_and_asked_again_and_its_numbers_go_on() {
    let server = MjpegServer::showing(pictures(2), Act::Stall);
    let mut rig = Rig::new(&every(&server));
    rig.until("pictures", |rig| rig.arrivals.len() == 2);
    rig.clock.advance(Duration::from_millis(9_900));
    (0..50).for_each(|_| rig.poll());
    assert!(rig.errors.is_empty(), "not yet: {:?}", rig.errors);
    rig.clock.advance(Duration::from_millis(200));
    let error = rig.until_error();
    let sent = head("frame").len() + 2 * part("frame", &[0; 1000]).len();
    assert_eq!(error.message, format!("no picture for 10.0 s, after 2 pictures and {sent} bytes on this connection"));
    assert_eq!((error.source, error.camera), (server.url("/video"), Some(CameraIndex(0))));
    let pause = error.retry_after.expect("tries again");
    assert!(pause <= Duration::from_millis(500) && pause >= Duration::from_millis(250), "{pause:?}");
    rig.clock.advance(pause);
    rig.until("pictures of the second connection", |rig| rig.arrivals.len() == 4);
    assert_eq!(rig.frames(0).iter().map(|(number, _)| *number).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_camera_that_trickles_without_ever_completing_a_picture_is_given_up() {
    let server = MjpegServer::start(|_| {
        vec![Act::Send(head("frame")), Act::Send(b"Content-Length: 100000\r\n\r\n".to_vec()), Act::Flood(vec![7])]
    });
    let mut rig = Rig::new(&every(&server));
    let mut seen = 0;
    while rig.errors.is_empty() {
        rig.until("another byte", |rig| server.sent_bytes() > seen || !rig.errors.is_empty());
        seen = server.sent_bytes();
        rig.clock.advance(Duration::from_secs(1));
    }
    let message = &rig.errors[0].message;
    assert!(message.starts_with("no picture for 10.0 s, after 0 pictures and "), "{message}");
}

#[test]
fn pauses_grow_while_a_camera_fails_and_shrink_once_it_shows_a_picture() {
    let server = MjpegServer::start(|request| match request.connection {
        0..6 | 7.. => vec![],
        6 => vec![Act::Send([head("f"), part("f", b"x")].concat())],
    });
    let mut rig = Rig::new(&every(&server));
    let mut pauses = Vec::new();
    for _ in 0..8 {
        let error = rig.until_error();
        assert!(error.message.starts_with("the camera closed the connection after "), "{}", error.message);
        let pause = error.retry_after.expect("tries again");
        pauses.push(pause.as_secs_f64());
        // Not a moment earlier.
        rig.clock.advance(pause - Duration::from_millis(1));
        (0..5).for_each(|_| rig.poll());
        assert!(rig.errors.is_empty());
        rig.clock.advance(Duration::from_millis(1));
    }
    for (pause, full) in pauses.iter().zip([0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 0.5, 1.0]) {
        assert!((full / 2.0..=full).contains(pause), "{pauses:?}");
    }
}

#[test]
fn refusals_are_told_clearly_and_not_asked_again_soon() {
    for (response, message) in [
        (
            "401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"c\"",
            "HTTP status 401 Unauthorized: expected a user and a password that the camera accepts",
        ),
        ("404 Not Found", "HTTP status 404 Not Found: the camera has no such path"),
        (
            "301 Moved\r\nLocation: http://u:pw@other/",
            "HTTP status 301 Moved: redirects are not followed, configure the URL it points to: http://other/",
        ),
    ] {
        let server = MjpegServer::start(move |_| vec![Act::Send(format!("HTTP/1.1 {response}\r\n\r\n").into_bytes())]);
        let mut rig = Rig::new(&every(&server));
        let error = rig.until_error();
        assert_eq!(error.message, message);
        assert!(error.retry_after.expect("tries again") >= Duration::from_secs(15));
    }
}

#[test]
fn malformed_streams_are_told_with_their_place() {
    let wrong = b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=right\r\n\r\n";
    for (acts, message) in [
        (
            vec![Act::Flood(b"HTTP/1.1 200 OK\r\nX: y".to_vec())],
            "a header of more than 16384 bytes (byte 0 of the response)",
        ),
        (vec![Act::Send(wrong.to_vec()), Act::Flood(part("wrong", &[7; 1000]))], "no boundary \"right\" in 200"),
        (
            vec![Act::Send([head("f"), b"Content-Length: 999999\r\n\r\n".to_vec()].concat()), Act::Stall],
            "a part of 999999 bytes, expected at most 200000 (byte 103 of the response)",
        ),
        (
            vec![Act::Send([head("f"), b"Content-Length: 9\r\n\r\nxyz".to_vec()].concat())],
            "the camera closed the connection after 0 pictures and 101 bytes",
        ),
        (
            vec![Act::Send(b"220 ftp\r\n".to_vec()), Act::Stall],
            "expected an HTTP/1 response, found \"220 ftp\\r\\n\" (byte 0 of the response)",
        ),
    ] {
        let server = MjpegServer::start(move |_| acts.clone());
        let mut rig = Rig::new(&every(&server));
        let error = rig.until_error();
        assert!(error.message.starts_with(message), "{}", error.message);
    }
}

#[test]
fn logs_in_as_the_camera_asks() {
    for (offer, begins) in [
        ("Basic realm=\"cam\"", "Basic cm9vdDpwdw=="),
        (
            "Digest realm=\"cam\", nonce=\"abc\", qop=\"auth\"",
            "Digest username=\"root\", realm=\"cam\", nonce=\"abc\", uri=\"/v\", response=\"",
        ),
    ] {
        let server = MjpegServer::start(move |request| match request.header("Authorization") {
            None => vec![Act::Send(format!("HTTP/1.1 401 No\r\nWWW-Authenticate: {offer}\r\n\r\n").into_bytes())],
            Some(_) => vec![Act::Send([head("f"), part("f", b"x")].concat()), Act::Stall],
        });
        let url = server.url("/v").replace("http://", "http://root:pw@");
        let mut rig = Rig::new(&[(url, Keep::All)]);
        rig.until("picture", |rig| rig.arrivals.len() == 1);
        assert!(rig.errors.is_empty(), "{:?}", rig.errors);
        let answer = server.requests()[1].header("Authorization").unwrap_or_default().to_owned();
        assert!(answer.starts_with(begins), "{answer}");
    }
}

#[test]
fn a_wrong_password_is_tried_once_and_never_shown() {
    let refusal = b"HTTP/1.1 401 No\r\nWWW-Authenticate: Digest realm=\"cam\", nonce=\"abc\"\r\n\r\n";
    let server = MjpegServer::start(|_| vec![Act::Send(refusal.to_vec())]);
    let url = server.url("/v").replace("http://", "http://root:secret@");
    let mut rig = Rig::new(&[(url, Keep::All)]);
    let error = rig.until_error();
    assert_eq!(server.requests().len(), 2);
    assert!(!error.to_string().contains("secret") && error.to_string().contains("401"), "{error}");
}

#[test]
fn no_server_and_no_such_name() {
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let mut rig = Rig::new(&[(format!("http://127.0.0.1:{port}/"), Keep::All)]);
    let error = rig.until_error();
    assert!(
        error.message.starts_with(&format!("cannot connect to 127.0.0.1:{port}: Connection refused")),
        "{}",
        error.message
    );
    let mut rig = Rig::new(&[("http://no-such-camera.invalid/".into(), Keep::All)]);
    let begin = Instant::now();
    rig.poll();
    assert!(begin.elapsed() < Duration::from_secs(1), "a poll never waits for a name");
    // Whether the system says so or never answers, the camera fails in time.
    rig.clock.advance(Duration::from_secs(5));
    let error = rig.until_error();
    assert!(error.message.contains("\"no-such-camera.invalid\""), "{}", error.message);
}

#[test]
fn a_name_is_looked_up() {
    let server = MjpegServer::showing(pictures(1), Act::Stall);
    // The name may have an IPv6 address that nobody listens at, too: the next is tried.
    let mut rig = Rig::new(&[(format!("http://localhost:{}/", server.address().port()), Keep::All)]);
    rig.until("picture", |rig| rig.arrivals.len() == 1);
}

#[test]
fn a_late_reader_blames_no_camera_whose_picture_is_there() {
    let server = MjpegServer::showing(pictures(1), Act::Stall);
    let mut rig = Rig::new(&every(&server));
    let sent = head("frame").len() + part("frame", &[0; 1000]).len();
    rig.until("request", |_| server.requests().len() == 1);
    let begin = Instant::now();
    while server.sent_bytes() < sent as u64 {
        assert!(begin.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
    rig.clock.advance(Duration::from_secs(60));
    rig.until("picture", |rig| rig.arrivals.len() == 1);
    assert!(rig.errors.is_empty(), "{:?}", rig.errors);
}

#[test]
fn one_dead_camera_delays_no_other() {
    let dead = MjpegServer::start(|_| vec![Act::Stall]);
    let picture = vec![7; 1000];
    let stream = head("frame");
    let alive = MjpegServer::start(move |_| vec![Act::Send(stream.clone()), Act::Flood(part("frame", &picture))]);
    let mut rig = Rig::new(&[(dead.url("/"), Keep::All), (alive.url("/"), Keep::All)]);
    rig.until("many pictures", |rig| rig.frames(1).len() > 500);
    for _ in 0..11 {
        rig.clock.advance(Duration::from_secs(1));
        let before = rig.frames(1).len();
        rig.until("more pictures", |rig| rig.frames(1).len() > before + 50);
    }
    let error = rig.until_error();
    assert_eq!((error.camera, rig.errors.len()), (Some(CameraIndex(0)), 0));
}

#[test]
fn connections_end_with_the_source() {
    let server = MjpegServer::showing(pictures(1), Act::Stall);
    let mut rig = Rig::new(&every(&server));
    rig.until("picture", |rig| rig.arrivals.len() == 1);
    drop(rig);
    let begin = Instant::now();
    while server.open_connections() > 0 {
        assert!(begin.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
}

#[test]
fn a_malformed_url_is_refused_at_once() {
    let clock = Arc::new(ManualClock::default());
    let error =
        MjpegHttpSource::open(options(&[("rtsp://u:secret@cam/".into(), Keep::All)]), clock).err().expect("refused");
    assert_eq!(error.to_string(), "MJPEG over HTTP: the URL begins with rtsp://, expected http://; given up");
    assert_eq!(error.camera, Some(CameraIndex(0)));
}
