//! PL: a place (HL7 v2.5.1 §2.A.53).

use std::borrow::Cow;

use crate::hl7::field::Field;

/// One place, each part as it was sent; an absent part is empty.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Pl<'m> {
    /// PL.1.1: nursing unit, clinic or department.
    pub point_of_care: Cow<'m, str>,
    /// PL.2.1.
    pub room: Cow<'m, str>,
    /// PL.3.1.
    pub bed: Cow<'m, str>,
    /// PL.4.1.
    pub facility: Cow<'m, str>,
    /// PL.6, table 0305.
    pub location_type: Cow<'m, str>,
    /// PL.7.1.
    pub building: Cow<'m, str>,
    /// PL.8.1.
    pub floor: Cow<'m, str>,
    /// PL.9.
    pub description: Cow<'m, str>,
}

impl<'m> Pl<'m> {
    /// Reads the first repetition; `None` when it says nothing at all. A place without a point of care is read: what it is worth, the reader says.
    pub fn read(field: Field<'m>) -> Option<Self> {
        if field.is_empty() || field.is_null() {
            return None;
        }
        let [point_of_care, room, bed, facility, _, location_type, building, floor, description] = field.components::<9>().map(|part| part.text());
        Some(Self { point_of_care, room, bed, facility, location_type, building, floor, description })
    }
}

/// Shows nothing of what it holds.
impl std::fmt::Debug for Pl<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pl(‹place›)")
    }
}
