//! Reading a message: character set, segments, fields, components and times of whatever bytes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wardroom::hl7::ack::AckHeader;
use wardroom::hl7::batch;
use wardroom::hl7::charset;
use wardroom::hl7::message::Message;

fuzz_target!(|bytes: &[u8]| {
    let _header = AckHeader::recover(bytes);
    let _messages = batch::split(bytes).messages.len();
    let decoded = charset::decode(bytes, None);
    let Ok(message) = Message::of(&decoded) else { return };
    for segment in message.segments() {
        for n in 0..segment.n_fields() + 2 {
            let field = segment.field(n);
            for repetition in field.repetitions() {
                let _texts = (repetition.text(), repetition.whole(), repetition.component(2).sub(2));
            }
        }
    }
});
