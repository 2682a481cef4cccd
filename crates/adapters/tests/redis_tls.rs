//! The Redis source and sink over TLS, on a real server that asks for certificates of its clients.

#![cfg(feature = "redis-tls")]

mod redis_rig;

use std::fs;
use std::path::{Path, PathBuf};

use omma_adapters::redis::{RedisOptions, TlsFiles};
use omma_adapters::sink::redis::{RedisSink, RedisSinkOptions, ResultNames};
use omma_adapters::source::redis::RedisSourceOptions;
use omma_engine::cameras::Delivery;
use omma_engine::sink::Sink;
use omma_frame::{CameraIndex, Outcome, Output, Token};
use omma_testkit::ports::free_port;
use omma_testkit::redis_server::{RedisServer, RedisSetup};
use omma_testkit::sink::{cameras, result};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use redis_rig::{Had, drive, open, options, write};

/// Writes an authority, and a certificate that it has issued for `localhost`.
fn certificates(folder: &Path, name: &str) -> (PathBuf, (PathBuf, PathBuf)) {
    let file = |part: &str| folder.join(format!("{name}-{part}.pem"));
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.distinguished_name.push(DnType::CommonName, format!("{name} authority"));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let authority = params.self_signed(&key).expect("an authority");
    fs::write(file("ca"), authority.pem()).expect("written");
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    fs::write(file("certificate"), params.signed_by(&key, &issuer).expect("issued").pem()).expect("written");
    fs::write(file("key"), key.serialize_pem()).expect("written");
    (file("ca"), (file("certificate"), file("key")))
}

/// A server that speaks TLS on the port, beside its socket.
fn server(ca: &Path, (certificate, key): &(PathBuf, PathBuf), port: u16) -> Option<RedisServer> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let settings = [
        ("tls-port", port.to_string()),
        ("tls-cert-file", text(certificate)),
        ("tls-key-file", text(key)),
        ("tls-ca-cert-file", text(ca)),
        ("tls-auth-clients", "yes".to_owned()),
    ];
    let more = settings.into_iter().flat_map(|(name, value)| [format!("--{name}"), value]).collect();
    RedisServer::start(&RedisSetup { more, ..RedisSetup::default() })
}

#[test]
fn frames_come_and_results_go_over_tls_with_certificates_on_both_sides_and_mistakes_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let (ca, own) = certificates(folder.path(), "own");
    let (other_ca, others) = certificates(folder.path(), "other");
    let port = free_port();
    let Some(server) = server(&ca, &own, port) else { return };
    let right = TlsFiles { ca: Some(ca.clone()), client: Some(own.clone()) };
    let url = format!("rediss://localhost:{port}");

    write(&mut server.client(), "cam-0000", 0..30);
    let usual = options(&url, Delivery::Every);
    let redis = RedisOptions { tls: right.clone(), ..usual.redis.clone() };
    let (mut source, cameras_read) = open(&RedisSourceOptions { redis, ..usual }, 1);
    let mut had = Had::default();
    drive(&mut source, &mut had, |had| had.total() == 30);
    assert_eq!(had.frames[&cameras_read[0]], (0..30).collect::<Vec<u64>>());

    let publish = |url: &str, tls: TlsFiles| {
        let redis = RedisOptions { tls, ..RedisOptions::new(url) };
        let names = ResultNames::parse("omma:results:{camera}").expect("a pattern");
        let mut sink = RedisSink::new(RedisSinkOptions::new(redis, names), Vec::new()).expect("options that can be");
        let mut one = result(CameraIndex(0), 1, Outcome::Inferred(Output::Nothing));
        one.token = Token(1000, 1);
        sink.publish(&[one], &cameras(&["cam-0000"])).map_err(|error| error.message)
    };
    assert_eq!(publish(&url, right.clone()), Ok(()));
    assert_eq!(server.client().text(&["XLEN", "omma:results:cam-0000"]), "1");

    let missing = folder.path().join("missing.pem");
    let no_certificate = TlsFiles { client: None, ..right.clone() };
    let foreign = TlsFiles { client: Some(others), ..right.clone() };
    let other = TlsFiles { ca: Some(other_ca), ..right.clone() };
    let absent = TlsFiles { ca: Some(missing), ..right.clone() };
    // The name that is asked for, what is shown and trusted, and the words of the error.
    let by_number = format!("rediss://127.0.0.1:{port}");
    for (url, tls, says) in [
        (&url, no_certificate, "CertificateRequired"),
        (&url, foreign, "UnknownCA"),
        (&url, other, "UnknownIssuer"),
        (&url, absent, "missing.pem"),
        (&by_number, right, "not valid for name"),
    ] {
        let said = publish(url, tls).expect_err(says);
        assert!(said.contains(says) && said.contains(&port.to_string()), "expected {says}: {said}");
    }
}
