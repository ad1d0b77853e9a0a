//! What is allowed in the directory and probably not meant.

use std::collections::BTreeSet;

use crate::directory::Contents;
use crate::directory::Sources;
use crate::ids::GroupId;

/// What codes and names of units with special protection look like: as a word of its own, or as the beginning of one.
const WORDS: [&str; 2] = ["BHU", "SUD"];
const BEGINNINGS: [&str; 9] = ["PSY", "BEHAV", "DETOX", "ADDICT", "SUBSTANCE", "FOREN", "MENTAL", "METHADON", "ALCOHOL"];

/// Pairs of a subject and what looks wrong with it.
pub(super) fn directory(contents: &Contents, sources: &Sources) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for ((facility, point_of_care), unit) in &contents.units {
        let subject = if facility.is_empty() { format!("unit {point_of_care}") } else { format!("unit {facility}/{point_of_care}") };
        let is_flagged = unit.flags.sensitive || unit.flags.part2;
        if !is_flagged && (looks_sensitive(point_of_care.as_str()) || looks_sensitive(&unit.name)) {
            found.push((
                subject,
                "looks like psychiatry, detox or forensic care and is not flagged\nhint: add the flag `sensitive` or `part2` in the units file"
                    .to_owned(),
            ));
        }
    }
    for (service, group) in &sources.services {
        if looks_sensitive(service.as_str()) {
            let text = format!(
                "looks like psychiatry, detox or forensic care, and group {group} joins by it\nhint: a service has no flags; flag its units `sensitive` or `part2`"
            );
            found.push((format!("service {service}"), text));
        }
    }
    if sources.staff.is_some() {
        groups(contents, sources, &mut found);
    } else if contents.units.iter().any(|(_, unit)| unit.group.is_some()) {
        found.push(("directory".to_owned(), "units have groups, but without a staff file nobody is in a group".to_owned()));
    }
    for (value, users) in ambiguous(contents) {
        found.push((
            "directory".to_owned(),
            format!("the id {value} fits {users}: it stands for none of them\nhint: write the authority or the type before it"),
        ));
    }
    found
}

/// Groups that nobody uses, and groups that nobody is in.
fn groups(contents: &Contents, sources: &Sources, found: &mut Vec<(String, String)>) {
    let active = contents.staff.iter().filter(|member| member.active);
    let staffed: BTreeSet<&GroupId> = active.flat_map(|member| &member.groups).collect();
    let of_units = contents.units.iter().filter_map(|((_, point_of_care), unit)| Some((unit.group.as_ref()?, format!("unit {point_of_care}"))));
    let of_services = sources.services.iter().map(|(service, group)| (group, format!("service {service}")));
    let used: Vec<(&GroupId, String)> = of_units.chain(of_services).collect();
    for (group, subject) in &used {
        if !staffed.contains(group) {
            found.push((subject.clone(), format!("nobody active is in its group {group}")));
        }
    }
    if sources.units.is_some() {
        for group in staffed {
            if !used.iter().any(|(other, _)| *other == group) {
                found.push((format!("group {group}"), "is the team of no unit and no service".to_owned()));
            }
        }
    }
}

fn ambiguous(contents: &Contents) -> Vec<(String, String)> {
    let roster = crate::care::roster::Roster::new(contents.staff.iter().cloned(), [], false);
    let named = |users: Vec<crate::ids::UserId>| users.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
    roster.ambiguous().into_iter().map(|(value, users)| (value, named(users))).collect()
}

fn looks_sensitive(text: &str) -> bool {
    let upper = text.to_uppercase();
    let mut words = upper.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty());
    words.any(|word| WORDS.contains(&word) || BEGINNINGS.iter().any(|beginning| word.starts_with(beginning)))
}

#[cfg(test)]
mod tests {
    use super::looks_sensitive;

    #[test]
    fn codes_of_protected_units_are_known_by_their_words() {
        assert!(["PSY1", "3-PSYCH", "Behavioral Health", "DETOX", "Forensic ward", "BHU"].into_iter().all(looks_sensitive));
        assert!(!["4N", "ICU", "SUDBURY", "Epsy", "REHAB"].into_iter().any(looks_sensitive));
    }
}
