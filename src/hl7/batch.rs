//! Batches: several messages in one frame, with or without FHS, BHS, BTS and FTS (HL7 v2.5.1 §2.10.3).
//!
//! It finds where messages begin and end, and reads none of them. A frame of one message costs a look at the beginning of each of its lines.

use bytes::Bytes;

use crate::hl7::ack::writer::Writer;
use crate::hl7::header::RawHeader;
use crate::hl7::header::Terminators;
use crate::hl7::header::without_lead;
use crate::time::Timestamp;

/// The messages of one frame.
#[derive(Clone, Default)]
pub struct Batch<'a> {
    /// The batch header, where there is one: its answers are then wrapped too.
    pub wrapped: Option<Wrapper>,
    /// Each message, from its MSH on. Empty for an empty frame and an empty batch; a frame that begins with anything but a header, and a batch that holds
    /// or counts something but no message, is one message, for whoever reads it to refuse.
    pub messages: Vec<&'a [u8]>,
}

/// Shows how many messages there are, and nothing of them.
impl std::fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").field("wrapped", &self.wrapped.is_some()).field("n_messages", &self.messages.len()).finish()
    }
}

/// What an answer needs of a batch header: BHS, or FHS where there is only that.
#[derive(Clone)]
pub struct Wrapper {
    line: Box<[u8]>,
}

impl Wrapper {
    fn header(&self) -> Option<RawHeader<'_>> {
        RawHeader::of_line(&self.line, b"BHS").or_else(|| RawHeader::of_line(&self.line, b"FHS"))
    }
}

/// Shows nothing of the header.
impl std::fmt::Debug for Wrapper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wrapper(‹phi›)")
    }
}

/// What a line is to the batch.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Line {
    Blank,
    Message,
    BatchHeader,
    FileHeader,
    Trailer,
    Other,
}

/// Takes a frame apart.
pub fn split(frame: &[u8]) -> Batch<'_> {
    let mut batch = Batch::default();
    let mut starts_with_header = None;
    let mut message_from = None;
    let mut delimiters: Option<[u8; 2]> = None;
    let mut is_of_something = false;
    for (from, line) in lines(frame, Terminators::of(frame)) {
        let kind = kind(line);
        if kind == Line::Blank {
            continue;
        }
        if !*starts_with_header.get_or_insert(kind != Line::Other && kind != Line::Trailer) {
            return Batch { wrapped: None, messages: vec![frame] };
        }
        if kind != Line::Other {
            close(frame, &mut message_from, from, &mut batch);
        }
        match kind {
            Line::Message => {
                message_from = Some(from);
                let mine = without_lead(line).get(3..5).and_then(|two| two.try_into().ok());
                delimiters = delimiters.or(mine);
            }
            Line::BatchHeader if batch.wrapped.as_ref().is_none_or(|wrapper| wrapper.line.starts_with(b"FHS")) => {
                batch.wrapped = Some(Wrapper { line: without_lead(line).into() });
            }
            Line::FileHeader if batch.wrapped.is_none() => batch.wrapped = Some(Wrapper { line: without_lead(line).into() }),
            Line::Trailer => is_of_something |= counts_messages(without_lead(line)),
            Line::Other => is_of_something = true,
            Line::Blank | Line::BatchHeader | Line::FileHeader => {}
        }
        // Messages that end in CR, joined by LF: a LF is data, but not before a header with the delimiters of the first one.
        if let Some([field, component]) = delimiters {
            for inner in headers_behind_line_feeds(line, [b'\n', b'M', b'S', b'H', field, component]) {
                close(frame, &mut message_from, from + inner, &mut batch);
                message_from = Some(from + inner + 1);
            }
        }
    }
    close(frame, &mut message_from, frame.len(), &mut batch);
    if batch.messages.is_empty() && batch.wrapped.as_ref().is_some_and(|wrapper| is_of_something || wrapper.header().is_none()) {
        return Batch { wrapped: None, messages: vec![frame] };
    }
    batch
}

/// Whether a trailer says that there were messages (BTS-1; FTS-1 counts batches).
fn counts_messages(trailer: &[u8]) -> bool {
    let count = trailer.strip_prefix(b"BTS").and_then(|rest| rest.get(1..)).unwrap_or_default();
    count.iter().take_while(|byte| byte.is_ascii_digit()).any(|digit| *digit != b'0')
}

/// Ends the message that is open, if one is.
fn close<'a>(frame: &'a [u8], message_from: &mut Option<usize>, to: usize, batch: &mut Batch<'a>) {
    if let Some(from) = message_from.take() {
        batch.messages.extend(frame.get(from..to));
    }
}

/// The lines of a frame, each with where it begins.
fn lines(frame: &[u8], terminators: Terminators) -> impl Iterator<Item = (usize, &[u8])> {
    let mut from = 0;
    terminators.positions(frame).chain([frame.len()]).map(move |end| {
        let line = (from, frame.get(from..end).unwrap_or_default());
        from = end + 1;
        line
    })
}

fn headers_behind_line_feeds(line: &[u8], pattern: [u8; 6]) -> impl Iterator<Item = usize> {
    let first_text = line.len() - without_lead(line).len();
    let line = if line.get(first_text..).is_some_and(|text| text.contains(&b'\n')) { line } else { b"" };
    line.windows(6).enumerate().filter(move |(at, window)| *at >= first_text && *window == pattern).map(|(at, _)| at)
}

fn kind(line: &[u8]) -> Line {
    let text = without_lead(line);
    let Some((id, rest)) = text.split_first_chunk::<3>() else {
        return if text.is_empty() { Line::Blank } else { Line::Other };
    };
    let separated = rest.first().is_none_or(u8::is_ascii_punctuation);
    match id {
        b"MSH" if separated && rest.len() > 1 => Line::Message,
        b"BHS" if separated => Line::BatchHeader,
        b"FHS" if separated => Line::FileHeader,
        b"BTS" | b"FTS" if separated => Line::Trailer,
        _ => Line::Other,
    }
}

/// Puts the answers to the messages of one frame into one frame: inside BHS and BTS where the messages were, else one after another. `id` is the
/// batch's own, new BHS-11; BHS-12 names the batch that is answered.
pub fn wrap_answers(wrapper: Option<&Wrapper>, answers: &[Bytes], now: Timestamp, id: &str) -> Bytes {
    let Some(inbound) = wrapper.and_then(Wrapper::header) else { return answers.concat().into() };
    let mut writer = Writer::like(Some(inbound));
    writer.header(b"BHS");
    writer.names([inbound.field(5), inbound.field(6), inbound.field(3), inbound.field(4)]);
    writer.time(now);
    writer.fields([b"", b"", b"", id.as_bytes()]);
    writer.separator();
    writer.raw(inbound.field(11));
    writer.end();
    for answer in answers {
        writer.raw(answer);
    }
    writer.raw(b"BTS");
    writer.field(answers.len().to_string().as_bytes());
    writer.end();
    writer.into_bytes()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::split;
    use super::wrap_answers;
    use crate::time::Timestamp;

    const ONE: &str = "MSH|^~\\&|A|B|C|D|1||ADT^A01|M1|P|2.5\rPID|1||7\r";
    const TWO: &str = "MSH|^~\\&|A|B|C|D|1||ADT^A02|M2|P|2.5\rPID|1||8\r";

    fn check(frame: &str, wrapped: bool, expected: &[&str]) {
        let batch = split(frame.as_bytes());
        let messages: Vec<&str> = batch.messages.iter().map(|message| std::str::from_utf8(message).unwrap()).collect();
        assert_eq!((batch.wrapped.is_some(), messages.as_slice()), (wrapped, expected), "{frame}");
    }

    #[test]
    fn a_frame_of_one_message_is_that_message() {
        check(ONE, false, &[ONE]);
        check(ONE.trim_end(), false, &[ONE.trim_end()]);
    }

    #[test]
    fn several_messages_in_a_frame_are_told_apart_whatever_ends_their_lines() {
        check(&format!("{ONE}{TWO}"), false, &[ONE, TWO]);
        check(&format!("{ONE}\r\r{TWO}"), false, &[&format!("{ONE}\r\r"), TWO]);
        let (one, two) = (ONE.replace('\r', "\n"), TWO.replace('\r', "\n"));
        check(&format!("{one}{two}"), false, &[&one, &two]);
        let (one, two) = (ONE.replace('\r', "\r\n"), TWO.replace('\r', "\r\n"));
        let batch = format!("{one}{two}");
        let batch = split(batch.as_bytes());
        assert_eq!(batch.messages.len(), 2);
        assert!(batch.messages[1].trim_ascii().starts_with(b"MSH"));
    }

    #[test]
    fn a_line_feed_inside_a_message_is_data_but_not_before_a_header() {
        let noted = ONE.replace('7', "7\nMSH and more\nPV1|x");
        check(&noted, false, &[&noted]);
        check(&format!("{}\n{TWO}", ONE.trim_end()), false, &[ONE.trim_end(), TWO]);
    }

    #[test]
    fn wrappers_are_taken_off() {
        check(&format!("FHS|^~\\&|A\rBHS|^~\\&|A\r{ONE}{TWO}BTS|2\rFTS|1\r"), true, &[ONE, TWO]);
        check(&format!("BHS|^~\\&|A\r\n{ONE}BTS|1"), true, &[&format!("\n{ONE}")]);
        check("BHS|^~\\&|A\rBTS|0\r", true, &[]);
        for lost in ["BHS|^~\\&|A\rBTS|5\r", "BHS|^~\\&|A\rPID|1||7\rBTS|0\r", "BHS\rBTS\r"] {
            check(lost, false, &[lost]);
        }
    }

    #[test]
    fn an_empty_frame_has_no_message_and_what_is_not_hl7_is_one() {
        check("", false, &[]);
        check("\r\n \r", false, &[]);
        check("hello\rMSH|^~\\&|A\r", false, &["hello\rMSH|^~\\&|A\r"]);
    }

    #[test]
    fn answers_to_a_batch_are_a_batch() {
        let answers = [Bytes::from_static(b"MSH|1\rMSA|AA|M1\r"), Bytes::from_static(b"MSH|2\rMSA|AA|M2\r")];
        let batch = split(b"BHS|^~\\&|A|B|C|D|20261121||||B77\rBTS|0\r");
        let now = Timestamp::from_micros(1_795_000_000_000_000);
        let wrapped = wrap_answers(batch.wrapped.as_ref(), &answers, now, "R1");
        let shown = String::from_utf8(wrapped.to_vec()).unwrap().replace('\r', "\n");
        insta::assert_snapshot!(shown, @r"
    BHS|^~\&|C|D|A|B|20261118110640+0000||||R1|B77
    MSH|1
    MSA|AA|M1
    MSH|2
    MSA|AA|M2
    BTS|2
    ");
        assert_eq!(wrap_answers(None, &answers, now, "R1"), answers.concat());
    }
}
