//! The cost of a message does not grow with the stay: what is read and written for one more is counted, not timed.

use std::sync::Arc;
use std::time::Duration;

use crate::care::fact::Act;
use crate::care::fact::FieldUpdate;
use crate::care::policy::Policy;
use crate::ids::PatientClass;
use crate::intake::law::cases::fact;
use crate::intake::law::history::START;
use crate::intake::law::history::bed;
use crate::intake::law::roster;
use crate::intake::law::shelf::Cost;
use crate::intake::law::shelf::Shelf;

/// The cost of one more update of a visit with this many messages behind it.
fn of_one_more(n_messages: i64) -> Cost {
    let begins = START;
    let mut shelf = Shelf::new(begins.plus(Duration::from_hours(24)), &Arc::new(Policy::default()), &Arc::new(roster()));
    let mut open = fact("A01", Act::Open, 0);
    open.stay.class = FieldUpdate::Set(PatientClass::from("I"));
    open.stay.location = FieldUpdate::Set(bed("4N", "1"));
    shelf.take(&[vec![open]]);
    for minute in 1..n_messages {
        let mut update = fact("A08", Act::Update, minute);
        update.stay.location = FieldUpdate::Set(bed("4N", "1"));
        shelf.take(&[vec![update]]);
    }
    shelf.cost = Cost::default();
    shelf.take(&[vec![fact("A08", Act::Update, n_messages)]]);
    shelf.cost
}

#[test]
fn one_more_message_costs_the_same_after_ten_and_after_a_thousand() {
    let (few, many) = (of_one_more(10), of_one_more(1000));
    assert_eq!((few.starts, few.facts_read), (1, 0));
    assert_eq!((many.starts, many.facts_read), (1, 0));
    // The count of facts has two digits more, and stands in the document.
    assert!(many.bytes_read <= few.bytes_read + 16, "{few:?} {many:?}");
    assert!(many.bytes_written <= few.bytes_written + 16, "{few:?} {many:?}");
}
