//! What each message means, field by field, and that what is written reads back.

use super::*;

fn read_one(wire: Wire, fields: &[(&str, &[u8])]) -> Message {
    read(wire, fields.iter().map(|(name, value)| (name.as_bytes(), *value)), 1000, None)
}

/// A message as a line: sequence, time, payload.
fn said(message: &Message) -> String {
    let payload = match &message.payload {
        Payload::Encoded(bytes) => format!("encoded {}", bytes.escape_ascii()),
        Payload::Raw(raw) => {
            let RawPicture { bytes, size, format } = &**raw;
            format!("{format:?} {}x{} {}", size.width, size.height, bytes.escape_ascii())
        }
        Payload::Handle(handle) => format!("handle {} {}", handle.generation, handle.byte_len),
        Payload::Unreadable(why) => format!("{}: {}", why.reason.name(), why.message),
    };
    let number = |value: Option<u64>| value.map_or("-".to_owned(), |value| value.to_string());
    format!("{} {} {payload}", number(message.sequence), number(message.captured_at.map(|time| time.0)))
}

#[test]
fn messages_of_our_own_wire() {
    let long = vec![b'x'; 1001];
    let name = vec![b's'; 129];
    let table: Vec<(Vec<(&str, &[u8])>, &str)> = vec![
        (vec![("seq", b"7"), ("ts", b"17"), ("data", b"JJ")], "7 17 encoded JJ"),
        (vec![("data", b"JJ"), ("seq", b"7"), ("fmt", b"jpeg")], "7 - encoded JJ"),
        (vec![("seq", b"7"), ("data", b"P"), ("fmt", b"PNG"), ("camera", b"x"), ("", b"")], "7 - encoded P"),
        (vec![("seq", b"0"), ("fmt", b"nv12"), ("w", b"2"), ("h", b"2"), ("data", b"abcdef")], "0 - Nv12 2x2 abcdef"),
        (vec![("seq", b"18446744073709551615"), ("data", b"")], "18446744073709551615 - encoded "),
        (vec![("data", b"x")], "- - encoded x"),
        // Pictures in shared memory.
        (
            vec![("seq", b"7"), ("seg", b"ring-1"), ("gen", b"9"), ("len", b"4")],
            "7 - handle_invalid: this source reads no shared memory",
        ),
        (
            vec![("seq", b"7"), ("seg", b"ring-1"), ("gen", b"9")],
            "7 - entry_unreadable: seg without gen and len, expected all three",
        ),
        (
            vec![("seq", b"7"), ("seg", &name), ("gen", b"9"), ("len", b"1")],
            "7 - entry_unreadable: seg has 129 bytes, expected 1 to 128",
        ),
        (
            vec![("seq", b"7"), ("seg", b"\xFF"), ("gen", b"9"), ("len", b"1")],
            "7 - entry_unreadable: seg is \"\\xff\", expected UTF-8",
        ),
        // What is no frame keeps its place.
        (vec![], "- - entry_unreadable: no picture, expected data, or seg with gen and len"),
        (vec![("seq", b"7")], "7 - entry_unreadable: no picture, expected data, or seg with gen and len"),
        (vec![("seq", b"-1"), ("data", b"x")], "- - entry_unreadable: seq is \"-1\", expected a decimal number"),
        (
            vec![("seq", b"18446744073709551616"), ("data", b"x")],
            "- - entry_unreadable: seq is \"18446744073709551616\", expected a decimal number",
        ),
        (
            vec![("seq", b"7"), ("ts", b"yesterday"), ("data", b"x")],
            "7 - entry_unreadable: ts is \"yesterday\", expected a decimal number",
        ),
        (
            vec![("seq", b"7"), ("fmt", b"yuy2"), ("data", b"x")],
            "7 - entry_unreadable: fmt is \"yuy2\", expected jpeg, png, rgb, bgr, gray, nv12 or i420",
        ),
        (
            vec![("seq", b"7"), ("fmt", b"rgb"), ("w", b"2"), ("data", b"x")],
            "7 - entry_unreadable: raw pixels without w and h, expected both",
        ),
        (
            vec![("seq", b"7"), ("fmt", b"rgb"), ("w", b"0"), ("h", b"1"), ("data", b"x")],
            "7 - entry_unreadable: w is \"0\", expected a number of pixels",
        ),
        (vec![("seq", b"7"), ("data", &long)], "7 - payload_too_large: 1001 bytes, expected at most 1000"),
    ];
    for (fields, expected) in table {
        assert_eq!(said(&read_one(Wire::Own, &fields)), expected, "{fields:?}");
    }
}

#[test]
fn messages_of_the_python_pipeline() {
    let json = br#"{"camera": "cam1", "content": null}"#;
    let table: Vec<(Vec<(&str, &[u8])>, &str)> = vec![
        (
            vec![
                ("frame_id", b"42"),
                ("input_stream__content", b"\xFF\xD8"),
                ("width", b"1920"),
                ("height", b"1080"),
                ("ts_ns", b"1764090000000000000"),
                ("input_stream", json),
            ],
            "42 1764090000000000000 encoded \\xff\\xd8",
        ),
        (vec![("frame_id", b"cam1-000042"), ("content", b"J")], "- - encoded J"),
        (vec![("frame_id", b"5f2c"), ("content", b"J"), ("shm_mode", b"0")], "- - encoded J"),
        (
            vec![
                ("frame_id", b"3"),
                ("shm_mode", b"true"),
                ("shm_name", b"psm_1"),
                ("frame_idx", b"8"),
                ("width", b"640"),
                ("height", b"480"),
                ("format", b"BGR"),
                ("is_similar", b"0"),
                ("reference_frame_idx", b"7"),
            ],
            "3 - handle_invalid: this source reads no shared memory",
        ),
        (
            vec![("frame_id", b"3"), ("shm_mode", b"1"), ("shm_name", b""), ("content", b"")],
            "3 - entry_unreadable: shm_mode without a shm_name and a decimal frame_idx, expected both",
        ),
        (
            vec![("frame_id", b"3"), ("data", b"J")],
            "3 - entry_unreadable: no picture, expected content or input_stream__content, or shm_mode with shm_name and \
             frame_idx",
        ),
        (
            vec![("ts_ns", b"1.5"), ("content", b"J")],
            "- - entry_unreadable: ts_ns is \"1.5\", expected a decimal number",
        ),
    ];
    for (fields, expected) in table {
        assert_eq!(said(&read_one(Wire::Compat, &fields)), expected, "{fields:?}");
    }
}

#[test]
fn what_is_written_reads_back() {
    let size = Size { width: 1, height: 1 };
    let raw = |format| Picture::Raw { bytes: b"abc", size, format };
    let table = [
        (Wire::Own, Picture::Encoded(b"JJ"), "7 9 encoded JJ"),
        (Wire::Own, raw(PixelFormat::Rgb), "7 9 Rgb 1x1 abc"),
        (Wire::Own, raw(PixelFormat::I420), "7 9 I420 1x1 abc"),
        (Wire::Own, Picture::Handle { segment: "ring", generation: 3, byte_len: 5 }, "7 9 handle_invalid: ring 3 5"),
        (Wire::Compat, Picture::Encoded(b"JJ"), "7 9 encoded JJ"),
    ];
    for (wire, picture, expected) in table {
        let frame = Outgoing { sequence: 7, captured_at: Some(UnixNanos(9)), picture };
        let mut fields: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        write(wire, &frame, &mut |name, value| fields.push((name.to_vec(), value.to_vec()))).expect("it has a form");
        let mut open = |reference: Reference<'_>| {
            let Reference::Own { segment, generation, byte_len } = reference else { panic!("{reference:?}") };
            let message = format!("{segment} {generation} {byte_len}");
            Err(Unreadable { reason: DropReason::HandleInvalid, message })
        };
        let fields = fields.iter().map(|(name, value)| (&name[..], &value[..]));
        assert_eq!(said(&read(wire, fields, 1000, Some(&mut open))), expected);
    }
    let frame = Outgoing { sequence: 0, captured_at: None, picture: raw(PixelFormat::Rgb) };
    assert!(write(Wire::Compat, &frame, &mut |_, _| {}).is_err());
}

#[test]
fn a_handle_of_the_python_pipeline_is_opened_as_one() {
    let base: [(&[u8], &[u8]); 3] = [(b"shm_mode", b"1"), (b"shm_name", b"shm_rb_gate"), (b"frame_idx", b"8")];
    let hd: [(&[u8], &[u8]); 2] = [(b"width", b"1280"), (b"height", b"720")];
    let other: [(&[u8], &[u8]); 3] = [(b"width", b""), (b"height", b"None"), (b"content", b"")];
    for (more, size) in [(&hd[..], Some(Size { width: 1280, height: 720 })), (&other, None), (&[], None)] {
        let mut asked = Vec::new();
        let mut open = |reference: Reference<'_>| {
            asked.push(reference == Reference::Compat { segment: "shm_rb_gate", frame_index: 8, size });
            Err(Unreadable { reason: DropReason::HandleOverwritten, message: "gone".to_owned() })
        };
        let fields = base.iter().chain(more).copied();
        assert_eq!(said(&read(Wire::Compat, fields, 1000, Some(&mut open))), "- - handle_overwritten: gone");
        assert_eq!(asked, [true]);
    }
}

#[test]
fn a_frame_id_that_is_not_its_number_is_kept_as_its_name() {
    let table = [
        ("42", Some(42), None),
        ("0", Some(0), None),
        ("5f2c", None, Some("5f2c")),
        ("0042", Some(42), Some("0042")),
        ("18446744073709551616", None, Some("18446744073709551616")),
        ("", None, None),
    ];
    for (id, sequence, name) in table {
        let message = read_one(Wire::Compat, &[("frame_id", id.as_bytes()), ("content", b"J")]);
        assert_eq!((message.sequence, message.name.as_ref().map(FrameName::as_str)), (sequence, name), "{id}");
    }
    let refused = read_one(Wire::Compat, &[("frame_id", b"\xFF"), ("content", b"J")]);
    assert_eq!(said(&refused), "- - entry_unreadable: frame_id is \"\\xff\", expected UTF-8");
}

#[test]
fn a_field_that_is_too_long_is_named_as_its_wire_names_it() {
    let long = vec![b'7'; 5000];
    for (wire, field) in [(Wire::Own, "seq"), (Wire::Own, "w"), (Wire::Compat, "frame_id"), (Wire::Compat, "shm_name")]
    {
        let message = said(&read_one(wire, &[(field, &long)]));
        assert_eq!(message, format!("- - entry_unreadable: {field} has 5000 bytes, expected at most 4096"));
    }
}

#[test]
fn a_draft_forgets_the_message_before() {
    let mut draft = Draft::default();
    draft.begin(Wire::Own);
    draft.short(Key::Sequence, b"1");
    draft.short(Key::Segment, b"ring");
    draft.short(Key::Format, b"?");
    draft.begin(Wire::Own);
    draft.payload(Bytes::from_static(b"J"));
    assert_eq!(said(&draft.finish(None)), "- - encoded J");
}
