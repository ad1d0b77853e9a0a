//! XPN, and the PN of HL7 before 2.3: a person's name (HL7 v2.5.1 §2.A.89).

use std::borrow::Cow;

use crate::hl7::field::Field;
use crate::hl7::field::upper;

/// One repetition of an XPN.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Xpn<'m> {
    /// XPN.1.1.
    pub family: Cow<'m, str>,
    /// XPN.2.
    pub given: Cow<'m, str>,
    /// XPN.3.
    pub middle: Cow<'m, str>,
    /// XPN.7, table 0200; upper case, may be empty.
    pub name_type: Cow<'m, str>,
}

impl<'m> Xpn<'m> {
    /// Reads the first repetition; `None` when it names nobody.
    pub fn read(field: Field<'m>) -> Option<Self> {
        let [family, given, middle, .., name_type] = field.components::<7>();
        let read = Self { family: family.text(), given: given.text(), middle: middle.text(), name_type: upper(name_type.text()) };
        let names_nobody = field.is_empty() || (read.family.is_empty() && read.given.is_empty());
        (!names_nobody).then_some(read)
    }
}

/// Shows nothing of what it holds.
impl std::fmt::Debug for Xpn<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Xpn(‹phi›)")
    }
}
