//! `wardroom rooms why`: why somebody is in a room, or why not, as far as the store and the directory tell.

use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::Value;
use serde_json::json;

use crate::care::fact::Confidentiality;
use crate::care::grant::Grant;
use crate::care::room::CareRoom;
use crate::care::room::Flag;
use crate::care::room::Member;
use crate::care::roster::Resolved;
use crate::care::roster::Roster;
use crate::cli::console::Console;
use crate::cli::quarantine::printable;
use crate::cli::rooms::StoredRoom;
use crate::cli::rooms::grant_form;
use crate::cli::rooms::moment;
use crate::cli::rooms::timeline;
use crate::cli::rooms::who_gave;
use crate::cli::setting::Setting;
use crate::ids::UserId;
use crate::store::Store;

/// A reason why somebody is not in a room.
#[derive(Debug, Eq, PartialEq)]
struct Reason {
    code: &'static str,
    text: String,
}

pub(super) async fn run(stored: &StoredRoom, user: &str, setting: &Setting, store: &Store, console: &Console) -> anyhow::Result<ExitCode> {
    let roster = match setting.roster() {
        Ok(roster) => roster,
        Err(error) => return console.fail(64, &anyhow::Error::new(error)),
    };
    let user = UserId::new(user);
    let room = &stored.room;
    let member = room.state.members.iter().find(|member| member.user == user);
    let (grounds, reasons) = if let Some(member) = member {
        (grounds(member, &stored.grants, store).await?, Vec::new())
    } else {
        let left = timeline::last_left(room.id, user.as_str(), store).await?;
        (Vec::new(), reasons(room, &user, &roster, setting.sources().staff.is_some(), left))
    };
    if console.json {
        let document = json!({
            "room": room.id,
            "name": room.state.name.as_str(),
            "user": user.as_str(),
            "member": member.is_some(),
            "permission": member.map(|member| member.permission),
            "roles": member.map(|member| member.roles.iter().map(crate::ids::Role::as_str).collect::<Vec<_>>()).unwrap_or_default(),
            "grounds": grounds,
            "reasons": reasons.iter().map(|reason| json!({ "code": reason.code, "text": reason.text })).collect::<Vec<_>>(),
        });
        console.out(&serde_json::to_string_pretty(&document).context("cannot write JSON")?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let name = console.bold(room.state.name.as_str());
    if let Some(member) = member {
        let roles = member.roles.iter().map(crate::ids::Role::as_str).collect::<Vec<_>>().join(", ");
        console.out(&format!("{user} is in {name} as {roles} (since and until count from what the messages say):"))?;
        for ground in &grounds {
            console.out(&format!("  {}", told(ground)))?;
        }
    } else {
        console.out(&format!("{user} is not in {name}:"))?;
        for reason in &reasons {
            console.out(&format!("  {}", reason.text))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The grounds, each with the message that gave it, or with who did and why.
async fn grounds(member: &Member, grants: &[Grant], store: &Store) -> anyhow::Result<Vec<Value>> {
    let mut grounds = Vec::with_capacity(member.grounds.len());
    for ground in &member.grounds {
        if let Some(grant) = grants.iter().find(|grant| ground.is_granted() && grant.user == member.user) {
            let mut form = grant_form(grant);
            if let Some(fields) = form.as_object_mut() {
                fields.insert("rule".to_owned(), ground.rule.as_str().into());
                fields.insert("from".to_owned(), ground.from.as_str().into());
            }
            grounds.push(form);
            continue;
        }
        // A message that is deleted, or sealed under a key that is gone, has still given the ground.
        let message = store.journal_message(ground.message).await.ok().flatten();
        grounds.push(json!({
            "rule": ground.rule.as_str(),
            "from": ground.from,
            "message": ground.message.to_string(),
            "trigger": message.as_ref().and_then(|message| message.trigger.clone()),
            "feed": message.as_ref().map(|message| message.feed.clone()),
            "received_at": message.as_ref().map(|message| message.received_at.to_string()),
            "since": ground.since.to_string(),
            "until": ground.until.map(|until| until.to_string()),
        }));
    }
    Ok(grounds)
}

fn told(ground: &Value) -> String {
    let word = |key| crate::cli::story::text(ground, key);
    let until = if word("/until").is_empty() { String::new() } else { format!(", until {}", moment(word("/until"))) };
    if let Some(by) = ground.pointer("/by") {
        let by = printable(&who_gave(Some(by)));
        return format!("by a grant of {by}, since {}{until}: {}", moment(word("/since")), printable(word("/reason")));
    }
    let message = match (word("/trigger"), word("/feed")) {
        ("", _) | (_, "") => format!("message {}", word("/message")),
        (trigger, feed) => format!("{trigger} on {feed}, received {}, message {}", moment(word("/received_at")), word("/message")),
    };
    format!("by the rule `{}`, from {}, since {}{until}  ({message})", word("/rule"), word("/from"), moment(word("/since")))
}

/// Everything that keeps somebody out, the most telling first.
fn reasons(room: &CareRoom, user: &UserId, roster: &Roster, has_staff_file: bool, left: Option<String>) -> Vec<Reason> {
    let state = &room.state;
    let mut reasons = Vec::new();
    let mut say = |code, text: String| reasons.push(Reason { code, text });
    let staff = roster.staff_member(user);
    if !state.status.is_open() {
        say("not_open", format!("the room is {}: nobody is in it", state.status.as_str()));
    }
    match staff {
        Some(staff) if !staff.active => say("inactive", "the staff directory says that the user is not active".to_owned()),
        None if !has_staff_file => say(
            "no_staff_file",
            "no staff file is configured (`staff` under `[directory]`), so nobody is known by a user name and no unit has a team; whom a message names \
             joins as AUTHORITY:ID, or not at all with `unknown_staff = \"hold\"`"
                .to_owned(),
        ),
        None => say("unknown_user", "the staff directory has no such user; users are named there as in the chat".to_owned()),
        Some(_) => {}
    }
    for person in &state.unresolved {
        let ids: Vec<Resolved<'_>> = person.ids.iter().map(|id| roster.resolve_id(id)).collect();
        let named = format!("named as {} in {}", person.role, person.from);
        if ids.iter().any(|id| matches!(id, Resolved::User(found) if found.as_ref() == user)) {
            say("will_join", format!("{named}, and the staff directory knows them by now: they join as soon as the daemon has read it"));
        } else if ids.contains(&Resolved::Ambiguous) {
            say("ambiguous", format!("somebody is {named} by an id that fits several users, so it fits none"));
        } else {
            say("unresolved", format!("somebody is {named} by ids that the staff directory does not know"));
        }
    }
    let unit = state.location.as_ref().and_then(|location| Some((location, roster.unit(&location.place)?)));
    let in_group = unit.and_then(|(_, unit)| unit.group.as_ref()).is_some_and(|group| roster.is_in(user, group));
    if state.confidentiality > Confidentiality::Normal {
        let whom = if in_group { "the unit's team, which the user is in, stays out" } else { "teams of units and services stay out" };
        say("restricted", format!("the room is {}: only clinicians named for this patient are in it, and {whom}", state.confidentiality.as_str()));
    }
    if let Some((location, unit)) = unit.filter(|_| in_group && state.confidentiality == Confidentiality::Normal) {
        if unit.flags.no_auto_join || unit.flags.virtual_unit {
            say("no_auto_join", format!("the user is in the team of {}, which never joins by itself", location.place.point_of_care));
        } else {
            say(
                "not_planned",
                format!("the user is in the team of {} by now: they join as soon as the daemon has read it", location.place.point_of_care),
            );
        }
    }
    if state.flags.contains(&Flag::Employee) {
        say("employee", "the patient is staff; nobody is ever a member of their own room".to_owned());
    }
    if let Some(left) = left {
        say("left", format!("they were in it until {left}"));
    } else if reasons.iter().all(|reason| matches!(reason.code, "no_staff_file" | "unresolved" | "ambiguous")) {
        let text = "no message names the user for this visit, and they are in no team of the unit where the patient is".to_owned();
        reasons.push(Reason { code: "no_ground", text });
    }
    reasons
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::reasons;
    use crate::care::fact::Confidentiality;
    use crate::care::fact::FieldRef;
    use crate::care::room::CareRoom;
    use crate::care::room::RoomStatus;
    use crate::care::room::Unresolved;
    use crate::care::roster::Roster;
    use crate::care::roster::StaffIdPattern;
    use crate::care::roster::StaffMember;
    use crate::ids::Role;
    use crate::ids::StaffId;
    use crate::ids::UserId;
    use crate::outbox::sample;
    use crate::phi::Phi;

    fn roster() -> Roster {
        let member = |user: &str, value: &str, active| StaffMember {
            user: UserId::from(user),
            ids: vec![StaffIdPattern { authority: None, id_type: None, value: value.to_owned() }],
            groups: std::collections::BTreeSet::new(),
            active,
        };
        Roster::new([member("rsokol", "D400", true), member("gone", "D500", false)], [], false)
    }

    fn codes(room: &CareRoom, user: &str) -> Vec<&'static str> {
        reasons(room, &UserId::from(user), &roster(), true, None).into_iter().map(|reason| reason.code).collect()
    }

    fn room() -> CareRoom {
        let mut room = sample::room();
        room.state.unresolved.clear();
        room.state.flags.clear();
        room.state.status = RoomStatus::Active;
        room.state.confidentiality = Confidentiality::Normal;
        room
    }

    #[test]
    fn somebody_nobody_named_has_no_ground() {
        assert_eq!(codes(&room(), "rsokol"), ["no_ground"]);
    }

    #[test]
    fn without_a_staff_file_nobody_is_called_an_unknown_user() {
        let told = reasons(&room(), &UserId::from("nobody"), &Roster::default(), false, None);
        assert_eq!(told.iter().map(|reason| reason.code).collect::<Vec<_>>(), ["no_staff_file", "no_ground"]);
        assert!(told[0].text.contains("`staff` under `[directory]`"));
    }

    #[test]
    fn who_is_unknown_inactive_or_shut_out_is_told_so() {
        assert_eq!(codes(&room(), "nobody"), ["unknown_user"]);
        assert_eq!(codes(&room(), "gone"), ["inactive"]);
        let mut room = room();
        room.state.confidentiality = Confidentiality::Restricted;
        assert_eq!(codes(&room, "rsokol"), ["restricted"]);
        room.state.status = RoomStatus::Closed;
        assert_eq!(codes(&room, "rsokol"), ["not_open", "restricted"]);
    }

    #[test]
    fn ids_that_were_not_known_are_looked_up_again() {
        let mut room = room();
        let named = |value: &str| Unresolved {
            role: Role::from("consulting"),
            from: FieldRef::new("PV1-9"),
            ids: smallvec![StaffId::new("GHH", "EI", value)],
            family: Phi::from("SOKOL"),
            given: Phi::from(""),
        };
        room.state.unresolved = vec![named("D999")];
        assert_eq!(codes(&room, "rsokol"), ["unresolved", "no_ground"]);
        room.state.unresolved = vec![named("D400")];
        assert_eq!(codes(&room, "rsokol"), ["will_join"]);
    }
}
