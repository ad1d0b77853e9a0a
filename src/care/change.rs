//! What is published of a change: the kind of event, what changed, what caused it, and what to say in the room.
//!
//! Plain data. The difference of two room states produces it, and the envelope renders it; nothing here decides anything or knows how it is sent.

use std::collections::BTreeMap;
use std::fmt;

use compact_str::CompactString;

use crate::care::fact::Confidentiality;
use crate::care::room::RoomStatus;
use crate::care::room::ShownLocation;
use crate::ids::FeedName;
use crate::ids::JournalId;
use crate::ids::PatientClass;
use crate::ids::Role;
use crate::ids::TriggerEvent;
use crate::ids::UserId;
use crate::phi::Phi;

/// Stamps out closed lists of words.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum $name {
            $($(#[$doc])* $variant,)*
        }

        impl $name {
            /// Every one there is, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The word of the event schema.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// Reads the word of the event schema.
            pub fn parse(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)* _ => None }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// The kind of an event. The order is the order of weight: when several things change at once, the least one that applies names the event.
    EventType {
        /// Everything about the room is deleted.
        Purged = "room.purged",
        /// The room was merged into another.
        Merged = "room.merged",
        /// The room is another patient's now.
        Rehomed = "room.rehomed",
        /// An operator froze the room.
        Held = "room.held",
        /// An operator let the room go on.
        Released = "room.released",
        /// The stay was an error.
        Cancelled = "room.cancelled",
        /// The room is over.
        Closed = "room.closed",
        /// The stay has ended, the grace runs.
        Closing = "room.closing",
        /// The end was taken back.
        Reopened = "room.reopened",
        /// The room is new.
        Opened = "room.opened",
        /// Something else than the members changed.
        Updated = "room.updated",
        /// Only members changed.
        MembersChanged = "room.members_changed",
        /// Nothing changed: the present state is published again.
        Snapshot = "room.snapshot",
    }
}

/// One thing that changed.
///
/// What stood before may be something that the room's present level hides; the envelope leaves it out then.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Change {
    /// Where the room is in its life.
    Status {
        /// Before; `None` for a new room.
        from: Option<RoomStatus>,
        /// Now.
        to: RoomStatus,
    },
    /// The place.
    Location {
        /// As it was published last.
        from: Option<Box<ShownLocation>>,
        /// Now.
        to: Option<Box<ShownLocation>>,
    },
    /// The room's name.
    Name {
        /// As it was published last; `None` for a new room.
        from: Option<Phi<CompactString>>,
        /// Now.
        to: Phi<CompactString>,
    },
    /// The patient's name, id, birth date or sex; never said which.
    Patient,
    /// The class of the visit.
    Class {
        /// Before.
        from: Option<PatientClass>,
        /// Now.
        to: Option<PatientClass>,
    },
    /// Who may know.
    Confidentiality {
        /// Before.
        from: Confidentiality,
        /// Now.
        to: Confidentiality,
    },
    /// The visit's number, service or times.
    Visit,
    /// Somebody is in the room now.
    Joined {
        /// Who.
        user: UserId,
        /// The rule that decided it.
        rule: Role,
    },
    /// Somebody is in the room no more.
    Left {
        /// Who.
        user: UserId,
        /// The rule whose ground ended.
        rule: Role,
    },
    /// A member's permission, roles or grounds.
    MemberUpdated {
        /// Who.
        user: UserId,
    },
    /// The room was merged into another.
    Merged,
    /// The room is another patient's now.
    Rehomed,
    /// Who is named and not known.
    Unresolved,
}

words! {
    /// What kind of thing caused an event.
    CauseKind {
        /// A message of a feed.
        Message = "message",
        /// Time passed.
        Wake = "wake",
        /// Somebody with a right to it.
        Operator = "operator",
        /// Staff or units changed.
        Directory = "directory",
        /// The configuration changed.
        Policy = "policy",
        /// The initial load.
        Load = "load",
    }
}

/// What caused an event.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cause {
    /// What kind of thing.
    pub kind: CauseKind,
    /// The message, when one did.
    pub message: Option<JournalId>,
    /// Its trigger event.
    pub trigger: Option<TriggerEvent>,
    /// The feed it came in on.
    pub feed: Option<FeedName>,
}

impl Cause {
    /// A cause that is no message.
    pub const fn of(kind: CauseKind) -> Self {
        Self { kind, message: None, trigger: None, feed: None }
    }
}

words! {
    /// What is to be said in a room. The list grows; a consumer shows what it knows.
    RoomNoticeCode {
        /// The room is another patient's now.
        Rehomed = "rehomed",
        /// Another room was merged into this one, or this one into another.
        Merged = "merged",
        /// Another visit of this patient is open in the same bed.
        PossibleDuplicate = "possible_duplicate",
        /// A message named this visit under another patient and waits.
        IdentityConflict = "identity_conflict",
        /// What is said here may not be passed on (42 CFR 2.32); `text` is what a message instructs (ARV-5, MSH-28).
        Redisclosure = "redisclosure",
        /// Nobody is left in the room.
        NobodyLeft = "nobody_left",
        /// An operator let `user` in until `until`, whatever messages say of them.
        BreakGlass = "break_glass",
    }
}

/// Something to say in a room.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RoomNotice {
    /// What.
    pub code: RoomNoticeCode,
    /// With which parameters, by name: a room, a text to show.
    pub parameters: BTreeMap<&'static str, Phi<String>>,
}

impl RoomNotice {
    /// A notice without parameters.
    pub const fn of(code: RoomNoticeCode) -> Self {
        Self { code, parameters: BTreeMap::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::EventType;

    #[test]
    fn words_are_read_back() {
        for event_type in EventType::ALL {
            assert_eq!(EventType::parse(event_type.as_str()), Some(*event_type));
        }
        assert_eq!(EventType::parse("room.unknown"), None);
    }

    #[test]
    fn the_heaviest_of_several_changes_is_the_least() {
        assert_eq!([EventType::Updated, EventType::Rehomed, EventType::Closing].into_iter().min(), Some(EventType::Rehomed));
    }
}
