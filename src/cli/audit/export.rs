//! `wardroom audit export`: the audit trail as JSON Lines, with all that its hash chains are made of.
//!
//! Rows are read, opened and written page by page. A file has its name only when all of it is on disk, is for its owner alone, and never takes the place
//! of another. Who takes the trail out is written into it first; what is taken out is what stood then, that row among it.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::io::BufWriter;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use indicatif::ProgressBar;
use schemars::JsonSchema;
use serde::Serialize;
use serde::Serializer;
use serde_json::Value;
use serde_json::json;
use tempfile::NamedTempFile;
use uuid::Uuid;

use crate::cli::audit::SpanArgs;
use crate::cli::beside;
use crate::cli::console::Console;
use crate::cli::console::OutputError;
use crate::cli::setting::Setting;
use crate::cli::viewing;
use crate::cli::viewing::Asked;
use crate::cli::viewing::Seen;
use crate::cli::words::counted;
use crate::outbox::form::JournalForm;
use crate::outbox::form::Utc;
use crate::outbox::schema::json_schema;
use crate::store::Store;
use crate::store::trail::ChainedRow;
use crate::store::trail::Trail;
use crate::time::Timestamp;

/// How many rows are opened and written at once.
const PAGE: usize = 1000;

/// What is taken out, and where to.
#[derive(clap::Args, Debug)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    span: SpanArgs,
    /// The file to make, which must not be there yet; `-` is standard output
    #[arg(long, value_name = "FILE|-", default_value = "-")]
    out: PathBuf,
}

/// A row of the audit trail.
///
/// The hash of a row is the SHA-256 of: `previous` (32 bytes), `id` and `at_us` (8 bytes each, big-endian, as are all numbers here), the length of
/// `kind` in bytes (8) and `kind` in UTF-8; 1 and the 16 bytes of `room`, or 0 without one; 1 or 0 for whether there is a `room_version`, and it (8; 0
/// when there is none); the same of `message`; and `sealed`.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AuditRow")]
struct Line<'a> {
    /// The row's id: its number in its chain times 1024, plus its chain.
    id: i64,
    /// The chain that it belongs to. Each daemon writes one of its own; 1023 is that of commands beside them.
    chain: i64,
    /// Its number in its chain, from 1.
    number: i64,
    /// When.
    at: Utc,
    /// The same in microseconds since 1970, as it is hashed.
    at_us: i64,
    /// What: the type of an event (`room.opened`) where a room changed, else what somebody did (`rooms.viewed`, `merge.undone`).
    kind: &'a str,
    /// Which room.
    room: Option<Uuid>,
    /// The room's version after it; null where no room changed.
    room_version: Option<i64>,
    /// The message's number in wardroom's journal.
    message: Option<JournalForm>,
    /// The hash of the row before it in its chain; zeros for the first, null when that row is gone.
    #[schemars(with = "Option<Hex<'_>>")]
    previous: Option<Hex<'a>>,
    /// The hash of this row.
    hash: Hex<'a>,
    /// The body as it is stored and hashed: sealed, in base64.
    sealed: Base64<'a>,
    /// What `sealed` says, which is what the hash covers; only a store with its key can tell whether this is it. Null when its patient's key was destroyed, or when it does not open (`wardroom audit verify` tells which).
    body: Option<Value>,
}

/// Bytes in hexadecimal.
#[derive(Clone, Copy)]
struct Hex<'a>(&'a [u8]);

impl Serialize for Hex<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let hex = self.0.iter().fold(String::with_capacity(self.0.len() * 2), |mut hex, byte| {
            // Writing into a string cannot fail.
            write!(hex, "{byte:02x}").unwrap_or_default();
            hex
        });
        serializer.serialize_str(&hex)
    }
}

impl JsonSchema for Hex<'_> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Hash".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[0-9a-f]{64}$" })
    }
}

/// Bytes in base64.
struct Base64<'a>(&'a [u8]);

impl Serialize for Base64<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(self.0))
    }
}

impl JsonSchema for Base64<'_> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Sealed".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "contentEncoding": "base64" })
    }
}

impl<'a> Line<'a> {
    fn of(row: &'a ChainedRow) -> Self {
        let ChainedRow { row, chain, number, previous, hash, sealed } = row;
        Self {
            id: row.id,
            chain: *chain,
            number: *number,
            at: Utc(row.at),
            at_us: row.at.as_micros(),
            kind: &row.kind,
            room: row.room_id.map(|room| room.0),
            room_version: row.room_version,
            message: row.journal_id.map(JournalForm),
            previous: previous.as_deref().map(Hex),
            hash: Hex(hash),
            sealed: Base64(sealed),
            body: row.body.as_ref().and_then(|body| serde_json::from_slice(&body.bytes).ok()),
        }
    }
}

/// The schema of a line.
pub(in crate::cli) fn schema() -> Value {
    json_schema::<Line<'static>>("urn:wardroom:schema:audit-row:1")
}

/// Why lines could not be written.
#[derive(Debug, thiserror::Error)]
enum OutError {
    #[error("`{}` is there already\nhint: name a file that is not; the trail never takes another's place", path.display())]
    Exists { path: PathBuf },
    #[error("cannot make `{}`\nhint: its folder must be there, and you must be allowed to write in it", path.display())]
    Make {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot write `{}`; nothing was left there\nhint: see that there is space on its disk", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Where the lines go.
enum Out {
    Stdout(BufWriter<io::Stdout>),
    /// A file beside the one that is asked for, until it is whole.
    File {
        path: PathBuf,
        lines: BufWriter<NamedTempFile>,
    },
}

/// The folder that a file is in.
fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

impl Out {
    fn new(path: &Path) -> Result<Self, OutError> {
        if path.as_os_str() == "-" {
            return Ok(Self::Stdout(BufWriter::new(io::stdout())));
        }
        // A link that leads nowhere is there too.
        if path.symlink_metadata().is_ok() {
            return Err(OutError::Exists { path: path.to_owned() });
        }
        // It has mode 0600.
        let file = NamedTempFile::new_in(folder(path));
        // Without the name that nobody gave it.
        let file = file.map_err(|error| OutError::Make { path: path.to_owned(), source: error.kind().into() })?;
        Ok(Self::File { path: path.to_owned(), lines: BufWriter::new(file) })
    }

    fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        match self {
            Self::Stdout(out) => Ok(out.write_all(bytes).map_err(OutputError::from)?),
            Self::File { path, lines } => Ok(lines.write_all(bytes).map_err(|source| OutError::Write { path: path.clone(), source })?),
        }
    }

    /// Makes sure that all of it is there. Gives back the file's path.
    fn finish(self) -> anyhow::Result<Option<PathBuf>> {
        let (path, lines) = match self {
            Self::Stdout(mut out) => return Ok(out.flush().map(|()| None).map_err(OutputError::from)?),
            Self::File { path, lines } => (path, lines),
        };
        let failed = |source| OutError::Write { path: path.clone(), source };
        let file = lines.into_inner().map_err(|error| failed(error.into_error()))?;
        file.as_file().sync_all().map_err(failed)?;
        if let Err(error) = file.persist_noclobber(&path) {
            let is_there = error.error.kind() == io::ErrorKind::AlreadyExists;
            return Err(if is_there { OutError::Exists { path } } else { failed(error.error) }.into());
        }
        fs::File::open(folder(&path)).and_then(|folder| folder.sync_all()).map_err(failed)?;
        Ok(Some(path))
    }
}

pub(super) async fn run(args: &ExportArgs, setting: &Setting, console: &Console) -> anyhow::Result<ExitCode> {
    if let Some(fault) = args.span.fault() {
        return console.fail(64, &fault);
    }
    let out = match Out::new(&args.out) {
        Ok(out) => out,
        Err(error) => return console.fail(64, &anyhow::Error::new(error)),
    };
    let store = match beside::open(setting).await {
        Ok(store) => store,
        Err((code, error)) => return console.fail(code, &error),
    };
    let done = export(args, out, &store, console).await;
    let done = match done {
        Err(error) => match error.downcast_ref::<OutError>() {
            Some(OutError::Exists { .. } | OutError::Make { .. }) => console.fail(64, &error),
            Some(OutError::Write { .. }) => console.fail(69, &error),
            None => Err(error),
        },
        done => done,
    };
    beside::close(store, done, console).await
}

async fn export(args: &ExportArgs, mut out: Out, store: &Store, console: &Console) -> anyhow::Result<ExitCode> {
    let time = |at: Option<Timestamp>| at.map(|at| at.to_string());
    let asked = Asked { since: time(args.span.since), until: time(args.span.until), ..Asked::default() };
    viewing::record(store, "audit export", Seen::Trail(asked)).await?;
    let mut trail = find(args, store, console).await?;
    let n_rows = usize::try_from(trail.n_rows()).unwrap_or(usize::MAX);
    let n_chains = trail.n_chains();
    let bar = console.progress(n_rows, "audit rows written");
    loop {
        let rows = trail.next_rows(PAGE).await?;
        if rows.is_empty() {
            break;
        }
        let mut lines = Vec::new();
        for row in &rows {
            serde_json::to_writer(&mut lines, &Line::of(row)).context("cannot write JSON")?;
            lines.push(b'\n');
        }
        out.write(&lines)?;
        bar.inc(rows.len() as u64);
    }
    bar.finish_and_clear();
    if let Some(path) = out.finish()? {
        let file = path.display().to_string();
        console.out(&if console.json {
            json!({ "file": file, "rows": n_rows, "chains": n_chains }).to_string()
        } else {
            format!("{} of {} in {file}", counted(n_rows, "row"), counted(n_chains, "chain"))
        })?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn find<'s>(args: &ExportArgs, store: &'s Store, console: &Console) -> anyhow::Result<Trail<'s>> {
    let mut bar: Option<ProgressBar> = None;
    let progress = |n_read: u64, n_rows: u64| {
        let n_rows = usize::try_from(n_rows).unwrap_or(usize::MAX);
        bar.get_or_insert_with(|| console.progress(n_rows, "audit rows looked at")).set_position(n_read);
    };
    let trail = store.audit_trail(args.span.span(), progress).await;
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    Ok(trail?)
}
