//! Notices: what is worth logging, counting or telling somebody, as data.
//!
//! The core never logs. A notice names a code and at most a field, never content.

use std::fmt;

use crate::care::fact::FieldRef;

/// One thing worth telling.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Notice {
    /// What.
    pub code: NoticeCode,
    /// Where in the message, when it is about a field.
    pub field: Option<FieldRef>,
}

impl Notice {
    /// A notice about a field.
    pub const fn at(code: NoticeCode, field: &'static str) -> Self {
        Self { code, field: Some(FieldRef::new(field)) }
    }

    /// A notice about the whole message.
    pub const fn of(code: NoticeCode) -> Self {
        Self { code, field: None }
    }
}

/// Stamps out the notice codes with their words.
macro_rules! notice_codes {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)*) => {
        /// The closed list of what a notice can be about; the word is a metric label.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum NoticeCode {
            $($(#[$doc])* $name,)*
        }

        impl NoticeCode {
            /// The word, for metrics and `explain`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }
        }
    };
}

notice_codes! {
    /// MSH-18 is in no table; it counts as empty.
    UnknownCharset = "unknown_charset",
    /// Bytes that the declared character set does not have were replaced.
    BadBytes = "bad_bytes",
    /// A line that is no segment was taken as the continuation of the one before.
    ContinuationLine = "continuation_line",
    /// A field could not be read as what it should be, and was ignored.
    Unreadable = "unreadable_field",
    /// A value that its sender cut short was not used as an id.
    Truncated = "truncated_value",
    /// A recorded time ahead of arrival was clamped to arrival.
    ClampedClock = "clamped_clock",
    /// A recorded time could not be used.
    UnusableClock = "unusable_clock",
    /// A class that no map has; taken as inpatient on an opening, else as outpatient.
    UnknownClass = "unknown_class",
    /// A VIP or restriction code that no map has; taken as restricted.
    UnknownRestriction = "unknown_restriction",
    /// An assignment without a person was ignored.
    RoleWithoutPerson = "role_without_person",
    /// An assignment whose role is in no map.
    UnmappedRole = "unmapped_role",
    /// A trigger event wardroom does not know.
    UnknownTrigger = "unknown_trigger",
    /// A message type wardroom does not take.
    UnsupportedType = "unsupported_type",
    /// The message has no EVN segment.
    NoEvn = "no_evn",
    /// EVN-1 and MSH-9.2 disagree; MSH-9.2 counts.
    TriggerMismatch = "trigger_mismatch",
    /// A visit was named by its account only.
    AccountOnly = "account_only",
    /// The same control id came with another body.
    ControlIdReused = "control_id_reused",
    /// A message named an id that was merged into another.
    StaleId = "stale_id",
    /// An A08 or A13 for a stay never seen opened.
    Adopted = "adopted",
    /// A cancel that cancels nothing known (yet).
    CancelOfNothing = "cancel_of_nothing",
}

impl fmt::Display for NoticeCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
