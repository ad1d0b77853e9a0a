use std::collections::BTreeMap;

use proptest::prelude::any;
use proptest::prelude::proptest;
use serde::Deserialize;
use serde::Serialize;
use uuid::Uuid;

use super::from_slice;
use super::to_vec;

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
enum Said {
    #[default]
    Nothing,
    One(i64),
    Two(String, u8),
    Named {
        place: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bed: Option<u16>,
    },
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
struct Document {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    said: Vec<Said>,
    stamp: (i64, i64),
    #[serde(default, skip_serializing_if = "Option::is_none")]
    room: Option<Uuid>,
    names: BTreeMap<String, Option<bool>>,
    hash: [u8; 16],
    nothing: Option<()>,
}

#[track_caller]
fn check(document: &Document) {
    let bytes = to_vec(document).unwrap();
    assert_eq!(&from_slice::<Document>(&bytes).unwrap(), document);
    for n_bytes in 0..bytes.len() {
        assert!(from_slice::<Document>(&bytes[..n_bytes]).is_err(), "a document without its end is none");
    }
}

#[test]
fn every_kind_of_value_comes_back() {
    check(&Document::default());
    let named = |place: &str, bed| Said::Named { place: place.to_owned(), bed };
    check(&Document {
        said: vec![Said::Nothing, Said::One(i64::MIN), Said::Two("GHH".to_owned(), 255), named("4N", Some(12)), named("4N", None)],
        stamp: (1_790_000_000_000_000, 1_790_000_000_000_000),
        room: Some(Uuid::from_u128(7)),
        names: [("GHH".to_owned(), Some(true)), (String::new(), None)].into(),
        hash: [200; 16],
        nothing: Some(()),
    });
}

#[test]
fn what_repeats_is_said_once() {
    let once = Document { said: vec![Said::Two("a long authority".to_owned(), 1)], stamp: (i64::MAX, 0), ..Document::default() };
    let twice = Document { said: vec![Said::Two("a long authority".to_owned(), 1); 2], stamp: (i64::MAX, i64::MAX), ..Document::default() };
    assert!(to_vec(&twice).unwrap().len() < to_vec(&once).unwrap().len() + 6);
}

#[test]
fn a_field_added_at_the_end_is_absent_in_what_was_written_before() {
    #[derive(Serialize)]
    struct Before {
        a: u32,
    }
    #[derive(Deserialize)]
    struct After {
        a: u32,
        #[serde(default)]
        b: Vec<String>,
    }
    let after: After = from_slice(&to_vec(&Before { a: 7 }).unwrap()).unwrap();
    assert_eq!((after.a, after.b.len()), (7, 0));
}

#[test]
fn a_field_that_nobody_knows_is_no_document() {
    #[derive(Serialize)]
    struct Newer {
        a: u32,
        b: u32,
    }
    #[derive(Debug, Deserialize)]
    struct Older {
        #[expect(dead_code, reason = "it is never read")]
        a: u32,
    }
    assert!(from_slice::<Older>(&to_vec(&Newer { a: 1, b: 2 }).unwrap()).is_err());
}

proptest! {
    #[test]
    fn any_texts_and_numbers_come_back(texts in any::<Vec<String>>(), numbers in any::<Vec<i64>>(), more in any::<Vec<u64>>()) {
        let value = (texts.clone(), numbers.clone(), more, texts, numbers);
        let back: (Vec<String>, Vec<i64>, Vec<u64>, Vec<String>, Vec<i64>) = from_slice(&to_vec(&value).unwrap()).unwrap();
        assert_eq!(back, value);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in any::<Vec<u8>>()) {
        // Whatever they are, reading them ends.
        drop(from_slice::<Document>(&bytes));
    }
}
