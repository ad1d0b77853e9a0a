//! HD: who assigns identifiers (HL7 v2.5.1 §2.A.36).

use std::borrow::Cow;

use crate::hl7::field::Component;
use crate::hl7::field::upper;

/// The name under which an authority is known: its namespace, else its universal id with the type of it (`1.2.3&ISO`). Upper case; empty when none.
pub fn authority(component: Component<'_>) -> Cow<'_, str> {
    let namespace = component.sub(1);
    if !namespace.is_empty() {
        return upper(namespace);
    }
    let universal = component.sub(2);
    let kind = component.sub(3);
    if universal.is_empty() || kind.is_empty() { upper(universal) } else { upper(Cow::Owned(format!("{universal}&{kind}"))) }
}
