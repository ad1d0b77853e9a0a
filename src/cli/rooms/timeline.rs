//! `wardroom rooms timeline`: what became of a room, change by change, and who was in it from when until when, from the audit trail.
//!
//! Its times are those at which wardroom made the change; only the ends of what somebody is there on count from what messages say. Until when somebody
//! who is in it now will be is in the room itself, as it was published last. Rows that an older program wrote keep who was in it and on what, but no
//! ends and no permissions.

mod letting;
mod presence;

use std::collections::BTreeMap;
use std::fmt;

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;

use crate::care::change::EventType;
use crate::care::room::Permission;
use crate::cli::console::Console;
use crate::cli::quarantine::printable;
use crate::cli::rooms::StoredRoom;
use crate::cli::rooms::moment;
use crate::cli::rooms::timeline::letting::Letting;
use crate::cli::rooms::timeline::letting::lettings;
use crate::cli::rooms::timeline::presence::ends;
use crate::cli::rooms::timeline::presence::presences;
use crate::cli::table::table;
use crate::ids::CareRoomId;
use crate::ids::JournalId;
use crate::store::Store;
use crate::store::rows::StoredAudit;
use crate::time::Timestamp;

const TIMES: &str =
    "  the times are when wardroom made the change; those in `rooms show` and `rooms why`, and all ends, count from what messages say";
/// How many audit rows are read at once.
const PAGE: i64 = 1000;

/// What an audit row tells of a change of a room.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Body {
    cause: String,
    trigger: Option<String>,
    feed: Option<String>,
    /// Who was in the room after it, and on what.
    members: Vec<(String, Vec<String>)>,
    /// Of that, what has an end.
    ends: Vec<(String, String, Timestamp)>,
    /// Who may do more or less than a member.
    permissions: Option<Vec<(String, Permission)>>,
}

impl Body {
    fn standings(&self) -> BTreeMap<String, Standing> {
        let permission = |user: &str| {
            let others = self.permissions.as_ref()?;
            Some(others.iter().find(|(other, _)| other == user).map_or(Permission::Member, |(_, permission)| *permission))
        };
        let mut standings: BTreeMap<String, Standing> = BTreeMap::new();
        for (user, from) in &self.members {
            let on = from.iter().map(|from| On { from: from.clone(), until: None }).collect();
            standings.insert(user.clone(), Standing { on, permission: permission(user) });
        }
        for (user, from, until) in &self.ends {
            // Somebody may be there on the same twice, with two ends.
            let on = standings.get_mut(user).and_then(|standing| standing.on.iter_mut().find(|on| on.from == *from && on.until.is_none()));
            if let Some(on) = on {
                on.until = Some(*until);
            }
        }
        standings
    }
}

/// On what somebody is in a room.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct On {
    /// `PV1-7`, `unit GHH/4N`.
    from: String,
    /// Until when, where it has an end.
    until: Option<Timestamp>,
}

impl fmt::Display for On {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.until {
            Some(until) => write!(f, "{} until {}", self.from, moment(&until.to_string())),
            None => f.write_str(&self.from),
        }
    }
}

/// How somebody is in a room.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Standing {
    on: Vec<On>,
    /// What they may do, where the row says it.
    permission: Option<Permission>,
}

impl Standing {
    fn form(&self, user: &str) -> Value {
        json!({ "user": user, "from": froms(&self.on), "ends": end_forms(&self.on), "permission": self.permission })
    }

    /// In words, as it has become; what they may do only where that has changed.
    fn changed(&self, before: Option<&Self>) -> String {
        let on = self.on.iter().map(On::to_string).collect::<Vec<_>>().join(", ");
        match (self.permission, before.and_then(|before| before.permission)) {
            (Some(now), Some(then)) if now != then => format!("{} on {on}", permission(now)),
            _ => on,
        }
    }

    /// Whether somebody may do something else now, or is there on something else or for another time. What an older row does not say has not changed.
    fn differs(&self, before: &Self) -> bool {
        self.on != before.on || (self.permission.is_some() && before.permission.is_some() && self.permission != before.permission)
    }
}

fn froms(on: &[On]) -> Vec<&str> {
    on.iter().map(|on| on.from.as_str()).collect()
}

fn end_forms(on: &[On]) -> Vec<Value> {
    on.iter().filter_map(|on| Some(json!({ "from": on.from, "until": on.until?.to_string() }))).collect()
}

const fn permission(permission: Permission) -> &'static str {
    match permission {
        Permission::Observer => "observer",
        Permission::Member => "member",
        Permission::Owner => "owner",
    }
}

/// One change of a room.
#[derive(Debug)]
pub(in crate::cli) struct Entry {
    /// Its row in the audit trail.
    pub(in crate::cli) id: i64,
    pub(in crate::cli) version: i64,
    pub(in crate::cli) at: Timestamp,
    pub(in crate::cli) event_type: EventType,
    pub(in crate::cli) message: Option<JournalId>,
    pub(super) cause: String,
    pub(super) trigger: Option<String>,
    pub(super) feed: Option<String>,
    /// Who came, and how they are there.
    joined: Vec<(String, Standing)>,
    /// Who went.
    pub(super) left: Vec<String>,
    /// Who was there already and is there otherwise now, how, and in words what became of it.
    updated: Vec<(String, Standing, String)>,
    /// False when what is known of it was deleted with its patient, or cannot be read.
    pub(in crate::cli) is_readable: bool,
}

impl Entry {
    /// `A02 on main`, or what else caused it.
    pub(in crate::cli) fn reason(&self) -> String {
        match (&self.trigger, &self.feed) {
            (Some(trigger), Some(feed)) => format!("{trigger} on {feed}"),
            (Some(trigger), None) => trigger.clone(),
            (None, _) => match self.cause.as_str() {
                "wake" => "time passed".to_owned(),
                "directory" => "staff or units changed".to_owned(),
                "policy" => "the configuration changed".to_owned(),
                cause => cause.to_owned(),
            },
        }
    }

    /// Whether somebody came with it, went, or is there otherwise since.
    pub(in crate::cli) fn concerns(&self, user: &str) -> bool {
        let others = self.left.iter().chain(self.updated.iter().map(|(other, _, _)| other));
        self.joined.iter().map(|(other, _)| other).chain(others).any(|other| other == user)
    }

    /// The same, of one user alone.
    #[must_use]
    pub(in crate::cli) fn only(mut self, user: &str) -> Self {
        self.joined.retain(|(other, _)| other == user);
        self.updated.retain(|(other, _, _)| other == user);
        self.left.retain(|other| other == user);
        self
    }
}

/// Every change of a room that was published, in order.
pub(in crate::cli) async fn entries(room: CareRoomId, store: &Store) -> anyhow::Result<Vec<Entry>> {
    Ok(told(rows(room, store).await?))
}

/// When and why somebody went from a room for the last time, in words; `None` when they never did.
pub(super) async fn last_left(room: CareRoomId, user: &str, store: &Store) -> anyhow::Result<Option<String>> {
    Ok(left(rows(room, store).await?, user))
}

fn left(rows: Vec<StoredAudit>, user: &str) -> Option<String> {
    let revocations: Vec<Letting> = lettings(&rows).into_iter().filter(|letting| !letting.is_in && letting.user == user).collect();
    let entries = told(rows);
    let index = entries.iter().rposition(|entry| entry.left.iter().any(|left| left == user))?;
    let (before, from) = entries.split_at(index);
    let (entry, before) = (from.first()?, before.last().map_or(Timestamp::MIN, |entry| entry.at));
    // The order's own row was written with the change that it made, behind the change before: an older one is of another time in the room.
    let made_it = |letting: &&Letting| entry.cause == "operator" && before <= letting.at && letting.at <= entry.at;
    let order = revocations.iter().rev().find(made_it);
    let reason = order.map_or_else(|| entry.reason(), |order| order.told("revoked the grant"));
    Some(printable(&format!("{}: {reason} ({})", moment(&entry.at.to_string()), entry.event_type)))
}

async fn rows(room: CareRoomId, store: &Store) -> anyhow::Result<Vec<StoredAudit>> {
    let mut rows = Vec::new();
    let mut after = i64::MIN;
    loop {
        let page = store.audit_page(Some(room), after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(rows) };
        after = last.id;
        rows.extend(page);
    }
}

/// Replicas write chains of their own, so the room's version is the order, not the row.
fn told(rows: Vec<StoredAudit>) -> Vec<Entry> {
    let changes = rows.into_iter().filter_map(|row| Some((row.room_version?, EventType::parse(&row.kind)?, row)));
    let changes: BTreeMap<i64, (EventType, StoredAudit)> = changes.map(|(version, event_type, row)| (version, (event_type, row))).collect();
    let mut present: BTreeMap<String, Standing> = BTreeMap::new();
    let mut entries = Vec::with_capacity(changes.len());
    for (version, (event_type, row)) in changes {
        let body: Option<Body> = row.body.as_ref().and_then(|body| serde_json::from_slice(&body.bytes).ok());
        let is_readable = body.is_some();
        let body = body.unwrap_or_default();
        let members = if is_readable { body.standings() } else { present.clone() };
        let joined = members.iter().filter(|(user, _)| !present.contains_key(*user));
        let updated = members.iter().filter_map(|(user, now)| {
            let before = present.get(user).filter(|before| now.differs(before))?;
            Some((user.clone(), now.clone(), now.changed(Some(before))))
        });
        entries.push(Entry {
            id: row.id,
            version,
            at: row.at,
            event_type,
            message: row.journal_id,
            joined: joined.map(|(user, standing)| (user.clone(), standing.clone())).collect(),
            updated: updated.collect(),
            left: present.keys().filter(|user| !members.contains_key(*user)).cloned().collect(),
            cause: body.cause,
            trigger: body.trigger,
            feed: body.feed,
            is_readable,
        });
        present = members;
    }
    entries
}

pub(super) async fn run(stored: &StoredRoom, store: &Store, console: &Console) -> anyhow::Result<()> {
    let rows = rows(stored.room.id, store).await?;
    let lettings = lettings(&rows);
    let entries = told(rows);
    let (presences, ends) = (presences(&entries), ends(&stored.room));
    if console.json {
        let document = json!({
            "room": stored.room.id,
            "entries": entries.iter().map(form).collect::<Vec<_>>(),
            "presences": presences.iter().map(|presence| presence.form(&ends)).collect::<Vec<_>>(),
            "grants": lettings.iter().map(Letting::form).collect::<Vec<_>>(),
        });
        return console.out(&serde_json::to_string_pretty(&document).context("cannot write JSON")?);
    }
    console.out(&format!("{}  {}", console.bold(stored.room.state.name.as_str()), console.dim(&stored.room.id.to_string())))?;
    console.out(&console.dim(TIMES))?;
    let mut lettings = lettings.iter().peekable();
    for entry in &entries {
        while let Some(letting) = lettings.next_if(|letting| letting.at <= entry.at) {
            console.out(&letting.line())?;
        }
        let cause = if entry.is_readable {
            entry.reason()
        } else {
            "deleted with its patient, or not readable; `wardroom audit verify` tells which".to_owned()
        };
        let message = entry.message.map(|message| console.dim(&format!("  message {message}"))).unwrap_or_default();
        console.out(&format!(
            "  {}  v{:<3} {} {cause}{message}",
            moment(&entry.at.to_string()),
            entry.version,
            console.paint_event(entry.event_type)
        ))?;
        for line in comings(entry) {
            console.out(&format!("                          {line}"))?;
        }
    }
    for letting in lettings {
        console.out(&letting.line())?;
    }
    if !presences.is_empty() {
        let rows: Vec<Vec<String>> = presences.iter().map(|presence| presence.row(&ends)).collect();
        console.out("")?;
        for (index, line) in table(&["who was in it", "from", "came with", "until", "went with", "on"], &rows, console.columns()).iter().enumerate() {
            console.out(&if index == 0 { console.bold(line) } else { line.clone() })?;
        }
    }
    Ok(())
}

/// Who came, who went and who stays on something else, those on the same grounds together.
pub(in crate::cli) fn comings(entry: &Entry) -> Vec<String> {
    let joined = together(entry.joined.iter().map(|(user, standing)| (user, standing.changed(None))));
    let joined = joined.into_iter().map(|(from, users)| format!("+ {users} ({from})"));
    let left = (!entry.left.is_empty()).then(|| format!("- {}", entry.left.join(", ")));
    let updated = together(entry.updated.iter().map(|(user, _, words)| (user, words.clone())));
    let updated = updated.into_iter().map(|(words, users)| format!("= {users} (now {words})"));
    let lines: Vec<String> = joined.chain(left).chain(updated).collect();
    if lines.is_empty() && entry.is_readable && entry.event_type == EventType::MembersChanged {
        return vec!["= a role or an end of somebody who stays, or who is named and not known; the audit trail does not keep which".to_owned()];
    }
    lines
}

/// Users by the grounds they are there on.
fn together<'a>(members: impl Iterator<Item = (&'a String, String)>) -> BTreeMap<String, String> {
    let mut groups: BTreeMap<String, String> = BTreeMap::new();
    for (user, words) in members {
        let users = groups.entry(words).or_default();
        users.push_str(if users.is_empty() { "" } else { ", " });
        users.push_str(user);
    }
    groups
}

/// As it stands in JSON.
pub(in crate::cli) fn form(entry: &Entry) -> Value {
    json!({
        "version": entry.version,
        "at": entry.at.to_string(),
        "type": entry.event_type.as_str(),
        "cause": { "kind": entry.cause, "message": entry.message.map(|message| message.to_string()), "trigger": entry.trigger, "feed": entry.feed },
        "joined": entry.joined.iter().map(|(user, standing)| standing.form(user)).collect::<Vec<_>>(),
        "left": entry.left,
        "updated": entry.updated.iter().map(|(user, standing, _)| standing.form(user)).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::comings;
    use super::form;
    use super::froms;
    use super::presences;
    use super::told;
    use crate::ids::CareRoomId;
    use crate::intake::orders::GRANTED;
    use crate::intake::orders::REVOKED;
    use crate::store::rows::StoredAudit;
    use crate::store::sealing::Document;
    use crate::time::Timestamp;

    fn row(id: i64, version: i64, kind: &str, members: &serde_json::Value) -> StoredAudit {
        let body = json!({ "event_type": kind, "cause": "message", "trigger": "A02", "feed": "main", "members": members });
        StoredAudit {
            id,
            at: Timestamp::from_micros(version),
            kind: kind.to_owned(),
            room_id: Some(CareRoomId::default_for_tests()),
            room_version: Some(version),
            journal_id: None,
            body: Some(Document::new(1, body.to_string().into_bytes())),
        }
    }

    #[test]
    fn who_came_and_who_went_is_told_in_the_order_of_versions_whatever_chain_they_stand_in() {
        let unit = json!(["unit GHH/4N"]);
        let rows = vec![
            row(1, 2, "room.updated", &json!([["atembo", ["PV1-7"]], ["cvoss", unit]])),
            row(2, 1, "room.opened", &json!([["plindqvist", ["PV1-7"]], ["cvoss", unit], ["jamadi", unit]])),
            StoredAudit { kind: "rooms.viewed".to_owned(), room_version: None, ..row(3, 9, "x", &json!([])) },
        ];
        let entries = told(rows);
        assert_eq!(entries.iter().map(|entry| entry.version).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(comings(&entries[0]), ["+ plindqvist (PV1-7)", "+ cvoss, jamadi (unit GHH/4N)"]);
        assert_eq!(comings(&entries[1]), ["+ atembo (PV1-7)", "- jamadi, plindqvist"]);
        assert_eq!(entries[1].reason(), "A02 on main");
    }

    #[test]
    fn a_change_concerns_who_came_who_went_and_who_is_there_otherwise() {
        let unit = json!(["unit GHH/4N"]);
        let rows = vec![
            row(1, 1, "room.opened", &json!([["atembo", ["PV1-7"]], ["cvoss", unit]])),
            row(2, 2, "room.members_changed", &json!([["cvoss", ["unit GHH/4N", "PV1-9"]], ["jamadi", unit]])),
        ];
        let mut entries = told(rows);
        let concerned = |user: &str| entries.iter().filter(|entry| entry.concerns(user)).map(|entry| entry.id).collect::<Vec<_>>();
        assert_eq!([concerned("atembo"), concerned("cvoss"), concerned("jamadi"), concerned("x")], [vec![1, 2], vec![1, 2], vec![2], vec![]]);
        let last = entries.pop().unwrap();
        assert_eq!(comings(&last.only("atembo")), ["- atembo"]);
    }

    #[test]
    fn everybody_has_a_time_in_the_room_for_each_time_they_came() {
        let unit = json!(["unit GHH/4N"]);
        let rows = vec![
            row(1, 1, "room.opened", &json!([["atembo", ["PV1-7"]], ["cvoss", unit]])),
            row(2, 2, "room.members_changed", &json!([["atembo", ["PV1-7"]], ["cvoss", ["unit GHH/4N", "PV1-9"]]])),
            row(3, 3, "room.members_changed", &json!([["cvoss", unit]])),
            row(4, 4, "room.members_changed", &json!([["atembo", ["PV1-9"]], ["cvoss", unit]])),
        ];
        let entries = told(rows);
        assert_eq!(comings(&entries[1]), ["= cvoss (now unit GHH/4N, PV1-9)"]);
        let end = Timestamp::from_micros(1_795_271_402_000_000);
        let told: Vec<_> = presences(&entries)
            .iter()
            .map(|one| {
                (one.user, one.came.version, one.went.map(|went| went.version), froms(&one.on).join(", "), one.will_end(&[("atembo", end)].into()))
            })
            .collect();
        assert_eq!(
            told,
            [
                ("atembo", 1, Some(3), "PV1-7".to_owned(), None),
                ("cvoss", 1, None, "unit GHH/4N, PV1-9".to_owned(), None),
                ("atembo", 4, None, "PV1-9".to_owned(), Some(end)),
            ]
        );
    }

    #[test]
    fn who_only_stays_otherwise_is_told_until_when_and_as_what() {
        let with = |mut row: StoredAudit, ends: serde_json::Value, permissions: serde_json::Value| {
            let mut body: serde_json::Value = serde_json::from_slice(&row.body.as_ref().unwrap().bytes).unwrap();
            (body["ends"], body["permissions"]) = (ends, permissions);
            row.body = Some(Document::new(1, body.to_string().into_bytes()));
            row
        };
        let (until, unit) = (1_795_271_402_000_000_i64, json!(["unit GHH/4N"]));
        let changed = |version, members| row(version, version, "room.members_changed", &members);
        let members = || json!([["atembo", ["PV1-7"]], ["cvoss", unit], ["jamadi", ["unit GHH/4N", "PV1-9"]]]);
        let ends = json!([["cvoss", "unit GHH/4N", until], ["jamadi", "unit GHH/4N", until]]);
        let rows = vec![
            row(1, 1, "room.opened", &members()),
            // The rows so far are of an older program: what they do not say has not changed.
            with(changed(2, members()), json!([]), json!([["atembo", "owner"]])),
            with(changed(3, members()), ends.clone(), json!([["atembo", "owner"]])),
            with(changed(4, members()), json!([]), json!([["atembo", "owner"], ["cvoss", "owner"]])),
            with(changed(5, members()), json!([]), json!([["cvoss", "owner"]])),
            with(changed(6, json!([["jamadi", ["PV1-9"]]])), json!([]), json!([])),
        ];
        let entries = told(rows);
        let at = super::moment(&Timestamp::from_micros(until).to_string());
        let nothing_told = ["= a role or an end of somebody who stays, or who is named and not known; the audit trail does not keep which"];
        assert_eq!(comings(&entries[1]), nothing_told);
        let ending = [format!("= cvoss (now unit GHH/4N until {at})"), format!("= jamadi (now unit GHH/4N until {at}, PV1-9)")];
        assert_eq!(comings(&entries[2]), ending);
        assert_eq!(comings(&entries[3]), ["= cvoss (now owner on unit GHH/4N)", "= jamadi (now unit GHH/4N, PV1-9)"]);
        assert_eq!(comings(&entries[4]), ["= atembo (now member on PV1-7)"]);
        assert_eq!(comings(&entries[5]), ["- atembo, cvoss", "= jamadi (now PV1-9)"]);
        let jamadi = presences(&entries).into_iter().find(|presence| presence.user == "jamadi").unwrap();
        let gone = jamadi.form(&std::collections::BTreeMap::new())["ends"].clone();
        assert_eq!(
            gone,
            json!([{ "from": "unit GHH/4N", "until": Timestamp::from_micros(6).to_string() }]),
            "it had no end and was gone with the sixth"
        );
        let updated = &form(&entries[2])["updated"][0];
        assert_eq!((&updated["user"], &updated["from"], &updated["permission"]), (&json!("cvoss"), &unit, &json!("member")));
        assert_eq!(updated["ends"], json!([{ "from": "unit GHH/4N", "until": Timestamp::from_micros(until).to_string() }]));
        assert_eq!(form(&entries[0])["joined"][0]["permission"], json!(null));
    }

    #[test]
    fn grants_are_told_in_the_order_of_their_times_whoever_wrote_them() {
        let grant = |id: i64, at: i64| {
            let body = json!({ "by": { "uid": 0 }, "order": { "user": format!("u{at}"), "seconds": 3600, "reason": "helps" } });
            StoredAudit {
                at: Timestamp::from_micros(at),
                kind: GRANTED.to_owned(),
                room_version: None,
                body: Some(Document::new(1, body.to_string().into_bytes())),
                ..row(id, 1, "x", &json!([]))
            }
        };
        let told: Vec<String> = super::lettings(&[grant(1, 30), grant(2, 10), grant(3, 20)]).into_iter().map(|letting| letting.user).collect();
        assert_eq!(told, ["u10", "u20", "u30"]);
    }

    #[test]
    fn who_left_by_an_order_left_by_that_order_and_not_by_one_from_before() {
        let order = |version: i64, members: serde_json::Value| {
            let body = json!({ "cause": "operator", "members": members });
            StoredAudit { body: Some(Document::new(1, body.to_string().into_bytes())), ..row(version, version, "room.members_changed", &json!([])) }
        };
        let body = json!({ "by": { "uid": 7 }, "order": { "user": "cvoss", "reason": "is back" } });
        let revoked = StoredAudit {
            at: Timestamp::from_micros(15),
            kind: REVOKED.to_owned(),
            room_version: None,
            body: Some(Document::new(1, body.to_string().into_bytes())),
            ..row(9, 1, "x", &json!([]))
        };
        let opened = || row(10, 10, "room.opened", &json!([["cvoss", ["PV1-9"]]]));
        let gone = super::left(vec![opened(), revoked.clone(), order(20, json!([]))], "cvoss").unwrap();
        assert!(gone.contains("revoked the grant: is back"), "{gone}");
        let again = row(30, 30, "room.members_changed", &json!([["cvoss", ["PV1-9"]]]));
        let gone = super::left(vec![opened(), revoked, order(20, json!([])), again, order(40, json!([]))], "cvoss").unwrap();
        assert!(gone.contains(": operator (") && !gone.contains("revoked"), "{gone}");
    }

    #[test]
    fn what_was_deleted_with_its_patient_says_nothing_of_who_came() {
        let mut rows = vec![row(1, 1, "room.opened", &json!([["cvoss", ["unit GHH/4N"]]])), row(2, 2, "room.closed", &json!([]))];
        rows[1].body = None;
        let entries = told(rows);
        assert!(!entries[1].is_readable && entries[1].left.is_empty());
    }
}
