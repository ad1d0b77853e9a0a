//! ZBE: which movement a message is about (IHE ITI TF-2, PAM, §3.31).
//!
//! A segment whose action is none of PAM's is somebody else's ZBE, and is ignored.

use crate::adt::event::Times;
use crate::adt::group::Group;
use crate::adt::maps::upper;
use crate::care::fact::Movement;

/// The movement of a group, if it names one.
pub(crate) fn read(group: &Group<'_>, times: &Times) -> Option<Movement> {
    let zbe = group.first("ZBE")?;
    if !matches!(upper(&zbe.field(4).text()).as_str(), "INSERT" | "UPDATE" | "CANCEL") {
        return None;
    }
    let mut ids = Vec::new();
    for repetition in zbe.field(1).repetitions() {
        // EI: entity id, namespace, universal id.
        let id = repetition.component(1).text().trim().to_owned();
        if id.is_empty() {
            continue;
        }
        let authority = [2, 3].into_iter().map(|n| upper(&repetition.component(n).text())).find(|authority| !authority.is_empty());
        ids.push(authority.map_or_else(|| id.clone(), |authority| format!("{authority}/{id}")));
    }
    let begins_at = times.instant(&zbe.field(2).text());
    Some(Movement { ids, begins_at, historic: upper(&zbe.field(5).text()) == "Y" })
}
