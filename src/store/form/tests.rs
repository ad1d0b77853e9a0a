//! Examples of every form in which documents were ever written: `KIND.1` as JSON, `KIND.2.names` with all names, `KIND.2.lists` with lists of what stands in
//! them many times, `KIND.2` as now. One document a line, the first of the same content in all; behind them stands what only later forms can say.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::Serialize;
use serde::Serializer;
use serde::de::DeserializeOwned;

use super::JSON;
use super::PRESENT;
use super::Stored;
use super::VisitDocument;
use crate::care::fact::Fact;
use crate::care::fact::Practitioner;
use crate::care::fact::Stamp;
use crate::care::identity::PatientRecord;
use crate::care::room::CareRoom;
use crate::store::sealing::Document;
use crate::store::sealing::Table;

fn packed(lines: &str) -> Vec<Document> {
    lines.lines().map(|line| Document::new(PRESENT, STANDARD.decode(line).unwrap())).collect()
}

/// Documents as they are written now, by the table that they stand in.
pub(in crate::store) fn examples() -> [(Table, Vec<Document>); 3] {
    [
        (Table::Visits, packed(include_str!("examples/visit.2"))),
        (Table::Patients, packed(include_str!("examples/patient.2"))),
        (Table::Facts, packed(include_str!("examples/fact.2"))),
    ]
}

/// The examples of one kind, in every form.
struct Forms {
    json: &'static str,
    names: &'static str,
    lists: &'static str,
    present: &'static str,
}

macro_rules! forms {
    ($kind:literal) => {
        Forms {
            json: include_str!(concat!("examples/", $kind, ".1")),
            names: include_str!(concat!("examples/", $kind, ".2.names")),
            lists: include_str!(concat!("examples/", $kind, ".2.lists")),
            present: include_str!(concat!("examples/", $kind, ".2")),
        }
    };
}

fn read_the_same<T: Stored>(forms: &Forms) {
    let present = packed(forms.present);
    let json = forms.json.lines().map(|line| Document::new(JSON, line.as_bytes().to_vec())).collect();
    for (form, documents) in [("json", json), ("names", packed(forms.names)), ("lists", packed(forms.lists)), ("present", present.clone())] {
        assert!(!documents.is_empty(), "{form}");
        for (n, (document, present)) in documents.iter().zip(&present).enumerate() {
            let written = T::read(document).unwrap().document();
            assert_eq!(written, *present, "{} {n} as {form}: stores that hold it would read as something else, or not at all", T::KIND);
        }
    }
}

#[test]
fn documents_of_every_form_ever_written_read_the_same() {
    write_examples();
}

/// Reads and writes every example.
pub(super) fn write_examples() {
    read_the_same::<VisitDocument>(&forms!("visit"));
    read_the_same::<PatientRecord>(&forms!("patient"));
    read_the_same::<Fact>(&forms!("fact"));
}

/// The same value with the names of its fields and as the list that it is written as: what stands at which place never changes.
fn is_listed<T: DeserializeOwned + Serialize>(named: &str, listed: &str) {
    for text in [named, listed] {
        let value: T = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&value).unwrap(), listed);
    }
}

#[test]
fn what_is_written_as_a_list_keeps_its_places() {
    is_listed::<Stamp>(r#"{"recorded":1,"sent":2,"arrival":3}"#, "[1,2,3]");
    is_listed::<Practitioner>(r#"{"ids":[{"authority":"A","id_type":"T","value":"V"}],"family":"F","given":"G"}"#, r#"[[["A","T","V"]],"F","G"]"#);
    let id = |name| format!(r#"{{"authority":"A{name}","id_type":"T{name}","value":"V{name}"}}"#);
    let place = |name| format!(r#"{{"facility":"F{name}","point_of_care":"P{name}","room":"R{name}","bed":"B{name}","building":"D{name}"}}"#);
    let listed_place = |name| format!(r#"["F{name}","P{name}","R{name}","B{name}","D{name}"]"#);
    let (ids, places) = (["00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002"], [place(1), place(2)]);
    let state = format!(
        r#"{{"status":"grace","name":"N","confidentiality":"restricted","writable":true,"coverage":"named_only","flags":["deceased"],
        "whereabouts":{},"facility":"F","location":{{"place":{},"unit_name":"U"}},
        "patient":{{"id":{},"display":"S","name":{{"family":"NF","given":"NG","middle":"NM"}},"birth_date":"BD","sex":"X"}},
        "visit":{{"id":{},"class":"C","service":"H","admitted_at":11,"discharged_at":12}},
        "members":[{{"user":"me","permission":"member","roles":["r"],"grounds":[{{"rule":"w","from":"PV1-7","message":21,"since":22,"until":23}}]}}],
        "unresolved":[{{"role":"ur","from":"PV1-8","ids":[],"family":"UF","given":"UG"}}],
        "merged_into":"{}","continues":"{}","closes_at":31,"to_say":["T"]}}"#,
        places[0],
        places[1],
        id(1),
        id(2),
        ids[0],
        ids[1],
    );
    let listed = format!(
        r#"["grace","N","restricted",true,"named_only",["deceased"],{},"F",[{},"U"],[["A1","T1","V1"],"S",["NF","NG","NM"],"BD","X"],[["A2","T2","V2"],"C","H",11,12],[["me","member",["r"],[["w","PV1-7",21,22,23]]]],[["ur","PV1-8",[],"UF","UG"]],"{}","{}",31,["T"]]"#,
        listed_place(1),
        listed_place(2),
        ids[0],
        ids[1],
    );
    is_listed::<CareRoom>(&format!(r#"{{"id":"{}","epoch":4,"version":5,"state":{state}}}"#, ids[0]), &format!(r#"["{}",4,5,{listed}]"#, ids[0]));
}

/// Whom an operator let into a room is kept with the room; documents from before say nothing of it, and stay as they were.
#[test]
fn a_grant_is_kept_with_its_room() {
    let granted = packed(include_str!("examples/visit.2")).pop().unwrap();
    let document = VisitDocument::read(&granted).unwrap();
    let [grant] = &document.rooms[0].grants[..] else { unreachable!("the last example has a grant") };
    assert_eq!((grant.user.as_str(), grant.reason.as_str(), grant.login.as_deref()), ("lgarcia", "in an emergency", Some("root")));
    assert!(grant.is_explicit && grant.since < grant.until && grant.heard >= grant.since);
    assert_eq!(document.state.stays()[0].signals.highest_at(), Some(grant.heard));
    let mut before = document;
    before.rooms[0].grants.clear();
    assert_eq!(VisitDocument::read(&before.document()).unwrap().rooms[0].grants, []);
    assert!(before.document().bytes.len() < granted.bytes.len());
}

/// What positions cannot say is written with names: a document is never empty.
#[test]
fn what_has_no_length_is_written_all_the_same() {
    #[derive(Debug, Deserialize, PartialEq, Serialize)]
    struct Listed {
        #[serde(serialize_with = "without_a_length")]
        odd: Vec<u8>,
    }
    fn without_a_length<S: Serializer>(numbers: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(numbers.iter().filter(|number| *number % 2 == 1))
    }
    impl Stored for Listed {
        const KIND: &'static str = "list";
        const USUAL_BYTES: usize = 0;
    }
    let written = Listed { odd: vec![1, 2, 3] }.document();
    assert_eq!(Listed::read(&written).unwrap(), Listed { odd: vec![1, 3] });
}
