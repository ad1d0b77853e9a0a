//! Positions of fields, and that every kind of value reads as what it was.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

use serde::Deserialize;
use serde::Serialize;

use super::write;
use crate::care::fact::FieldUpdate;
use crate::care::roster::StaffIdPattern;
use crate::directory::change::Act;
use crate::directory::change::Affiliation;
use crate::directory::change::AffiliationKind;
use crate::directory::change::Change;
use crate::directory::change::Changes;
use crate::directory::change::StaffRecord;
use crate::directory::change::UnitRecord;
use crate::directory::said::Said;
use crate::store::form::Stored as _;
use crate::store::form::tests::write_examples;
use crate::time::Timestamp;

thread_local! {
    static SEEN: RefCell<BTreeSet<String>> = RefCell::default();
}

/// Takes note of where a field of a type stands.
pub(super) fn note(of: &str, at: u64, name: &str) {
    SEEN.with_borrow_mut(|seen| seen.insert(format!("{of} {at:02} {name}")));
}

/// What messages said of staff and units, now and for later.
fn said() -> Said {
    let team = Affiliation { kind: AffiliationKind::Service, code: "CAR".to_owned(), from: None, until: Some(Timestamp::from_micros(9)) };
    let ids = vec![StaffIdPattern { authority: Some("GHH".into()), id_type: None, value: "D100".to_owned() }];
    let record = StaffRecord { ids, teams: FieldUpdate::Set(vec![team]), ..StaffRecord::default() };
    let staff = Change::Staff { key: "lgarcia".into(), act: Act::Add, record };
    let record = UnitRecord { name: Some("4 North".to_owned()), ..UnitRecord::default() };
    let unit = Change::Unit { key: ("GHH".into(), "4N".into()), act: Act::Add, record };
    let later = Some(Timestamp::from_micros(5));
    let mut said = Said::default();
    let changes = Changes { changes: vec![(None, staff.clone()), (None, unit.clone()), (later, staff), (later, unit)] };
    said.apply(&changes, Timestamp::from_micros(1));
    said
}

/// A field that moves would be read as another one, in every document that was ever written.
#[test]
fn no_field_ever_changes_its_position() {
    write_examples();
    assert_eq!(Said::read(&said().document()).unwrap(), said());
    let seen = SEEN.take();
    let known: BTreeSet<String> = include_str!("../examples/positions").lines().map(str::to_owned).collect();
    let (moved, new): (Vec<_>, Vec<_>) = (known.difference(&seen).collect(), seen.difference(&known).collect());
    assert!(moved.is_empty() && new.is_empty(), "moved or gone: {moved:#?}\nnot known yet: {new:#?}");
}

#[derive(Debug, Default, Deserialize, PartialEq, Serialize)]
enum Choice {
    #[default]
    Nothing,
    One(i8),
    Two(i16, Option<char>),
    Some {
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        before: Vec<bool>,
        after: f64,
    },
}

#[derive(Debug, Default, Deserialize, PartialEq, Serialize)]
struct Unit;

#[derive(Debug, Default, Deserialize, PartialEq, Serialize)]
struct Pair(u8, u16);

#[derive(Debug, Default, Deserialize, PartialEq, Serialize)]
struct Everything {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    left_out: Option<u64>,
    text: String,
    choices: Vec<Choice>,
    by_number: BTreeMap<u32, i64>,
    unit: Unit,
    nothing: (),
    pair: Pair,
    tuple: (i32, f32, u64),
    #[serde(skip)]
    never: u8,
    last: Option<Box<Self>>,
}

#[test]
fn every_kind_of_value_is_read_as_what_it_was() {
    let inner = Everything { left_out: Some(u64::MAX), text: "é".repeat(70_000), ..Everything::default() };
    let some = |before: &[bool]| Choice::Some { before: before.to_vec(), after: -0.5 };
    let value = Everything {
        text: "x".to_owned(),
        choices: vec![Choice::Nothing, Choice::One(-3), Choice::Two(-300, Some('ß')), Choice::Two(3, None), some(&[]), some(&[true, false])],
        by_number: [(0, i64::MIN), (127, -1), (70_000, i64::MAX)].into(),
        pair: Pair(255, 65_535),
        tuple: (i32::MIN, 1.5, 1 << 40),
        last: Some(Box::new(inner)),
        ..Everything::default()
    };
    let positions = write(&value, 0).unwrap();
    assert_eq!(rmp_serde::from_slice::<Everything>(&positions).unwrap(), value);
    let names = rmp_serde::to_vec_named(&value).unwrap();
    assert_eq!(rmp_serde::from_slice::<Everything>(&names).unwrap(), value);
    assert!(positions.len() < names.len());
}

/// Whoever reads it has the fields that were added last left out, and passes over those that it does not know.
#[test]
fn a_field_that_was_added_is_left_out_before_and_passed_over_after() {
    #[derive(Debug, Deserialize, PartialEq, Serialize)]
    struct Before {
        first: u8,
    }
    #[derive(Debug, Deserialize, PartialEq, Serialize)]
    struct After {
        first: u8,
        #[serde(default)]
        second: Vec<Pair>,
    }
    let before = write(&Before { first: 7 }, 0).unwrap();
    assert_eq!(rmp_serde::from_slice::<After>(&before).unwrap(), After { first: 7, second: Vec::new() });
    let after = write(&After { first: 7, second: vec![Pair(1, 2)] }, 0).unwrap();
    assert_eq!(rmp_serde::from_slice::<Before>(&after).unwrap(), Before { first: 7 });
}
