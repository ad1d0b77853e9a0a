//! `wardroom rooms show`: everything about a room.

use anyhow::Context as _;
use serde_json::Value;

use crate::cli::console::Console;
use crate::cli::quarantine::printable;
use crate::cli::rooms::StoredRoom;
use crate::cli::rooms::entry;
use crate::cli::rooms::grant_form;
use crate::cli::rooms::moment;
use crate::cli::rooms::who_gave;
use crate::cli::story::list;
use crate::cli::story::place;
use crate::cli::story::text;
use crate::cli::table::table;

pub(super) fn run(stored: &StoredRoom, console: &Console) -> anyhow::Result<()> {
    let mut room = stored.json()?;
    if let Some(fields) = room.as_object_mut().filter(|_| !stored.grants.is_empty()) {
        fields.insert("grants".to_owned(), stored.grants.iter().map(grant_form).collect());
    }
    if console.json {
        return console.out(&serde_json::to_string_pretty(&room).context("cannot write JSON")?);
    }
    console.out(&console.bold(text(&room, "/name")))?;
    for line in sheet(&room, stored.room.epoch, &stored.updated_at.to_string(), console.columns()) {
        console.out(&line)?;
    }
    Ok(())
}

/// The room as a sheet: what is not known is left out.
fn sheet(room: &Value, epoch: u32, updated_at: &str, columns: Option<usize>) -> Vec<String> {
    let version = room.pointer("/version").and_then(Value::as_u64).unwrap_or_default();
    let word = |path| text(room, path);
    let flag = |path, yes, no| if room.pointer(path).and_then(Value::as_bool).unwrap_or_default() { yes } else { no };
    let place = |path: &str| {
        let (facility, unit) = (text(room, &format!("{path}/facility")), text(room, &format!("{path}/unit_name")));
        let spot = room.pointer(path).filter(|place| place.is_object()).map(|found| place(Some(found))).unwrap_or_default();
        joined(" ", &[facility, &spot, &bracketed(unit)])
    };
    let time = |path| Some(word(path)).filter(|at| !at.is_empty()).map(moment).unwrap_or_default();
    let labelled = |label: &str, value: &str| if value.is_empty() { String::new() } else { format!("{label} {value}") };
    let mut lines: Vec<String> = [
        entry("id", word("/id")),
        entry("status", &format!("{}, version {version}, epoch {epoch}", word("/status"))),
        entry("updated", &moment(updated_at)),
        entry("level", word("/confidentiality")),
        entry("place", &place("/location")),
        entry("for a while", &place("/whereabouts")),
        entry(
            "patient",
            &joined(
                ", ",
                &[
                    word("/patient/display"),
                    &identifier(room.pointer("/patient/id")),
                    &labelled("born", word("/patient/birth_date")),
                    word("/patient/sex"),
                ],
            ),
        ),
        entry(
            "visit",
            &joined(
                ", ",
                &[&identifier(room.pointer("/visit/id")), &labelled("class", word("/visit/class")), &labelled("service", word("/visit/service"))],
            ),
        ),
        entry("admitted", &time("/visit/admitted_at")),
        entry("discharged", &time("/visit/discharged_at")),
        entry("closes", &time("/closes_at")),
        entry("coverage", &format!("{}; {}", word("/coverage"), flag("/writable", "members may write", "nobody may write"))),
        entry("flags", &list(room, "/flags").filter_map(Value::as_str).collect::<Vec<_>>().join(", ")),
        entry("merged into", word("/merged_into")),
        entry("goes on from", word("/continues")),
    ]
    .into_iter()
    .flatten()
    .collect();
    let inside = columns.map(|columns| columns.saturating_sub(2));
    let members: Vec<Vec<String>> = list(room, "/members").flat_map(member).collect();
    if !members.is_empty() {
        lines.push(String::new());
        lines.push("  since and until count from what the messages say; `rooms timeline` shows when wardroom made each change".to_owned());
        lines.extend(
            table(&["member", "permission", "roles", "by", "from", "since", "until"], &members, inside).iter().map(|line| format!("  {line}")),
        );
    }
    let grants: Vec<Vec<String>> = list(room, "/grants").map(grant).collect();
    if !grants.is_empty() {
        lines.push(String::new());
        lines.extend(table(&["let in", "until", "by", "because"], &grants, inside).iter().map(|line| format!("  {line}")));
    }
    let unresolved: Vec<Vec<String>> = list(room, "/unresolved").map(unknown).collect();
    if !unresolved.is_empty() {
        lines.push(String::new());
        lines.extend(table(&["not known", "named as", "in", "ids"], &unresolved, inside).iter().map(|line| format!("  {line}")));
    }
    lines
}

/// A line for each ground; the member stands on the first.
fn member(member: &Value) -> Vec<Vec<String>> {
    let roles = list(member, "/roles").filter_map(Value::as_str).collect::<Vec<_>>().join(", ");
    list(member, "/grounds")
        .enumerate()
        .map(|(index, ground)| {
            let head =
                [text(member, "/user"), text(member, "/permission"), &roles].map(|cell| if index == 0 { cell.to_owned() } else { String::new() });
            let tail =
                [text(ground, "/rule").to_owned(), text(ground, "/from").to_owned(), moment(text(ground, "/since")), moment(text(ground, "/until"))];
            head.into_iter().chain(tail).collect()
        })
        .collect()
}

fn grant(grant: &Value) -> Vec<String> {
    vec![
        text(grant, "/user").to_owned(),
        moment(text(grant, "/until")),
        printable(&who_gave(grant.pointer("/by"))),
        printable(text(grant, "/reason")),
    ]
}

fn unknown(person: &Value) -> Vec<String> {
    let ids = list(person, "/ids").map(|id| identifier(Some(id))).collect::<Vec<_>>().join(" ");
    let name = joined(" ", &[text(person, "/given"), text(person, "/family")]);
    let name = if name.is_empty() { "—".to_owned() } else { name };
    vec![name, text(person, "/role").to_owned(), text(person, "/from").to_owned(), ids]
}

/// `GHH/MR:70001`
fn identifier(id: Option<&Value>) -> String {
    let Some(id) = id else { return String::new() };
    let (authority, id_type) = (text(id, "/authority"), text(id, "/type"));
    let authority = if authority.is_empty() { String::new() } else { format!("{authority}/") };
    let id_type = if id_type.is_empty() { String::new() } else { format!("{id_type}:") };
    format!("{authority}{id_type}{}", text(id, "/value"))
}

fn bracketed(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("({text})") }
}

fn joined(by: &str, parts: &[&str]) -> String {
    parts.iter().copied().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(by)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::sheet;

    #[test]
    fn a_sheet_says_what_is_known_and_leaves_out_the_rest() {
        let room = json!({
            "id": "0f6e1c1d-64a4-4d0e-9a3b-3d6f2b0e71c5", "version": 3, "status": "active", "name": "4N 12-A QXKD", "confidentiality": "normal",
            "writable": true, "coverage": "full", "flags": ["pending_discharge"], "whereabouts": null, "facility": "GHH",
            "location": {"facility": "GHH", "point_of_care": "4N", "unit_name": "4 North", "room": "12", "bed": "A"},
            "patient": {"id": {"authority": "GHH", "type": "MR", "value": "70002"}, "display": "BELL, Simon", "birth_date": "1971-11-30", "sex": "M"},
            "visit": {"id": {"authority": "GHH", "type": "VN", "value": "V9002"}, "class": "I", "service": null, "admitted_at": null, "discharged_at": null},
            "members": [{"user": "plindqvist", "permission": "owner", "roles": ["attending"], "grounds": [
                {"rule": "attending", "from": "PV1-7", "since": "", "until": null}, {"rule": "unit", "from": "unit GHH/4N", "since": "", "until": null},
            ]}],
            "unresolved": [{"role": "consulting", "from": "PV1-9", "ids": [{"authority": "GHH", "type": "EI", "value": "D999"}], "family": "LOW", "given": "KIM"}],
            "merged_into": null, "continues": null, "closes_at": null,
        });
        let lines = sheet(&room, 1, "", None);
        assert_eq!(
            lines,
            [
                "  id           0f6e1c1d-64a4-4d0e-9a3b-3d6f2b0e71c5",
                "  status       active, version 3, epoch 1",
                "  updated      —",
                "  level        normal",
                "  place        GHH 4N 12-A (4 North)",
                "  patient      BELL, Simon, GHH/MR:70002, born 1971-11-30, M",
                "  visit        GHH/VN:V9002, class I",
                "  coverage     full; members may write",
                "  flags        pending_discharge",
                "",
                "  since and until count from what the messages say; `rooms timeline` shows when wardroom made each change",
                "  member      permission  roles      by         from         since  until",
                "  plindqvist  owner       attending  attending  PV1-7        —      —",
                "                                     unit       unit GHH/4N  —      —",
                "",
                "  not known  named as    in     ids",
                "  KIM LOW    consulting  PV1-9  GHH/EI:D999",
            ]
        );
    }
}
