//! A room for tests.

use smallvec::smallvec;
use uuid::Uuid;

use crate::care::fact::BedLocation;
use crate::care::fact::Confidentiality;
use crate::care::fact::FieldRef;
use crate::care::fact::PersonName;
use crate::care::room::CareRoom;
use crate::care::room::Coverage;
use crate::care::room::Flag;
use crate::care::room::Ground;
use crate::care::room::Member;
use crate::care::room::Permission;
use crate::care::room::RoomState;
use crate::care::room::RoomStatus;
use crate::care::room::ShownLocation;
use crate::care::room::ShownPatient;
use crate::care::room::ShownVisit;
use crate::care::room::Unresolved;
use crate::ids::CareRoomId;
use crate::ids::Identifier;
use crate::ids::JournalId;
use crate::ids::PatientId;
use crate::ids::StaffId;
use crate::ids::VisitId;
use crate::phi::Phi;
use crate::time::Timestamp;

/// An instant.
pub(super) fn at(text: &str) -> Timestamp {
    text.parse::<jiff::Timestamp>().unwrap().into()
}

/// The room of the contract's example.
pub(crate) fn room() -> CareRoom {
    let admitted = at("2026-11-21T14:00:00Z");
    let ground = Ground { rule: "attending".into(), from: "PV1-7".into(), message: JournalId(7), since: admitted, until: None };
    let place = BedLocation { facility: "GHH".into(), point_of_care: "4N".into(), room: "12".into(), bed: "A".into(), building: "".into() };
    let state = RoomState {
        status: RoomStatus::Active,
        name: Phi::from("4N 12-A KXQT"),
        confidentiality: Confidentiality::Normal,
        writable: true,
        coverage: Coverage::Full,
        flags: vec![Flag::PendingTransfer],
        whereabouts: None,
        facility: "GHH".into(),
        location: Some(ShownLocation { place, unit_name: Some("4 North".into()) }),
        patient: ShownPatient {
            id: PatientId(Identifier::new("GHH", "MR", "0012345")),
            display: Phi::new(Some("SMITH, Jane Ann".into())),
            name: Some(PersonName { family: Phi::from("SMITH"), given: Phi::from("JANE"), middle: Phi::from("ANN") }),
            birth_date: Phi::new(Some("1980-01-31".into())),
            sex: Phi::new(Some("F".into())),
        },
        visit: ShownVisit {
            id: VisitId(Identifier::new("GHH", "VN", "V1001")),
            class: Some("I".into()),
            service: Some("CAR".into()),
            admitted_at: Some(admitted),
            discharged_at: None,
        },
        members: vec![
            Member { user: "lgarcia".into(), permission: Permission::Owner, roles: smallvec!["attending".into()], grounds: smallvec![ground] },
            Member { user: "nurse.4n.1".into(), permission: Permission::Member, roles: smallvec!["unit".into()], grounds: smallvec![] },
        ],
        unresolved: vec![Unresolved {
            role: "consulting".into(),
            from: FieldRef::new("PV1-9"),
            ids: smallvec![StaffId::new("GHH", "EI", "D999")],
            family: Phi::from("LOW"),
            given: Phi::from(""),
        }],
        merged_into: None,
        continues: None,
        closes_at: None,
        to_say: Phi::default(),
    };
    CareRoom { id: CareRoomId(Uuid::from_u128(0x5b9f_3c1e_0d7a_4a52_8a3e_6f1d_2c4b_9e70)), epoch: 1, version: 1, state }
}
