//! MLLP frames: whatever a peer sends, however it is cut up, the same frames come out, and never more than was sent.

#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use tokio_util::codec::Decoder as _;
use wardroom::mllp::codec::Frame;
use wardroom::mllp::codec::MllpCodec;

const MAX_FRAME_BYTES: usize = 512;

/// What came out: the payloads, and `None` for a frame that was refused.
fn decode<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> Vec<Option<Vec<u8>>> {
    let mut codec = MllpCodec::new(MAX_FRAME_BYTES);
    let mut buffer = BytesMut::new();
    let mut frames = Vec::new();
    let mut keep = |frame| match frame {
        Frame::Message(payload) => frames.push(Some(payload.to_vec())),
        Frame::Refused { .. } => frames.push(None),
    };
    for chunk in chunks {
        buffer.extend_from_slice(chunk);
        while let Ok(Some(frame)) = codec.decode(&mut buffer) {
            keep(frame);
        }
    }
    while let Ok(Some(frame)) = codec.decode_eof(&mut buffer) {
        keep(frame);
    }
    frames
}

fuzz_target!(|input: (u8, Vec<u8>)| {
    let (size, bytes) = input;
    let whole = decode(std::iter::once(bytes.as_slice()));
    assert!(whole.iter().flatten().map(Vec::len).sum::<usize>() <= bytes.len());
    assert_eq!(decode(bytes.chunks(usize::from(size).max(1))), whole);
});
