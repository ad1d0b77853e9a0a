use bytes::Bytes;
use bytes::BytesMut;
use proptest::collection::vec;
use proptest::prelude::Just;
use proptest::prelude::Strategy;
use proptest::prelude::any;
use proptest::prop_assert;
use proptest::prop_assert_eq;
use proptest::prop_oneof;
use proptest::proptest;
use tokio_util::codec::Decoder;
use tokio_util::codec::Encoder;

use super::CodecError;
use super::Frame;
use super::FrameFault;
use super::MllpCodec;
use super::PREFIX_BYTES;
use super::Progress;
use super::Tally;

const LIMIT: usize = 32;

/// What came of a stream: the frames, what was passed over, and whether the connection was given up.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    frames: Vec<Frame>,
    tally: Tally,
    gave_up: bool,
}

/// Decodes chunks as they would come from a socket, to the end of the stream.
fn decode(chunks: &[&[u8]], limit: usize) -> Outcome {
    let mut codec = MllpCodec::new(limit);
    let mut buffer = BytesMut::new();
    let mut outcome = Outcome::default();
    for chunk in chunks {
        buffer.extend_from_slice(chunk);
        drain(&mut codec, &mut buffer, &mut outcome, false);
        assert!(buffer.len() <= limit + 1, "{} bytes are kept", buffer.len());
    }
    drain(&mut codec, &mut buffer, &mut outcome, true);
    outcome.tally = codec.take_tally();
    outcome
}

fn drain(codec: &mut MllpCodec, buffer: &mut BytesMut, outcome: &mut Outcome, at_end: bool) {
    while !outcome.gave_up {
        match if at_end { codec.decode_eof(buffer) } else { codec.decode(buffer) } {
            Ok(Some(frame)) => outcome.frames.push(frame),
            Ok(None) => return,
            Err(_) => outcome.gave_up = true,
        }
    }
    buffer.clear();
}

fn message(payload: &'static [u8]) -> Frame {
    Frame::Message(Bytes::from_static(payload))
}

fn refused(prefix: &'static [u8]) -> Frame {
    Frame::Refused { fault: FrameFault::TooLong { max_frame_bytes: LIMIT }, prefix: Bytes::from_static(prefix) }
}

/// Checks the frames of a stream, whole and byte by byte.
#[track_caller]
fn check(stream: &[u8], expected: &[Frame]) -> Tally {
    let whole = decode(&[stream], LIMIT);
    assert_eq!(whole.frames, expected);
    let bytes: Vec<&[u8]> = stream.chunks(1).collect();
    assert_eq!(decode(&bytes, LIMIT), whole, "byte by byte");
    whole.tally
}

#[test]
fn frames_are_found_one_after_another() {
    let tally = check(b"\x0bMSH|1\r\x1c\r\x0bMSH|2\r\x1c\r", &[message(b"MSH|1\r"), message(b"MSH|2\r")]);
    assert_eq!(tally, Tally::default());
}

#[test]
fn bytes_before_a_frame_are_skipped_and_counted() {
    let tally = check(b"\r\nnoise\x0bMSH\x1c\r\r\n\x0bMSH\x1c\r", &[message(b"MSH"), message(b"MSH")]);
    assert_eq!(tally.n_skipped_bytes, 9);
}

#[test]
fn a_missing_carriage_return_is_made_good_by_the_next_frame_or_the_end() {
    let tally = check(b"\x0bone\x1c\x0btwo\x1c\x0bthree\x1c", &[message(b"one"), message(b"two"), message(b"three")]);
    assert_eq!(tally, Tally::default());
}

#[test]
fn a_line_feed_may_stand_for_the_carriage_return() {
    check(b"\x0bone\x1c\n\x0btwo\x1c\n", &[message(b"one"), message(b"two")]);
}

#[test]
fn an_end_byte_followed_by_text_is_payload() {
    check(b"\x0ba\x1cb\x1c\x1c\r", &[message(b"a\x1cb\x1c")]);
}

#[test]
fn a_start_byte_inside_a_frame_begins_it_anew() {
    let tally = check(b"\x0bMSH|lost\x0bMSH|lost too\x0bMSH|kept\x1c\r", &[message(b"MSH|kept")]);
    assert_eq!(tally.n_abandoned_frames, 2);
}

#[test]
fn heartbeats_and_block_acknowledgements_yield_nothing() {
    let tally = check(b"\x0b\x1c\r\x0b\r\x1c\r\x0b\x06\x1c\r\x0b\x15\x1c\r\x0bMSH\x1c\r", &[message(b"MSH")]);
    assert_eq!(tally.n_heartbeats, 4);
    assert_eq!(tally.n_skipped_bytes, 0);
}

#[test]
fn a_frame_of_the_greatest_length_is_taken() {
    check(b"\x0b01234567890123456789012345678901\x1c\r", &[message(b"01234567890123456789012345678901")]);
    check(b"\x0b0123456789012345678901234567890\x1c\x1c\r", &[message(b"0123456789012345678901234567890\x1c")]);
}

#[test]
fn a_longer_frame_is_an_item_and_the_next_one_is_read() {
    let too_long = b"\x0bMSH|01234567890123456789012345678\x1c\r\x0bMSH|next\x1c\r";
    check(too_long, &[refused(b"MSH|01234567890123456789012345678"), message(b"MSH|next")]);
    check(b"\x0b01234567890123456789012345678901\x1cx\x1c\r", &[refused(b"01234567890123456789012345678901\x1cx")]);
}

#[test]
fn an_endless_frame_keeps_its_first_bytes_and_no_more() {
    let mut stream = vec![0x0B];
    stream.extend((0_u8..100).cycle().map(|n| b'a' + n % 26).take(3 * PREFIX_BYTES));
    let mut codec = MllpCodec::new(LIMIT);
    let mut buffer = BytesMut::new();
    for chunk in stream.chunks(100) {
        buffer.extend_from_slice(chunk);
        assert!(codec.decode(&mut buffer).unwrap().is_none());
        assert!(buffer.is_empty() || buffer.len() <= LIMIT);
    }
    assert_eq!(codec.progress(), Progress::Inside);
    buffer.extend_from_slice(b"\x1c\r");
    let Some(Frame::Refused { prefix, .. }) = codec.decode(&mut buffer).unwrap() else { panic!("no refused frame") };
    assert_eq!(prefix, &stream[1..=PREFIX_BYTES]);
}

#[test]
fn progress_says_when_only_the_carriage_return_is_missing() {
    let mut codec = MllpCodec::new(LIMIT);
    let mut buffer = BytesMut::from(&b"noise"[..]);
    assert!(codec.decode(&mut buffer).unwrap().is_none());
    assert_eq!(codec.progress(), Progress::Between);
    buffer.extend_from_slice(b"\x0bMSH");
    assert!(codec.decode(&mut buffer).unwrap().is_none());
    assert_eq!(codec.progress(), Progress::Inside);
    buffer.extend_from_slice(b"\x1c");
    assert!(codec.decode(&mut buffer).unwrap().is_none());
    assert_eq!(codec.progress(), Progress::Ending);
    codec.accept_bare_end();
    assert_eq!(codec.decode(&mut buffer).unwrap(), Some(message(b"MSH")));
    buffer.extend_from_slice(b"\r\x0bMSH");
    assert!(codec.decode(&mut buffer).unwrap().is_none());
    assert_eq!((codec.progress(), codec.take_tally().n_skipped_bytes), (Progress::Inside, 6));
}

#[test]
fn the_end_of_the_stream_abandons_an_unfinished_frame() {
    let tally = check(b"\x0bMSH|half", &[]);
    assert_eq!(tally.n_abandoned_frames, 1);
}

#[test]
fn a_peer_that_never_begins_a_frame_is_given_up() {
    let mut codec = MllpCodec::new(LIMIT);
    let mut buffer = BytesMut::from(&b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n"[..]);
    assert!(matches!(codec.decode(&mut buffer), Err(CodecError::NotMllp { n_bytes: LIMIT })));
}

#[test]
fn a_tls_handshake_is_recognised_at_the_start_only() {
    assert!(decode(&[b"\x16", b"\x03\x01\x02"], LIMIT).gave_up);
    assert!(!decode(&[b"\x16\x04\x0bMSH\x1c\r"], LIMIT).gave_up);
    assert!(!decode(&[b"\x0bMSH\x1c\r\x16\x03\x01"], LIMIT).gave_up);
}

#[test]
fn debug_never_shows_a_payload() {
    let shown = format!("{:?} {:?}", message(b"SMITH"), refused(b"SMITH"));
    assert!(!shown.contains("SMITH"), "{shown}");
}

/// Bytes that are often marks.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![3 => Just(b'a'), 2 => Just(0x0B), 2 => Just(0x1C), 1 => Just(b'\r'), 1 => Just(b'\n'), 1 => Just(0x16), 1 => any::<u8>()], 0..300)
}

fn split<'a>(stream: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
    cuts.extend([0, stream.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect()
}

proptest! {
    #[test]
    fn chunking_does_not_change_decoded_frames(stream in stream(), cuts in vec(any::<usize>(), 0..20), limit in 1_usize..40) {
        let whole = decode(&[&stream], limit);
        prop_assert_eq!(&decode(&split(&stream, &cuts), limit), &whole);
        prop_assert_eq!(&decode(&stream.chunks(1).collect::<Vec<_>>(), limit), &whole);
    }

    #[test]
    fn no_frame_is_longer_than_the_limit(stream in stream(), limit in 1_usize..40) {
        for frame in decode(&[&stream], limit).frames {
            match frame {
                Frame::Message(payload) => prop_assert!(payload.len() <= limit),
                Frame::Refused { prefix, .. } => prop_assert!(prefix.len() <= PREFIX_BYTES),
            }
        }
    }

    #[test]
    fn what_is_encoded_is_decoded(payloads in vec("[A-Z][ -~\\r\\n]{0,30}", 0..10), cuts in vec(any::<usize>(), 0..20)) {
        let mut codec = MllpCodec::new(LIMIT);
        let mut stream = BytesMut::new();
        for payload in &payloads {
            codec.encode(payload.as_bytes(), &mut stream).unwrap();
        }
        let expected: Vec<Frame> = payloads.into_iter().map(|payload| Frame::Message(Bytes::from(payload))).collect();
        let outcome = decode(&split(&stream, &cuts), LIMIT);
        prop_assert_eq!(outcome, Outcome { frames: expected, ..Outcome::default() });
    }
}
