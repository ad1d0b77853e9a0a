//! Who was in a room from when until when.
//!
//! It reads changes that were told already, and no rows.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::json;

use crate::care::room::CareRoom;
use crate::care::room::Member;
use crate::cli::rooms::moment;
use crate::cli::rooms::timeline::Entry;
use crate::cli::rooms::timeline::On;
use crate::cli::rooms::timeline::end_forms;
use crate::cli::rooms::timeline::froms;
use crate::time::Timestamp;

/// Somebody's time in the room, from coming to going.
#[derive(Debug)]
pub(super) struct Presence<'a> {
    pub(super) user: &'a str,
    /// With which change they came.
    pub(super) came: &'a Entry,
    /// With which they went; nothing while they are there.
    pub(super) went: Option<&'a Entry>,
    /// On what they were there, at any time of it, each with the end that it has or had: of what was taken from them before that, when it was.
    pub(super) on: Vec<On>,
}

/// Everybody's times in the room, in the order in which they came.
pub(super) fn presences(entries: &[Entry]) -> Vec<Presence<'_>> {
    let mut all: Vec<Presence<'_>> = Vec::new();
    for entry in entries {
        all.extend(entry.joined.iter().map(|(user, _)| Presence { user, came: entry, went: None, on: Vec::new() }));
        let joined = entry.joined.iter().map(|(user, standing)| (user, standing));
        for (user, standing) in joined.chain(entry.updated.iter().map(|(user, standing, _)| (user, standing))) {
            if let Some(presence) = all.iter_mut().rfind(|presence| presence.user == user) {
                for gone in presence.on.iter_mut().filter(|known| !standing.on.iter().any(|on| on.from == known.from)) {
                    gone.until = Some(gone.until.map_or(entry.at, |until| until.min(entry.at)));
                }
                for on in &standing.on {
                    match presence.on.iter_mut().find(|known| known.from == on.from) {
                        Some(known) => known.until = on.until,
                        None => presence.on.push(on.clone()),
                    }
                }
            }
        }
        for user in &entry.left {
            if let Some(presence) = all.iter_mut().rfind(|presence| presence.user == user) {
                presence.went = Some(entry);
            }
        }
    }
    all
}

/// Until when who is in the room now will be, where all they are in it on has an end, or the room itself.
pub(super) fn ends(room: &CareRoom) -> BTreeMap<&str, Timestamp> {
    let own = |member: &Member| member.grounds.iter().map(|ground| ground.until).collect::<Option<Vec<_>>>().and_then(|ends| ends.into_iter().max());
    let end = |member: &Member| own(member).into_iter().chain(room.state.closes_at).min();
    room.state.members.iter().filter_map(|member| Some((member.user.as_str(), end(member)?))).collect()
}

impl Presence<'_> {
    /// When it will end, where that is known and has not come yet.
    pub(super) fn will_end(&self, ends: &BTreeMap<&str, Timestamp>) -> Option<Timestamp> {
        ends.get(self.user).copied().filter(|_| self.went.is_none())
    }

    pub(super) fn row(&self, ends: &BTreeMap<&str, Timestamp>) -> Vec<String> {
        let until = match (self.went, self.will_end(ends)) {
            (Some(went), _) => moment(&went.at.to_string()),
            (None, Some(end)) => format!("leaves {}", moment(&end.to_string())),
            (None, None) => "still there".to_owned(),
        };
        vec![
            self.user.to_owned(),
            moment(&self.came.at.to_string()),
            self.came.reason(),
            until,
            self.went.map(Entry::reason).unwrap_or_default(),
            self.on.iter().map(On::to_string).collect::<Vec<_>>().join(", "),
        ]
    }

    pub(super) fn form(&self, ends: &BTreeMap<&str, Timestamp>) -> Value {
        json!({
            "user": self.user,
            "from": self.came.at.to_string(),
            "from_version": self.came.version,
            "until": self.went.map(|went| went.at.to_string()),
            "until_version": self.went.map(|went| went.version),
            "will_end": self.will_end(ends).map(|end| end.to_string()),
            "on": froms(&self.on),
            "ends": end_forms(&self.on),
        })
    }
}
