//! MFK: the answer to a master file (HL7 v2.5.1 §8.4.2, §8.5.1, §8.5.3).
//!
//! It repeats which records came and says of each whether it was taken. It holds no names and nothing of a patient.

use bytes::Bytes;

use super::AckCode;
use super::AckHeader;
use super::ErrDetail;
use super::Kind;
use super::begin;
use super::writer::Writer;
use crate::hl7::segment::Segment;
use crate::time::Timestamp;

/// What the answer to a master file repeats.
#[derive(Clone)]
pub struct MasterFile {
    /// MFI-1, MFI-2 and MFI-3.
    file: [String; 3],
    wanted: Wanted,
    /// One for each MFE.
    pub records: Vec<RecordAnswer>,
}

/// What the answer says of one MFE.
#[derive(Clone)]
pub struct RecordAnswer {
    /// MFE-1, MFE-2, MFE-4 and MFE-5.
    record: [String; 4],
    is_taken: bool,
}

/// MFI-6 (table 0180): of which records the sender wants to hear.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Wanted {
    All,
    Failed,
    Taken,
    None,
}

impl MasterFile {
    /// What is repeated of an MFI.
    pub fn of(mfi: Segment<'_>) -> Self {
        let wanted = match mfi.field(6).text().to_ascii_uppercase().as_str() {
            "NE" => Wanted::None,
            "ER" => Wanted::Failed,
            "SU" => Wanted::Taken,
            _ => Wanted::All,
        };
        Self { file: [1, 2, 3].map(|n| mfi.field(n).raw().to_owned()), wanted, records: Vec::new() }
    }

    /// Says that none of the records was taken.
    pub fn refuse_all(&mut self) {
        for record in &mut self.records {
            record.is_taken = false;
        }
    }
}

impl RecordAnswer {
    /// What is repeated of an MFE, and whether it was taken.
    pub fn of(mfe: Segment<'_>, is_taken: bool) -> Self {
        Self { record: [1, 2, 4, 5].map(|n| mfe.field(n).raw().to_owned()), is_taken }
    }
}

/// Shows how many records there are: keys are persons.
impl std::fmt::Debug for MasterFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MasterFile").field("n_records", &self.records.len()).finish_non_exhaustive()
    }
}

/// Shows whether it was taken.
impl std::fmt::Debug for RecordAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordAnswer").field("is_taken", &self.is_taken).finish_non_exhaustive()
    }
}

/// Builds the application answer to a master file; a commit answer is an ACK like any other. It ends with CR.
pub fn build(header: &AckHeader, file: &MasterFile, code: AckCode, error: Option<&ErrDetail>, now: Timestamp, id: &str) -> Bytes {
    let mut writer = begin(header, Kind::MasterFile, code, error, now, id);
    let [name, application, event] = file.file.each_ref().map(String::as_bytes);
    writer.raw(b"MFI");
    writer.fields([name, application, event]);
    // The standard has no shorter MFI: when it was entered, when it takes effect, and who wants to know.
    writer.fields([
        b"",
        b"",
        match file.wanted {
            Wanted::All => b"AL",
            Wanted::Failed => b"ER",
            Wanted::Taken => b"SU",
            Wanted::None => b"NE",
        },
    ]);
    writer.end();
    let is_wanted = |record: &RecordAnswer| match file.wanted {
        Wanted::All => true,
        Wanted::Failed => !record.is_taken,
        Wanted::Taken => record.is_taken,
        Wanted::None => false,
    };
    for record in file.records.iter().filter(|record| is_wanted(record)) {
        record.write(&mut writer, now);
    }
    writer.into_bytes()
}

impl RecordAnswer {
    fn write(&self, writer: &mut Writer, now: Timestamp) {
        let [event, control, key, key_type] = self.record.each_ref().map(String::as_bytes);
        writer.raw(b"MFA");
        writer.fields([event, control]);
        writer.time(now);
        writer.fields([if self.is_taken { b"S" } else { b"U" }, key, key_type]);
        writer.end();
    }
}
