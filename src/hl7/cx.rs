//! CX: an identifier with its authority and type (HL7 v2.5.1 §2.A.14).

use std::borrow::Cow;

use crate::hl7::field::Field;
use crate::hl7::field::code;
use crate::hl7::field::upper;
use crate::hl7::hd;

/// One repetition of a CX. The check digit (CX.2, CX.3) is no part of the identifier.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Cx<'m> {
    /// CX.1, never empty; leading zeros are kept.
    pub id: Cow<'m, str>,
    /// CX.4: namespace, else universal id; upper case, may be empty.
    pub authority: Cow<'m, str>,
    /// CX.5; upper case, may be empty.
    pub id_type: Cow<'m, str>,
    /// CX.6, as CX.4.
    pub facility: Cow<'m, str>,
}

impl<'m> Cx<'m> {
    /// Reads the first repetition; `None` when it has no id, or one that its sender cut off (see [`Field::is_truncated`]).
    pub fn read(field: Field<'m>) -> Option<Self> {
        let [first, _, _, authority, id_type, facility] = field.components::<6>();
        let id = code(first.text());
        if id.is_empty() || first.is_truncated() {
            return None;
        }
        Some(Self { id, authority: hd::authority(authority), id_type: upper(id_type.text()), facility: hd::authority(facility) })
    }

    /// Whether the id was there but cut off by its sender: worth a notice, never an id.
    pub fn is_cut(field: Field<'m>) -> bool {
        field.component(1).is_truncated()
    }
}

/// Shows nothing of what it holds.
impl std::fmt::Debug for Cx<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cx(‹phi›)")
    }
}
