//! Events as lines for people: what happened to which room, who came, who goes, and when.
//!
//! It reads the published event and nothing else, so it can tell no more than a consumer may know.

use jiff::tz::TimeZone;
use serde_json::Value;

use crate::care::change::EventType;
use crate::cli::console::Console;

/// Times less than this apart are told apart by the clock alone.
const NEAR: jiff::SignedDuration = jiff::SignedDuration::from_hours(12);

/// One event: a line that says what happened to which room, and below it a line for each thing that changed.
pub(crate) fn line(console: &Console, event_type: EventType, body: &Value) -> String {
    let mut lines = vec![head(console, event_type, body)];
    lines.extend(details(console, body, &TimeZone::system()).into_iter().map(|detail| format!("    {detail}")));
    lines.join("\n")
}

/// What happened to which room.
fn head(console: &Console, event_type: EventType, body: &Value) -> String {
    let n_members = body.pointer("/data/room/members").and_then(Value::as_array).map_or(0, Vec::len);
    let patient = text(body, "/data/room/patient/display");
    let line = format!(
        "{:<21} {:<16} v{:<3} {:<9} {n_members:>2} member{:<2} {patient}",
        console.paint_event(event_type),
        text(body, "/data/room/name"),
        body.pointer("/data/version").and_then(Value::as_u64).unwrap_or_default(),
        text(body, "/data/room/status"),
        if n_members == 1 { "" } else { "s" },
    );
    line.trim_end().to_owned()
}

/// What changed, thing by thing.
fn details(console: &Console, body: &Value, zone: &TimeZone) -> Vec<String> {
    let mut lines = Vec::new();
    let changes: Vec<&Value> = body.pointer("/data/changes").and_then(Value::as_array).into_iter().flatten().collect();
    let is_new = body.pointer("/data/version").and_then(Value::as_u64) == Some(1);
    let restricts = changes.iter().any(|change| text(change, "/kind") == "confidentiality");
    for change in &changes {
        match text(change, "/kind") {
            "status" if !is_new => lines.push(format!("was {}, is {}", text(change, "/from"), text(change, "/to"))),
            "location" if !is_new => lines.push(format!("place  {} → {}", place(change.pointer("/from")), place(change.pointer("/to")))),
            "confidentiality" if !is_new => lines.push(level(text(change, "/to")).to_owned()),
            // A restriction shows the patient otherwise; that is said already.
            "patient" if !is_new && !restricts => lines.push(format!("patient is now {}", identity(body))),
            "class" if !is_new => lines.push(format!("class  {} → {}", or_dash(text(change, "/from")), or_dash(text(change, "/to")))),
            "merged" => lines.push(format!("merged into room {}", text(body, "/data/room/merged_into"))),
            "rehomed" => lines.push(format!("the room is another patient's now: {}", identity(body))),
            _ => {}
        }
    }
    for (rule, users) in by_rule(&changes, "joined") {
        lines.push(console.good(&format!("+ {} ({rule})", users.join(", "))));
    }
    for (rule, users) in by_rule(&changes, "left") {
        lines.push(console.bad(&format!("- {} ({rule})", users.join(", "))));
    }
    for (until, users) in leaving(body, &changes) {
        lines.push(console.dim(&format!("~ {} until {}", users.join(", "), moment(until, text(body, "/time"), zone))));
    }
    if changes.iter().any(|change| text(change, "/kind") == "unresolved") {
        for person in list(body, "/data/room/unresolved") {
            let name = format!("{} {}", text(person, "/given"), text(person, "/family"));
            let name = if name.trim().is_empty() { text(person, "/ids/0/value") } else { name.trim() };
            lines.push(format!("? {name} ({}, {}) is not in the staff directory", text(person, "/role"), text(person, "/from")));
        }
    }
    let closes_at = text(body, "/data/room/closes_at");
    if !closes_at.is_empty() && changes.iter().any(|change| text(change, "/kind") == "status") {
        lines.push(console.dim(&format!("closes {}, unless the discharge is cancelled", moment(closes_at, text(body, "/time"), zone))));
    }
    lines
}

/// Users of a kind of change, by the rule that decided it, in order.
fn by_rule<'a>(changes: &[&'a Value], kind: &str) -> Vec<(&'a str, Vec<&'a str>)> {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for change in changes.iter().filter(|change| text(change, "/kind") == kind) {
        let (rule, user) = (text(change, "/rule"), text(change, "/user"));
        match groups.iter_mut().find(|(known, _)| *known == rule) {
            Some((_, users)) => users.push(user),
            None => groups.push((rule, vec![user])),
        }
    }
    groups
}

/// Members whose every ground has an end, of those this event says something about, by the time at which they leave.
pub(crate) fn leaving<'a>(body: &'a Value, changes: &[&Value]) -> Vec<(&'a str, Vec<&'a str>)> {
    let concerned: Vec<&str> =
        changes.iter().filter(|change| matches!(text(change, "/kind"), "member_updated" | "joined")).map(|change| text(change, "/user")).collect();
    ending(list(body, "/data/room/members").filter(|member| concerned.contains(&text(member, "/user"))))
}

/// Members whose every ground has an end, by the time at which they leave.
pub(crate) fn ending<'a>(members: impl Iterator<Item = &'a Value>) -> Vec<(&'a str, Vec<&'a str>)> {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for member in members {
        let ends: Option<Vec<&str>> = list(member, "/grounds").map(|ground| ground.pointer("/until").and_then(Value::as_str)).collect();
        let Some(last) = ends.and_then(|ends| ends.into_iter().max()) else { continue };
        match groups.iter_mut().find(|(known, _)| *known == last) {
            Some((_, users)) => users.push(text(member, "/user")),
            None => groups.push((last, vec![text(member, "/user")])),
        }
    }
    groups.sort_unstable();
    groups
}

/// `15:04`, or with the date when it is not near `of`.
pub(crate) fn moment(at: &str, of: &str, zone: &TimeZone) -> String {
    let Ok(at) = at.parse::<jiff::Timestamp>() else { return at.to_owned() };
    let is_near = of.parse::<jiff::Timestamp>().is_ok_and(|of| at.duration_since(of).abs() < NEAR);
    at.to_zoned(zone.clone()).strftime(if is_near { "%H:%M" } else { "%Y-%m-%d %H:%M" }).to_string()
}

/// `4N 12-A`
pub(crate) fn place(location: Option<&Value>) -> String {
    let Some(location) = location.filter(|location| location.is_object()) else { return "—".to_owned() };
    let (unit, room, bed) = (text(location, "/point_of_care"), text(location, "/room"), text(location, "/bed"));
    let spot = [room, bed].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-");
    [unit, &spot].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

fn identity(body: &Value) -> String {
    let (display, id) = (text(body, "/data/room/patient/display"), text(body, "/data/room/patient/id/value"));
    [display, id].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
}

fn level(level: &str) -> &'static str {
    match level {
        "restricted" => "restricted: only clinicians named for this patient stay, and the name is shown as initials",
        "very_restricted" => "very restricted: only clinicians named for this patient stay, and nothing but the patient id is shown",
        _ => "no longer restricted",
    }
}

fn or_dash(text: &str) -> &str {
    if text.is_empty() { "—" } else { text }
}

/// The text at a path, or nothing.
pub(crate) fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

/// The items of the list at a path.
pub(crate) fn list<'a>(value: &'a Value, path: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value.pointer(path).and_then(Value::as_array).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use serde_json::Value;
    use serde_json::json;

    use super::details;
    use super::head;
    use crate::care::change::EventType;
    use crate::cli::console::Console;

    fn transfer() -> Value {
        json!({
            "time": "2026-11-21T14:04:00Z",
            "data": {
                "version": 3,
                "changes": [
                    {"kind": "location", "from": {"point_of_care": "4N", "room": "12", "bed": "A"}, "to": {"point_of_care": "5W", "room": "3", "bed": null}},
                    {"kind": "joined", "user": "ibrandl", "rule": "unit"},
                    {"kind": "joined", "user": "tmoreno", "rule": "unit"},
                    {"kind": "left", "user": "nbaptiste", "rule": "unit"},
                    {"kind": "member_updated", "user": "cvoss"},
                    {"kind": "member_updated", "user": "plindqvist"},
                ],
                "room": {
                    "name": "5W 3 QXKD", "status": "active", "patient": {"display": "BELL, Simon"}, "closes_at": null,
                    "members": [
                        {"user": "cvoss", "grounds": [{"until": "2026-11-21T15:04:00Z"}]},
                        {"user": "plindqvist", "grounds": [{"until": "2026-11-21T15:04:00Z"}, {"until": null}]},
                    ],
                },
            },
        })
    }

    fn check(body: &Value, expected: &[&str]) {
        assert_eq!(details(&Console::plain(), body, &TimeZone::UTC), expected);
    }

    #[test]
    fn a_transfer_says_where_to_who_came_who_went_and_who_stays_until_when() {
        assert_eq!(
            head(&Console::plain(), EventType::Updated, &transfer()),
            "room.updated          5W 3 QXKD        v3   active     2 members  BELL, Simon"
        );
        check(&transfer(), &["place  4N 12-A → 5W 3", "+ ibrandl, tmoreno (unit)", "- nbaptiste (unit)", "~ cvoss until 15:04"]);
    }

    #[test]
    fn a_new_room_says_who_is_in_it_and_not_what_it_was_before() {
        let mut body = transfer();
        body["data"]["version"] = json!(1);
        body["data"]["changes"] = json!([
            {"kind": "status", "from": null, "to": "active"},
            {"kind": "joined", "user": "dmarsh", "rule": "attending"},
        ]);
        check(&body, &["+ dmarsh (attending)"]);
    }

    #[test]
    fn a_discharge_says_when_the_room_closes() {
        let mut body = transfer();
        body["data"]["changes"] = json!([{"kind": "status", "from": "active", "to": "grace"}]);
        body["data"]["room"]["closes_at"] = json!("2026-11-22T14:04:00Z");
        check(&body, &["was active, is grace", "closes 2026-11-22 14:04, unless the discharge is cancelled"]);
    }

    #[test]
    fn a_restriction_is_said_in_words_and_who_is_not_known_by_name() {
        let mut body = transfer();
        body["data"]["changes"] = json!([{"kind": "confidentiality", "from": "normal", "to": "restricted"}, {"kind": "unresolved"}]);
        body["data"]["room"]["unresolved"] = json!([{"role": "consulting", "from": "PV1-9", "family": "LOW", "given": "KIM", "ids": []}]);
        check(
            &body,
            &[
                "restricted: only clinicians named for this patient stay, and the name is shown as initials",
                "? KIM LOW (consulting, PV1-9) is not in the staff directory",
            ],
        );
    }
}
