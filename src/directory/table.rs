//! A CSV file with a header: columns by name, every value with its line. RFC 4180, with a byte order mark and either line end.
//!
//! Nothing is skipped in silence: whatever cannot be used is a [`BadLine`] that says what to do. No problem quotes a value.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::path::PathBuf;

/// Something in a file that cannot be used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BadLine {
    /// The file.
    pub file: PathBuf,
    /// The line, counted from one.
    pub line: u64,
    /// What is wrong and what to do.
    pub rule: String,
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file.display(), self.line, self.rule)
    }
}

/// Which columns a table has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Columns {
    pub(super) required: &'static [&'static str],
    pub(super) optional: &'static [&'static str],
}

/// One line.
pub(super) struct Row {
    pub(super) line: u64,
    values: BTreeMap<&'static str, String>,
}

impl Row {
    /// The value of a column, without blanks around it; empty where there is none.
    pub(super) fn value(&self, column: &str) -> &str {
        self.values.get(column).map_or("", |value| value.trim())
    }
}

/// The rows of a file, and what is wrong with the others; no rows when the header is wrong.
pub(super) fn read(file: &Path, bytes: &[u8], columns: Columns) -> (Vec<Row>, Vec<BadLine>) {
    let bad = |line: u64, rule: String| BadLine { file: file.to_owned(), line, rule };
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(bytes);
    let mut records = reader.byte_records();
    let (mut rows, mut bad_lines) = (Vec::new(), Vec::new());

    let Some(Ok(header)) = records.next() else {
        return (rows, vec![bad(1, format!("is empty: the first line names the columns, {}", listed(columns.required)))]);
    };
    let names: Vec<String> = header.iter().map(|name| String::from_utf8_lossy(name).trim().to_lowercase()).collect();
    let mut places: Vec<(&'static str, usize)> = Vec::new();
    for column in columns.required.iter().chain(columns.optional) {
        let mut found = names.iter().enumerate().filter(|(_, name)| name == column).map(|(place, _)| place);
        let place = found.next();
        if found.next().is_some() {
            bad_lines.push(bad(1, format!("the column `{column}` stands there twice")));
        }
        // A misspelt column would be taken for no column at all.
        let slip = names.iter().find(|name| !columns.knows(name) && strsim::damerau_levenshtein(name, column) <= 2);
        match (place, slip) {
            (Some(place), _) => places.push((column, place)),
            (None, Some(_)) => bad_lines.push(bad(1, format!("the column `{column}` is missing; another is spelt almost so"))),
            (None, None) if columns.required.contains(column) => {
                bad_lines.push(bad(1, format!("the column `{column}` is missing: the first line names the columns, separated by commas")));
            }
            (None, None) => {}
        }
    }
    if !bad_lines.is_empty() {
        return (rows, bad_lines);
    }
    for record in records {
        let Ok(record) = record else {
            // The bytes are in memory: there is no other error than a reader that gives up.
            bad_lines.push(bad(0, "cannot be read as CSV".to_owned()));
            continue;
        };
        let line = record.position().map_or(0, csv::Position::line);
        if record.iter().all(<[u8]>::is_empty) {
            continue;
        }
        if record.len() != names.len() {
            let rule = format!("has {} values where the header has {}: put values that hold a comma in double quotes", record.len(), names.len());
            bad_lines.push(bad(line, rule));
            continue;
        }
        let values = places.iter().map(|(column, place)| Some((*column, std::str::from_utf8(record.get(*place)?).ok()?.to_owned())));
        match values.collect::<Option<BTreeMap<_, _>>>() {
            Some(values) => rows.push(Row { line, values }),
            None => bad_lines.push(bad(line, "is not UTF-8: save the file as UTF-8".to_owned())),
        }
    }
    (rows, bad_lines)
}

impl Columns {
    fn knows(self, name: &str) -> bool {
        self.required.contains(&name) || self.optional.contains(&name)
    }
}

/// Words in backticks, separated by commas.
pub(super) fn listed(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}
