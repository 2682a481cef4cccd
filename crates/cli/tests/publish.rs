//! `omma publish` as its users meet it, with a real redis-server.

#![cfg(feature = "redis")]

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

use omma_testkit::redis_server::{RedisServer, RedisSetup, Reply};
use serde_json::Value;

fn omma(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_omma"));
    command.arg("publish").args(args).env_remove("OMMA_REDIS_PASSWORD");
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn object(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output.stderr)))
}

fn length(server: &RedisServer, stream: &str) -> i64 {
    match server.client().ok(&["XLEN", stream]) {
        Reply::Int(length) => length,
        other => panic!("{other:?}"),
    }
}

const SMALL: [&str; 2] = ["--size", "64x64"];

#[test]
fn a_thousand_cameras_send_what_they_were_told() {
    let Some(server) = RedisServer::start(&RedisSetup::default()) else { return };
    let url = server.unix_url();
    let args = ["--url", &url, "--cameras", "1000", "--fps", "20", "--frames", "5", "--json", "--maxlen", "0"];
    let output = omma(&args).args(SMALL).output().expect("runs");
    let said = object(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!((&said["sent"], &said["not_sent"], &said["exit"]), (&5000.into(), &0.into(), &0.into()));
    for stream in ["omma:frames:cam-0000", "omma:frames:cam-0999"] {
        assert_eq!(length(&server, stream), 5, "{stream}");
    }
}

#[test]
fn ids_streams_and_wire_are_as_asked_for() {
    let Some(server) = RedisServer::start(&RedisSetup::default()) else { return };
    let url = server.url();
    let args = ["--url", &url, "--cameras", "2", "--first", "40", "--fps", "100", "--frames", "1", "--wire", "compat"];
    let names = ["--id", "{{s{tag:02}}}:gate-{n}", "--stream", "in:{camera}"];
    let output = omma(&args).args(names).args(SMALL).output().expect("runs");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("2 frames sent"), "{}", text(&output.stderr));
    for stream in ["in:{s08}:gate-40", "in:{s09}:gate-41"] {
        assert_eq!(length(&server, stream), 1, "{stream}");
    }
}

#[test]
fn a_password_opens_the_door_and_is_never_shown() {
    let setup = RedisSetup { password: Some("hunter2".into()), ..RedisSetup::default() };
    let Some(server) = RedisServer::start(&setup) else { return };
    let url = server.url();
    let args = ["--url", &url, "--cameras", "1", "--fps", "100", "--frames", "1"];
    for (password, code) in [(None, 2), (Some("wrong-one"), 2), (Some("hunter2"), 0)] {
        let mut command = omma(&args);
        command.args(SMALL).envs(password.map(|password| ("OMMA_REDIS_PASSWORD", password)));
        let output = command.output().expect("runs");
        assert_eq!(output.status.code(), Some(code), "{password:?}: {}", text(&output.stderr));
        assert!(password.is_none_or(|password| !text(&output.stderr).contains(password)));
    }
    let with_password = url.replace("redis://", "redis://:hunter2@");
    let output = omma(&["--url", &with_password]).args(SMALL).output().expect("runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(!text(&output.stderr).contains("hunter2"), "{}", text(&output.stderr));
}

#[test]
fn what_cannot_be_sent_is_told_with_redis_own_words() {
    let Some(server) = RedisServer::start(&RedisSetup::default()) else { return };
    server.client().ok(&["SET", "omma:frames:cam-0001", "no stream"]);
    let url = server.url();
    let args = ["--url", &url, "--cameras", "2", "--fps", "100", "--frames", "3"];
    let output = omma(&args).args(SMALL).arg("--json").output().expect("runs");
    let said = object(&output);
    assert_eq!((output.status.code(), &said["sent"]), (Some(1), &3.into()), "{said}");
    assert_eq!(said["reasons"]["refused"]["frames"], 3);
    assert!(said["reasons"]["refused"]["said"].as_str().is_some_and(|said| said.starts_with("WRONGTYPE")));
    let output = omma(&args).args(SMALL).output().expect("runs");
    let said = text(&output.stderr);
    assert!(said.contains("3 (refused 3) not sent") && said.contains("refused: WRONGTYPE"), "{said}");
}

#[test]
fn a_signal_ends_it_in_order() {
    let Some(server) = RedisServer::start(&RedisSetup::default()) else { return };
    let url = server.url();
    let mut command = omma(&["--url", &url, "--cameras", "3", "--fps", "100", "--json"]);
    let mut child = command.args(SMALL).stdout(Stdio::piped()).spawn().expect("starts");
    while length(&server, "omma:frames:cam-0002") < 3 {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    // SAFETY: a call without pointers; the process is ours and not yet waited for.
    unsafe {
        libc::kill(child.id() as i32, libc::SIGINT);
    }
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("read");
    let said: Value = serde_json::from_str(&line).expect("an object");
    assert_eq!((child.wait().expect("ends").code(), &said["not_sent"]), (Some(0), &0.into()), "{said}");
}

#[test]
fn what_cannot_be_is_wrong_usage() {
    for (args, expected) in [
        (&["--url", "redis://127.0.0.1:1"][..], "127.0.0.1:1"),
        (&["--input", "/nowhere/at-all.mjpeg"], "/nowhere/at-all.mjpeg"),
        (&["--input", "/nowhere/at-all"], "no such folder or file"),
        (&["--password-file", "/nowhere"], "/nowhere"),
        (&["--size", "65x65", "--format", "i420"], "even sides"),
    ] {
        let output = omma(args).output().expect("runs");
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(expected), "{args:?}: {said}");
    }
}
