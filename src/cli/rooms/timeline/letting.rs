//! Whom operators let into a room, and out again, as the audit trail tells.
//!
//! It knows nothing of what else happened in the room.

use std::time::Duration;

use serde_json::Value;
use serde_json::json;

use crate::cli::quarantine::printable;
use crate::cli::rooms::moment;
use crate::cli::rooms::who_gave;
use crate::cli::story::text;
use crate::intake::orders::GRANTED;
use crate::intake::orders::REVOKED;
use crate::store::rows::StoredAudit;
use crate::time::Timestamp;

/// Somebody was let in by an operator, or out again.
#[derive(Debug)]
pub(super) struct Letting {
    pub(super) at: Timestamp,
    /// Whether in.
    pub(super) is_in: bool,
    pub(super) user: String,
    /// Until when.
    until: Option<Timestamp>,
    by: Value,
    reason: String,
}

impl Letting {
    fn of(row: &StoredAudit) -> Option<Self> {
        let is_in = row.kind == GRANTED;
        if !is_in && row.kind != REVOKED {
            return None;
        }
        let body: Value = serde_json::from_slice(&row.body.as_ref()?.bytes).ok()?;
        let until = body.pointer("/order/seconds").and_then(Value::as_u64).map(|seconds| row.at.plus(Duration::from_secs(seconds)));
        let (user, reason) = (text(&body, "/order/user").to_owned(), text(&body, "/order/reason").to_owned());
        Some(Self { at: row.at, is_in, user, until, by: body.pointer("/by").cloned().unwrap_or_default(), reason })
    }

    pub(super) fn line(&self) -> String {
        let until = self.until.map(|until| format!(" until {}", moment(&until.to_string()))).unwrap_or_default();
        let did = if self.is_in { "let in" } else { "revoked the grant of" };
        printable(&format!("  {}  {}", moment(&self.at.to_string()), self.told(&format!("{did} {}{until}", self.user))))
    }

    /// Who did it, and why.
    pub(super) fn told(&self, did: &str) -> String {
        let reason = if self.reason.is_empty() { String::new() } else { format!(": {}", self.reason) };
        format!("{} {did}{reason}", who_gave(Some(&self.by)))
    }

    pub(super) fn form(&self) -> Value {
        let (action, until) = (if self.is_in { GRANTED } else { REVOKED }, self.until.map(|until| until.to_string()));
        json!({ "at": self.at.to_string(), "action": action, "user": self.user, "until": until, "by": self.by, "reason": self.reason })
    }
}

/// Who was let in and out, in order: each start of a daemon, and each command that runs without one, writes rows of its own numbers, so the time is the order.
pub(super) fn lettings(rows: &[StoredAudit]) -> Vec<Letting> {
    let mut lettings: Vec<Letting> = rows.iter().filter_map(Letting::of).collect();
    lettings.sort_by_key(|letting| letting.at);
    lettings
}
