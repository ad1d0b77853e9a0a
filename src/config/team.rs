//! `[[team]]`: who belongs in a room, and as what.

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::care::policy::Policy;
use crate::care::policy::TeamRule;
use crate::care::policy::TeamSource;
use crate::care::room::Permission;
use crate::config::reader::Reader;
use crate::config::reader::is_blank_or_padded;
use crate::config::rooms;
use crate::config::tree::KeyPath;
use crate::ids::Role;

/// A rule of who belongs, and as what. Without any rule the defaults hold: those of the default configuration.
#[derive(Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "TeamRule")]
pub(super) struct RawTeamRule {
    /// As what they belong; each rule has its own.
    role: String,
    /// Where they come from: `PV1-7` attending, `PV1-8` referring, `PV1-9` consulting, `PV1-17` admitting, `PV1-52` other providers, `PD1-4` primary
    /// care, `ROL:CODE` or `PRT:CODE` an assignment to the visit or (but AT, AD and CP) to the person by its role code, `ROL:*` every other assignment
    /// to the visit whose role is mapped (but RP, RT, PP and FHCP), `unit` the team of the unit, `service` the team of the service.
    from: Vec<String>,
    /// What they may do.
    permission: RawPermission,
    /// A CEL expression over the visit, as in `rooms.when`; empty: always.
    when: String,
    /// The role of another rule: as soon as anybody is in the room by it, this rule stands back. Empty: never.
    only_without: String,
}

impl Default for RawTeamRule {
    fn default() -> Self {
        Self { role: String::new(), from: Vec::new(), permission: RawPermission::Member, when: String::new(), only_without: String::new() }
    }
}

#[derive(Clone, Copy, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Permission")]
enum RawPermission {
    /// Reads, writes and invites.
    Owner,
    /// Reads and writes.
    Member,
    /// Reads.
    Observer,
}

/// Reads the rules.
pub(super) fn read(raw: &[RawTeamRule], reader: &mut Reader<'_>) -> Vec<TeamRule> {
    let section = KeyPath::of("team");
    if raw.is_empty() {
        return Policy::default().team;
    }
    let mut rules: Vec<TeamRule> = Vec::new();
    let mut taken: Vec<(TeamSource, usize)> = Vec::new();
    for (index, entry) in raw.iter().enumerate() {
        let path = section.index(index);
        if is_blank_or_padded(&entry.role) {
            reader.problem(&path.key("role"), "is required: as what do they belong?");
        } else if let Some(earlier) = raw.iter().take(index).position(|other| other.role == entry.role) {
            reader.problem_with_hint(
                &path.key("role"),
                format!("is the role of team[{earlier}] too"),
                "one rule can take people from several places: `from` is a list",
            );
        }
        if entry.from.is_empty() {
            reader.problem(&path.key("from"), "is required: where do they come from?");
        }
        let mut from = Vec::new();
        for (position, text) in entry.from.iter().enumerate() {
            let path = path.key("from").index(position);
            let Some(source) = source(text) else {
                reader.problem(
                    &path,
                    "must be one of `PV1-7`, `PV1-8`, `PV1-9`, `PV1-17`, `PV1-52`, `PD1-4`, `ROL:CODE`, `PRT:CODE`, `ROL:*`, `unit`, `service`",
                );
                continue;
            };
            // With a condition on either, both may have their say.
            if let Some((_, earlier)) = taken.iter().find(|(other, rule)| *other == source && *rule != index)
                && entry.when.is_empty()
                && raw.get(*earlier).is_some_and(|other| other.when.is_empty())
            {
                reader.problem(&path, format!("is taken by team[{earlier}] already"));
            }
            taken.push((source.clone(), index));
            // `ROL:AT` and `PRT:AT` are one place.
            if !from.contains(&source) {
                from.push(source);
            }
        }
        let permission = match entry.permission {
            RawPermission::Owner => Permission::Owner,
            RawPermission::Member => Permission::Member,
            RawPermission::Observer => Permission::Observer,
        };
        let only_without = (!entry.only_without.is_empty()).then(|| Role::new(&entry.only_without));
        if only_without.is_some() && !raw.iter().enumerate().any(|(other, rule)| other != index && rule.role == entry.only_without) {
            reader.problem(&path.key("only_without"), "must be the role of another rule");
        }
        let when = rooms::when(&entry.when, &path.key("when"), reader);
        rules.push(TeamRule { role: Role::new(&entry.role), from, permission, when, only_without });
    }
    rules
}

fn source(text: &str) -> Option<TeamSource> {
    match text {
        "PV1-7" => Some(TeamSource::Attending),
        "PV1-8" => Some(TeamSource::Referring),
        "PV1-9" => Some(TeamSource::Consulting),
        "PV1-17" => Some(TeamSource::Admitting),
        "PV1-52" => Some(TeamSource::Others),
        "PD1-4" => Some(TeamSource::PrimaryCare),
        "unit" => Some(TeamSource::Unit),
        "service" => Some(TeamSource::Service),
        "ROL:*" | "PRT:*" => Some(TeamSource::OtherAssignments),
        _ => {
            let code = text.strip_prefix("ROL:").or_else(|| text.strip_prefix("PRT:"))?;
            (!is_blank_or_padded(code)).then(|| TeamSource::Assignment(code.to_uppercase()))
        }
    }
}
