//! `wardroom grant` and `wardroom revoke`: somebody is let into a room for some hours, whatever messages say of them, and out of it again (break-glass).
//!
//! Both are orders like any other: they go through the intake, to the daemon that has the store, and change nothing by themselves. Why somebody was let
//! in is kept sealed and shown to whoever looks at the room; it is never published.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use jiff::SignedDuration;
use serde_json::json;

use crate::care::roster::Roster;
use crate::cli::beside;
use crate::cli::console::Console;
use crate::cli::orders::Orders;
use crate::cli::rooms;
use crate::cli::rooms::StoredRoom;
use crate::cli::rooms::moment;
use crate::cli::setting::Setting;
use crate::ids::UserId;
use crate::intake::grants::LONGEST;
use crate::intake::grants::Refusal;
use crate::intake::grants::SHORTEST;
use crate::intake::orders::Order;
use crate::intake::orders::Outcome;
use crate::phi::Phi;
use crate::time::Timestamp;

/// How long a reason may be.
const LONGEST_REASON: usize = 1000;

/// Lets somebody into a room for some hours, whatever messages say of them.
#[derive(Args, Debug)]
pub struct GrantArgs {
    #[command(flatten)]
    who: WhoArgs,
    /// Why; kept sealed, and shown to whoever looks at the room or searches the audit trail
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: String,
    /// For how long, from an hour to 24: `4h`, `90m`, `1h30m`
    #[arg(long = "for", value_name = "TIME", value_parser = span)]
    span: Duration,
}

/// Ends that before its time.
#[derive(Args, Debug)]
pub struct RevokeArgs {
    #[command(flatten)]
    who: WhoArgs,
    /// Why; kept with the grant's own reason
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: Option<String>,
}

#[derive(Args, Debug)]
struct WhoArgs {
    /// The room's id, the beginning of it, its name, or the four letters at the end of that
    room: String,
    /// The user, as the staff directory names them
    #[arg(value_parser = user)]
    user: String,
}

fn user(text: &str) -> Result<String, &'static str> {
    if text.is_empty() || text.trim() != text || text.chars().any(char::is_control) {
        return Err("expected a user as the staff directory names them");
    }
    Ok(text.to_owned())
}

fn reason(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("say why, in a few words".to_owned());
    }
    if text.chars().count() > LONGEST_REASON {
        return Err(format!("a reason has at most {LONGEST_REASON} characters"));
    }
    // One line, wherever it is shown.
    Ok(text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect())
}

fn span(text: &str) -> Result<Duration, String> {
    let span = text.parse::<SignedDuration>().ok().and_then(|span| Duration::try_from(span).ok());
    match span {
        None => Err("expected a time such as `4h`, `90m` or `1h30m`".to_owned()),
        Some(span) if (SHORTEST..=LONGEST).contains(&span) => Ok(span),
        Some(_) => Err(lengths()),
    }
}

fn lengths() -> String {
    let (shortest, longest) = (SHORTEST.as_secs() / 3600, LONGEST.as_secs() / 3600);
    format!("a grant lasts from {shortest} hour to {longest} hours, because it is for an emergency: who belongs to the team comes from messages")
}

/// Runs `wardroom grant`.
///
/// # Errors
/// When a stored document cannot be read, or standard output cannot be written.
pub async fn grant(args: &GrantArgs, config: Option<&Path>, console: &Console) -> anyhow::Result<ExitCode> {
    let order = |room: &StoredRoom, user| Order::Grant {
        visit: room.visit,
        room: room.room.id,
        user,
        seconds: args.span.as_secs(),
        reason: Phi::from(args.reason.as_str()),
    };
    give(&args.who, order, Some(args.span), config, console).await
}

/// Runs `wardroom revoke`.
///
/// # Errors
/// When a stored document cannot be read, or standard output cannot be written.
pub async fn revoke(args: &RevokeArgs, config: Option<&Path>, console: &Console) -> anyhow::Result<ExitCode> {
    let reason = Phi::from(args.reason.as_deref().unwrap_or_default());
    let order = |room: &StoredRoom, user| Order::Revoke { visit: room.visit, room: room.room.id, user, reason: reason.clone() };
    give(&args.who, order, None, config, console).await
}

/// Has somebody let in for a while, or out.
async fn give(
    WhoArgs { room, user }: &WhoArgs,
    order: impl Fn(&StoredRoom, UserId) -> Order,
    span: Option<Duration>,
    config: Option<&Path>,
    console: &Console,
) -> anyhow::Result<ExitCode> {
    let setting = match Setting::load(config, console)? {
        Ok(setting) => setting,
        Err(code) => return Ok(code),
    };
    let store = match beside::open(&setting).await {
        Ok(store) => store,
        Err((code, error)) => return console.fail(code, &error),
    };
    let named = rooms::named(room, &store, console).await;
    store.close().await;
    let room = match named {
        Ok(Ok(room)) => room,
        Ok(Err(code)) => return Ok(code),
        Err(error) => return console.fail(69, &error),
    };
    let mut orders = Orders::of(&setting);
    let outcome = orders.give(order(&room, UserId::new(user.as_str()))).await;
    let waits_for_daemon = outcome.is_ok() && matches!(orders.n_unpublished().await, Ok(None));
    orders.end().await;
    let why = match outcome {
        Ok(Outcome::Let { until }) => {
            told(&room, user, until, span, console)?;
            if waits_for_daemon {
                console.tell("no daemon runs: the backend is told of it as soon as one does");
            }
            return Ok(ExitCode::SUCCESS);
        }
        Ok(Outcome::Refused { why }) => why,
        Ok(Outcome::NoSuchRoom) => Refusal::NoSuchRoom,
        Ok(
            Outcome::Done { .. }
            | Outcome::NoSuchMessage
            | Outcome::NothingMerged
            | Outcome::NotWaiting
            | Outcome::NothingHeld
            | Outcome::Resynced { .. }
            | Outcome::Purged { .. }
            | Outcome::KeptLonger { .. }
            | Outcome::InEpoch { .. }
            | Outcome::Rotating { .. }
            | Outcome::NotRotated { .. }
            | Outcome::Failed,
        ) => return console.fail(69, &anyhow::anyhow!("the store could not do it; nothing was changed\nhint: read the daemon's log")),
        Err((code, error)) => return console.fail(code, &error),
    };
    let (code, text) = refused(why, user, &room, setting.roster().ok().as_deref());
    console.fail(code, &anyhow::anyhow!("{text}"))
}

/// Says who was let in and for how long, or out.
fn told(room: &StoredRoom, user: &str, until: Timestamp, span: Option<Duration>, console: &Console) -> anyhow::Result<()> {
    let (id, name, at) = (room.room.id, console.bold(room.room.state.name.as_str()), moment(&until.to_string()));
    match span {
        Some(_) if console.json => console.out(&json!({ "room": id, "user": user, "until": until.to_string() }).to_string()),
        None if console.json => console.out(&json!({ "room": id, "user": user, "would_have_lasted_until": until.to_string() }).to_string()),
        Some(span) => {
            let span = SignedDuration::try_from(span).map(|span| format!("{span:#}")).unwrap_or_default();
            console.out(&format!("{user} is in {name} until {at} ({span})"))
        }
        None => console.out(&format!("the grant of {user} in {name}, which would have lasted until {at}, is over")),
    }
}

/// Why nobody was let in or out, what to do about it, and the exit code of that.
fn refused(why: Refusal, user: &str, room: &StoredRoom, roster: Option<&Roster>) -> (u8, String) {
    let (name, id) = (room.room.state.name.as_str(), room.room.id);
    match why {
        Refusal::NoSuchRoom => (69, format!("room {id} went over to another visit meanwhile\nhint: repeat the command")),
        Refusal::NotOpen(status) => {
            let status = status.as_str();
            (1, format!("{name} is {status}, so nobody is in it\nhint: `wardroom rooms list` shows the rooms that people are in"))
        }
        Refusal::UnknownUser => {
            let meant = roster.and_then(|roster| meant(user, roster));
            let hint = meant.map_or_else(
                || {
                    "users are named as in the staff directory (the column `user` of the staff file); `wardroom rooms why` tells who it knows"
                        .to_owned()
                },
                |meant| format!("did you mean `{meant}`?"),
            );
            (1, format!("the staff directory knows no user `{user}`\nhint: {hint}"))
        }
        Refusal::Inactive => (
            1,
            format!("the staff directory says that `{user}` is not active, so they are in no room\nhint: make them active in the staff file first"),
        ),
        Refusal::OwnRoom => (1, format!("`{user}` is the patient of {name}, and nobody is a member of their own room\nhint: name somebody else")),
        Refusal::Length => (64, lengths()),
        Refusal::NoGrant => {
            let hint = "hint: `wardroom rooms show` shows who is in it, on what and until when; only a grant can be revoked";
            (1, format!("no grant of `{user}` in {name} stands\n{hint}"))
        }
    }
}

/// The user who is called like this but for capitals, or has this as an id.
fn meant<'r>(user: &str, roster: &'r Roster) -> Option<&'r UserId> {
    let is_meant = |known: &&UserId| {
        let ids = roster.staff_member(known).map(|member| member.ids.as_slice()).unwrap_or_default();
        known.as_str().eq_ignore_ascii_case(user) || ids.iter().any(|id| id.value.eq_ignore_ascii_case(user))
    };
    let mut fitting = roster.staff().keys().filter(is_meant);
    fitting.next().filter(|_| fitting.next().is_none())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::reason;
    use super::span;

    #[test]
    fn a_grant_lasts_from_one_hour_to_a_day() {
        for (text, minutes) in [("1h", 60), ("4h", 240), ("90m", 90), ("1h30m", 90), ("24h", 1440)] {
            assert_eq!(span(text), Ok(Duration::from_mins(minutes)), "{text}");
        }
        for text in ["59m", "0h", "24h1m", "48h", "-4h"] {
            let told = span(text).unwrap_err();
            assert!(told.contains("from 1 hour to 24 hours") || text.starts_with('-'), "{text}: {told}");
        }
        for text in ["", "4", "four hours", "soon"] {
            assert!(span(text).unwrap_err().contains("`4h`"), "{text}");
        }
    }

    #[test]
    fn a_reason_says_something_in_one_line() {
        assert_eq!(reason("  covers for\nthe attending ").unwrap(), "covers for the attending");
        assert!(reason(" \t ").is_err() && reason(&"x".repeat(1001)).is_err());
    }
}
