//! Events as lines for people.

use serde_json::Value;

use crate::care::change::EventType;
use crate::cli::console::Console;

/// One event: what happened to which room, who came and who went.
pub(crate) fn line(console: &Console, event_type: EventType, body: &Value) -> String {
    let text = |path: &str| body.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let members = body.pointer("/data/room/members").and_then(Value::as_array).map_or(0, Vec::len);
    let mut line = format!(
        "{:<21} {:<16} v{:<3} {:<9} {:>2} members",
        console.paint_event(event_type),
        text("/data/room/name"),
        body.pointer("/data/version").and_then(Value::as_u64).unwrap_or_default(),
        text("/data/room/status"),
        members,
    );
    for change in body.pointer("/data/changes").and_then(Value::as_array).into_iter().flatten() {
        let part = |key| change.pointer(key).and_then(Value::as_str).unwrap_or_default();
        match part("/kind") {
            "joined" => line.push_str(&format!("  +{} ({})", part("/user"), part("/rule"))),
            "left" => line.push_str(&format!("  -{}", part("/user"))),
            _ => {}
        }
    }
    line
}
