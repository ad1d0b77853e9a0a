//! Writing an answer, in the delimiters of what it answers.

use bytes::Bytes;

use super::ErrDetail;
use super::Severity;
use super::Version;
use super::meaning;
use crate::hl7::delimiters::Delimiters;
use crate::hl7::header::RawHeader;
use crate::time::Timestamp;

/// An answer being written.
pub(in crate::hl7) struct Writer {
    out: Vec<u8>,
    separator: u8,
    encoding: Vec<u8>,
    component: u8,
    subcomponent: u8,
    names_fit: bool,
}

impl Writer {
    /// A writer with the delimiters of a header, exactly as they were sent; with the usual ones where they cannot be used.
    pub(in crate::hl7) fn like(inbound: Option<RawHeader<'_>>) -> Self {
        let delimiters = inbound.and_then(|inbound| Delimiters::read(inbound.after_id()));
        let sent = inbound.map(|inbound| inbound.field(2)).filter(|sent| !sent.is_empty() && sent.iter().all(u8::is_ascii_graphic));
        let usable = delimiters.unwrap_or_default();
        let byte = |c: char, default: u8| u8::try_from(c).ok().filter(u8::is_ascii).unwrap_or(default);
        Self {
            out: Vec::with_capacity(256),
            // Where MSH-2 is unusable, MSH-1 still is what divided the fields that are answered with.
            separator: inbound.map_or(b'|', |inbound| inbound.separator()),
            encoding: match (delimiters, sent) {
                (Some(_), Some(sent)) => sent.to_owned(),
                (Some(_) | None, _) => br"^~\&".to_vec(),
            },
            component: byte(usable.component(), b'^'),
            subcomponent: byte(usable.subcomponent(), b'&'),
            names_fit: delimiters.is_some(),
        }
    }

    /// The id of a header segment and its delimiters.
    pub(in crate::hl7) fn header(&mut self, id: &[u8]) {
        self.out.extend_from_slice(id);
        self.separator();
        self.out.extend_from_slice(&self.encoding);
    }

    /// Applications and facilities with all their components; nothing where these were divided by what is no delimiter.
    pub(in crate::hl7) fn names(&mut self, names: [&[u8]; 4]) {
        self.fields(names.map(|name| if self.names_fit { name } else { b"" }));
    }

    /// A time in UTC.
    pub(in crate::hl7) fn time(&mut self, now: Timestamp) {
        let text = now.to_jiff().strftime("%Y%m%d%H%M%S+0000").to_string();
        self.field(text.as_bytes());
    }

    /// Several fields.
    pub(in crate::hl7) fn fields<const N: usize>(&mut self, texts: [&[u8]; N]) {
        for text in texts {
            self.field(text);
        }
    }

    /// One field; what is not printable ASCII becomes `?`.
    pub(in crate::hl7) fn field(&mut self, text: &[u8]) {
        self.separator();
        self.out.extend(text.iter().map(|byte| if matches!(byte, b' '..=b'~') { *byte } else { b'?' }));
    }

    /// One field of several components.
    pub(super) fn components<const N: usize>(&mut self, texts: [&[u8]; N]) {
        self.field(&texts.join(&self.component));
    }

    /// ERR in the shape of a version.
    pub(super) fn error(&mut self, error: &ErrDetail, version: Version) {
        let code = error.code.to_string();
        let words = meaning(error.code).as_bytes();
        let (segment, occurrence, field) = error
            .location
            .map_or(("", String::new(), String::new()), |location| (location.segment, location.occurrence.to_string(), location.field.to_string()));
        let place = [segment.as_bytes(), occurrence.as_bytes(), field.as_bytes()];
        if version == Version::From25 {
            self.field(b"");
            if error.location.is_some() {
                self.components(place);
            } else {
                self.field(b"");
            }
            self.components([code.as_bytes(), words, b"HL70357"]);
            self.field(match error.severity {
                Severity::E => b"E",
                Severity::W => b"W",
                Severity::I => b"I",
            });
        } else {
            let coded = [code.as_bytes(), words, b"HL70357"].join(&self.subcomponent);
            let [segment, occurrence, field] = place;
            self.components([segment, occurrence, field, &coded]);
        }
    }

    /// MSH-1.
    pub(in crate::hl7) fn separator(&mut self) {
        self.out.push(self.separator);
    }

    /// Bytes as they are.
    pub(in crate::hl7) fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// The end of a segment.
    pub(in crate::hl7) fn end(&mut self) {
        self.out.push(b'\r');
    }

    /// What was written.
    pub(in crate::hl7) fn into_bytes(self) -> Bytes {
        self.out.into()
    }
}
