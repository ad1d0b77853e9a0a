//! XCN, and the CN of HL7 before 2.3: a person with an id (HL7 v2.5.1 §2.A.88).

use std::borrow::Cow;

use crate::hl7::field::Field;
use crate::hl7::field::code;
use crate::hl7::field::upper;
use crate::hl7::hd;

/// One repetition of an XCN. What each version puts where differs in the places that are not read here, so one reading serves all.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Xcn<'m> {
    /// XCN.1; empty when only a name was given, or when the sender cut it off.
    pub id: Cow<'m, str>,
    /// XCN.9 (namespace, else universal id), else XCN.8, else XCN.14; upper case, may be empty.
    pub authority: Cow<'m, str>,
    /// XCN.13; upper case, may be empty.
    pub id_type: Cow<'m, str>,
    /// XCN.2.1.
    pub family: Cow<'m, str>,
    /// XCN.3.
    pub given: Cow<'m, str>,
    /// XCN.10, table 0200; upper case.
    pub name_type: Cow<'m, str>,
}

impl<'m> Xcn<'m> {
    /// Reads the first repetition; `None` when it has neither an id nor a name.
    pub fn read(field: Field<'m>) -> Option<Self> {
        let [first, family, given, .., former, assigner, name_type, _, _, id_type, assigning] = field.components::<14>();
        let id = if first.is_truncated() { Cow::Borrowed("") } else { code(first.text()) };
        let mut read = Self {
            id,
            authority: Cow::Borrowed(""),
            id_type: upper(id_type.text()),
            family: family.text(),
            given: given.text(),
            name_type: upper(name_type.text()),
        };
        if read.id.is_empty() && assigner.sub(1).is_empty() && is_person_id_type(&assigner.sub(3)) {
            // `^^^^^^^^&1234567&UPIN`: the id stands where its authority belongs.
            read.id = assigner.sub(2);
            read.id_type = upper(assigner.sub(3));
        } else {
            read.authority = [hd::authority(assigner), upper(former.text()), hd::authority(assigning)]
                .into_iter()
                .find(|authority| !authority.is_empty())
                .unwrap_or_default();
        }
        (!read.id.is_empty() || !read.family.is_empty() || !read.given.is_empty()).then_some(read)
    }
}

/// Shows nothing of what it holds.
impl std::fmt::Debug for Xcn<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Xcn(‹phi›)")
    }
}

/// Whether HD.3 is a type of a person's id (table 0203), so that HD.2 is the id. Types of table 0301 name organisations.
fn is_person_id_type(kind: &str) -> bool {
    ["UPIN", "NPI", "DEA", "EI", "DN", "PRN", "LN", "SL", "MD", "RN", "RPPS", "PROVID"].iter().any(|known| kind.eq_ignore_ascii_case(known))
}
