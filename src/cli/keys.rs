//! `wardroom keys`: how the master key stands, and another one in its place.
//!
//! The status is read beside a running daemon, and tries every patient's key. Rotating is an order to the daemon that has the store, given again and again
//! until nothing is wrapped by the old key any more: who is interrupted repeats the command. No key is ever shown, nor handed to the daemon: it makes or
//! reads the file itself.

use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use clap::Subcommand;
use serde_json::json;

use crate::cli::beside;
use crate::cli::console::Console;
use crate::cli::orders::Orders;
use crate::cli::rooms::moment;
use crate::cli::setting::Setting;
use crate::cli::table::table;
use crate::cli::words::counted;
use crate::cli::words::counted_as;
use crate::config::store::KeySource;
use crate::config::store::StoreUrl;
use crate::intake::orders::NoRotation;
use crate::intake::orders::Order;
use crate::intake::orders::Outcome;
use crate::store::Store;
use crate::store::error::StoreError;
use crate::store::master_key::made_beside;
use crate::store::master_key::old_file;
use crate::store::master_key::old_files;
use crate::store::rotation::KeyCounts;
use crate::store::rotation::KeyStanding;
use crate::time::Timestamp;

/// How often, and how long apart, whoever reads the store is waited for at the end.
const WAITS: usize = 40;
const BETWEEN_WAITS: Duration = Duration::from_millis(50);

/// Looks at the master key, or puts another in its place.
#[derive(Args, Debug)]
pub struct KeysArgs {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Say where the key is, since when it is in use, and whether it opens every patient's; the exit code is 1 when it does not
    Status,
    /// Put a new key in the place of the present one, which then opens nothing in the store any more
    ///
    /// Where it was interrupted it goes on. The old key stays beside the new one, for backups from before.
    Rotate(RotateArgs),
}

#[derive(Args, Debug)]
struct RotateArgs {
    /// The file of the new key, made where it is not there, for a key that does not stand in a file of its own: `file:PATH`
    #[arg(long, value_name = "file:PATH", value_parser = place)]
    to: Option<PathBuf>,
}

fn place(text: &str) -> Result<PathBuf, String> {
    let file = text.strip_prefix("file:").filter(|file| !file.is_empty());
    let file = file.ok_or("expected `file:PATH`; what that file holds then is what a variable or a secret has to hold at the next start")?;
    // The daemon may have been started in another folder.
    std::path::absolute(file).map_err(|error| error.to_string())
}

/// Runs the command.
///
/// # Errors
/// When standard output cannot be written.
pub async fn run(args: &KeysArgs, config: Option<&Path>, console: &Console) -> anyhow::Result<ExitCode> {
    let setting = match Setting::load(config, console)? {
        Ok(setting) => setting,
        Err(code) => return Ok(code),
    };
    let store = match beside::open_read_only(&setting).await {
        Ok(store) => store,
        Err((code, error)) => return console.fail(code, &error),
    };
    match &args.command {
        KeysCommand::Status => {
            let looked = look(&store, console).await;
            store.close().await;
            match looked {
                Ok((standing, counts)) => status(&setting, &standing, counts, console),
                Err(error) => console.fail(69, &anyhow::Error::new(error).context("cannot read the store")),
            }
        }
        KeysCommand::Rotate(args) => {
            let n_patients = store.patient_count().await;
            store.close().await;
            match n_patients {
                Ok(n_patients) => rotate(args.to.as_deref(), &setting, n_patients, console).await,
                Err(error) => console.fail(69, &anyhow::Error::new(error).context("cannot read the store")),
            }
        }
    }
}

/// How the master key stands, and what of all patients' keys it opens.
async fn look(store: &Store, console: &Console) -> Result<(KeyStanding, KeyCounts), StoreError> {
    let progress = console.progress(usize::try_from(store.patient_count().await?).unwrap_or(0), "keys tried");
    let (mut all, mut after) = (KeyCounts::default(), Some(i64::MIN));
    while let Some(at) = after {
        let (counts, next) = store.try_keys(at).await?;
        all.n_keys += counts.n_keys;
        all.n_left += counts.n_left;
        all.n_unopened += counts.n_unopened;
        progress.set_position(u64::try_from(all.n_keys).unwrap_or(0));
        after = next;
    }
    progress.finish_and_clear();
    // Behind the keys: what has come to its end meanwhile is over.
    Ok((store.key_standing().await?, all))
}

/// Where the master key is, in words; and its file.
fn source(setting: &Setting) -> (String, Option<PathBuf>) {
    match &setting.config.store.key {
        KeySource::File(path) => {
            let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.clone());
            (format!("in the file {}", path.display()), Some(path))
        }
        KeySource::Given { variable: Some(name), .. } => (format!("in the environment, as {name}"), None),
        KeySource::Given { variable: None, .. } => ("in the configuration".to_owned(), None),
    }
}

fn status(setting: &Setting, standing: &KeyStanding, counts: KeyCounts, console: &Console) -> anyhow::Result<ExitCode> {
    let (place, file) = source(setting);
    let old: Vec<String> = file.iter().flat_map(|file| old_files(file)).map(|file| file.display().to_string()).collect();
    let KeyCounts { n_keys, n_left, n_unopened } = counts;
    // While a rotation is under way it is what takes the place of the present one.
    let unused = file.as_deref().filter(|_| !standing.is_under_way && !standing.is_beside).and_then(made_beside);
    let is_whole = n_unopened == 0 && !standing.is_under_way;
    if console.json {
        let variable = match &setting.config.store.key {
            KeySource::Given { variable, .. } => variable.as_deref(),
            KeySource::File(_) => None,
        };
        let document = json!({
            "file": file.map(|file| file.display().to_string()),
            "variable": variable,
            "is_in_place": !standing.is_beside,
            "since": standing.replaced.as_ref().map(|replaced| replaced.at.to_string()),
            "by": standing.replaced.as_ref().map(|replaced| json!({ "uid": replaced.uid, "login": replaced.login })),
            "keys_before": standing.n_before,
            "rotating": standing.is_under_way,
            "patients": n_keys,
            "left": n_left,
            "unopened": n_unopened,
            "old_keys": old,
            "unused_key": unused.map(|file| file.display().to_string()),
        });
        console.out(&document.to_string())?;
        return Ok(ExitCode::from(u8::from(!is_whole)));
    }
    let since = standing.replaced.as_ref().map_or_else(
        || "the store was made".to_owned(),
        |replaced| {
            let login = replaced.login.as_ref().map(|login| format!("{login}, ")).unwrap_or_default();
            format!("{}, by the order of {login}uid {}", moment(&replaced.at.to_string()), replaced.uid)
        },
    );
    let beside = if standing.is_beside {
        " (it lies beside it yet, as `.next`; a daemon puts it there when it starts, and `wardroom keys rotate`)"
    } else {
        ""
    };
    let rotation = if standing.is_under_way {
        format!(
            "under way: {} still wrapped by the old key; a daemon goes on when it starts, and `wardroom keys rotate`",
            counted_as(n_left, "patient's key is", "patients' keys are")
        )
    } else {
        "none under way".to_owned()
    };
    let opened = if n_unopened == 0 { "all open".to_owned() } else { format!("{n_unopened} of them do not open") };
    let mut rows = vec![
        vec!["in use since".to_owned(), since],
        vec!["rotation".to_owned(), rotation],
        vec!["patients".to_owned(), format!("{}, {opened}", counted(n_keys, "key"))],
    ];
    rows.extend(old.into_iter().map(|file| vec!["old key".to_owned(), file]));
    rows.extend(
        unused
            .map(|file| vec!["unused key".to_owned(), format!("{}, made for a rotation that did not begin: the next one takes it", file.display())]),
    );
    for line in table(&["key", &format!("{place}{beside}")], &rows, console.columns()) {
        console.out(&line)?;
    }
    Ok(ExitCode::from(u8::from(!is_whole)))
}

/// What was rotated.
struct Rotated {
    n_keys: usize,
    n_unopened: usize,
    since: Option<Timestamp>,
    has_begun: bool,
    is_in_file: bool,
}

async fn rotate(to: Option<&Path>, setting: &Setting, n_patients: i64, console: &Console) -> anyhow::Result<ExitCode> {
    if to.is_none() && matches!(setting.config.store.key, KeySource::Given { .. }) {
        let (code, text) = refused(NoRotation::NoPlace, false);
        return console.fail(code, &anyhow::anyhow!(text));
    }
    let mut orders = Orders::of(setting);
    let rotated = carry_out(to, usize::try_from(n_patients).unwrap_or(0), &mut orders, console).await;
    orders.end().await;
    match rotated {
        Ok(rotated) => told(&rotated, to, setting, console),
        Err((code, error)) => console.fail(code, &error),
    }
}

async fn carry_out(to: Option<&Path>, n_patients: usize, orders: &mut Orders<'_>, console: &Console) -> Result<Rotated, (u8, anyhow::Error)> {
    let progress = console.progress(n_patients, "keys wrapped anew");
    let mut rotated = Rotated { n_keys: 0, n_unopened: 0, since: None, has_begun: false, is_in_file: false };
    let (mut begins, mut n_waits) = (true, WAITS);
    loop {
        let outcome = orders.give(Order::RotateKeys { to: to.map(Path::to_owned), begins }).await?;
        if let Outcome::NotRotated { why } = outcome {
            let (code, text) = refused(why, !begins);
            return Err((code, anyhow::anyhow!(text)));
        }
        let Outcome::Rotating { n_keys, n_unopened, is_done, has_begun, is_in_file, since } = outcome else {
            let text = if begins {
                "the store could not do it; nothing was changed"
            } else {
                "the new key is in use, and some keys are still wrapped by the old one"
            };
            return Err((69, anyhow::anyhow!("{text}\nhint: read the daemon's log, and repeat the command")));
        };
        rotated.n_keys += n_keys;
        rotated.n_unopened += n_unopened;
        rotated.has_begun |= has_begun;
        rotated.is_in_file = is_in_file;
        rotated.since = since;
        progress.set_position(u64::try_from(rotated.n_keys).unwrap_or(0));
        // Whoever reads the store for a moment is waited for, while messages are taken.
        if is_done && (!is_in_file || n_waits == 0) {
            progress.finish_and_clear();
            return Ok(rotated);
        }
        if is_done {
            n_waits -= 1;
            tokio::time::sleep(BETWEEN_WAITS).await;
        }
        begins = false;
    }
}

/// Why another key did not take the place of the present one, what to do about it, and the exit code of that.
fn refused(why: NoRotation, has_begun: bool) -> (u8, String) {
    match why {
        NoRotation::NoPlace => (
            64,
            "the key stands in no file of its own (`store.key`), so none can take its place there\n\
             hint: `wardroom keys rotate --to file:PATH` makes the new key in that file, or takes the one that is there; then it has to become `store.key`"
                .to_owned(),
        ),
        NoRotation::Mounted => (
            64,
            "the file of the key is mounted by itself, as containers mount single files: no other can be put in its place\n\
             hint: mount the folder that it is in; or `--to file:PATH` makes the new key elsewhere, which then has to become `store.key`"
                .to_owned(),
        ),
        NoRotation::Same => (
            64,
            "the file of the new key holds the key that the store has now, or one that it had before\n\
             hint: with `--to`, name a file that is not there yet; else take away the one beside the present key (`.next`)"
                .to_owned(),
        ),
        NoRotation::Shared { n } => (
            69,
            format!(
                "{} this store, with the key that it has now\n\
                 hint: stop every one, repeat the command, and let each have the new key before it starts; one that was killed counts for ten seconds more",
                if n == 1 { "1 daemon has".to_owned() } else { format!("{n} daemons have") }
            ),
        ),
        NoRotation::NoFile { text } if has_begun => (
            69,
            format!(
                "the new key is in use, and its file cannot be put in the place of the old one's: it lies beside it, as `.next`: {text}\n\
                 hint: see to it that there is space and that the daemon's user may write in that folder, and repeat the command"
            ),
        ),
        NoRotation::NoFile { text } => (
            69,
            format!(
                "the file of the new key can neither be read nor made; nothing was changed: {text}\n\
                 hint: where nothing can be written beside the present key, `--to file:PATH` names another place"
            ),
        ),
    }
}

fn told(rotated: &Rotated, to: Option<&Path>, setting: &Setting, console: &Console) -> anyhow::Result<ExitCode> {
    let Rotated { n_keys, n_unopened, since, has_begun, is_in_file } = *rotated;
    // A rotation that goes on has the key that it was begun with.
    let (to, unused) = if has_begun { (to, None) } else { (None, to) };
    let (_, file) = source(setting);
    let old =
        if to.is_some() { file.clone() } else { file.as_deref().zip(since).map(|(file, since)| old_file(file, since)).filter(|old| old.exists()) };
    let new = to.map(Path::to_owned).or(file);
    if console.json {
        let shown = |path: Option<PathBuf>| path.map(|path| path.display().to_string());
        let document = json!({
            "since": since.map(|since| since.to_string()),
            "patients": n_keys,
            "unopened": n_unopened,
            "resumed": !has_begun,
            "is_in_file": is_in_file,
            "file": shown(new),
            "old_key": shown(old),
        });
        console.out(&document.to_string())?;
    } else {
        let since = since.map(|since| format!(", since {}", moment(&since.to_string()))).unwrap_or_default();
        let keys = counted_as(n_keys, "patient's key", "patients' keys");
        let begun = if has_begun { "" } else { "the rotation that was begun before has come to its end: " };
        console.out(&format!("{begun}the store has another key{since}, which wraps {keys}; the old one opens nothing in it any more"))?;
        if let Some(unused) = unused {
            console.out(&format!("{} is not it: name it again, to have another key once more", unused.display()))?;
        }
        console.out("keep a copy of the new key elsewhere: nothing can be read without it")?;
        if let Some(to) = to {
            let to = to.display();
            console.out(&format!(
                "now let `store.key` be \"file:{to}\", or let what it is hold what that file holds: commands need it, and the daemon when it starts"
            ))?;
        }
        let old = old.map_or_else(|| "the old key".to_owned(), |old| format!("the old key, {},", old.display()));
        console.out(&format!("{old} opens backups from before: move it to where they are, and delete it with the last of them"))?;
        if matches!(setting.config.store.url, StoreUrl::Postgres { .. }) {
            console.out("every daemon needs the new key as its `store.key` before it starts")?;
        }
    }
    if is_in_file {
        return console.fail(
            1,
            &anyhow::anyhow!(
                "another process reads the store on and on: until it ends, what the old key wrapped stands in the file, which a copy of it alone would show\n\
                 hint: end it; what the old key wrapped goes with the next few hundred messages, or when the daemon ends"
            ),
        );
    }
    if n_unopened > 0 {
        let keys = counted_as(n_unopened, "patient's key", "patients' keys");
        return console.fail(1, &anyhow::anyhow!("{keys} could not be opened and stayed as before\nhint: read the daemon's log"));
    }
    Ok(ExitCode::SUCCESS)
}
