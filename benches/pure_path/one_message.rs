//! One message on the pure path: what is sent, under which rules it is read and planned, and the steps it takes. For the bench and for the guards that
//! count what a message costs.
#![expect(clippy::unwrap_used, reason = "what is sent here can be read")]

use std::sync::Arc;

use wardroom::adt;
use wardroom::adt::Arrival;
use wardroom::adt::profile::Profile;
use wardroom::care::diff::diff;
use wardroom::care::fact::Fact;
use wardroom::care::identity::PatientRecord;
use wardroom::care::plan::PlanInput;
use wardroom::care::plan::plan;
use wardroom::care::policy::Policy;
use wardroom::care::room::RoomState;
use wardroom::care::roster::Roster;
use wardroom::care::roster::StaffIdPattern;
use wardroom::care::roster::StaffMember;
use wardroom::care::roster::Unit;
use wardroom::care::roster::UnitFlags;
use wardroom::care::visit::VisitState;
use wardroom::hl7::charset;
use wardroom::hl7::message::Message;
use wardroom::ids::AssigningAuthority;
use wardroom::ids::CareRoomId;
use wardroom::ids::Facility;
use wardroom::ids::GroupId;
use wardroom::ids::JournalId;
use wardroom::ids::PointOfCare;
use wardroom::ids::UserId;
use wardroom::time::Timestamp;

/// A message of the size of the load, recorded at this minute and second of an hour.
pub(crate) fn message(trigger: &str, bed: &str, second: u32) -> String {
    let at = format!("202611210{}{:02}{:02}+0000", 1 + second / 3600, second / 60 % 60, second % 60);
    format!(
        "MSH|^~\\&|EMR|GHH|WARDROOM|GHH|{at}||ADT^{trigger}^ADT_A01|W{second:012}|P|2.5.1||||||UNICODE UTF-8\r\
         EVN|{trigger}|{at}||||{at}\r\
         PID|1||0010000001^^^GHH^MR~90010000001^^^GHH^PI||HALLORAN^BRIDA^RUTH^^^^L||19630918|F||2106-3|12 Quay Street^^Portvale^NY^10999^USA^H||\
         ^PRN^PH^^^555^5550142|^WPN^PH^^^555^5550143|ENG|M|CHR|A0010000001^^^GHH^AN|||||||N\r\
         PD1|||PORTVALE CLINIC^^10077|1200013005^NOVAK^CILKA^^^^^^NPI^L^^^NPI\r\
         NK1|1|HALLORAN^PADDY^^^^^L|SPO^Spouse^HL70063|12 Quay Street^^Portvale^NY^10999^USA^H|^PRN^PH^^^555^5550142\r\
         PV1|1|I|4N^{bed}^A^GHH^^N^MAIN|E|||D1^Garcia^Luis^^^^^^GHH^L^^^EI|D2^Osei^Kofi^^^^^^GHH^L^^^EI|\
         D3^Patel^Chitra^^^^^^GHH^L^^^EI|MED||||1|A0||D1^Garcia^Luis^^^^^^GHH^L^^^EI|I|V0010000001^^^GHH^VN|\
         SELF||||||||||||||||||||||||20261101080000+0000|\r\
         PV2||PRIVATE|R07.4^Chest pain^I10||||||||3\r"
    )
}

fn roster() -> Roster {
    let member = |user: String, id: String, group: Option<&str>| StaffMember {
        user: UserId::new(user),
        ids: vec![StaffIdPattern { authority: Some(AssigningAuthority::new("GHH")), id_type: Some("EI".to_owned()), value: id }],
        groups: group.into_iter().map(GroupId::new).collect(),
        active: true,
    };
    let doctors = (1..4).map(|n| member(format!("doctor.{n}"), format!("D{n}"), None));
    let nurses = (1..5).map(|n| member(format!("nurse.{n}"), format!("N{n}"), Some("nurse.4n")));
    let unit = Unit { group: Some(GroupId::new("nurse.4n")), name: "4 North".to_owned(), flags: UnitFlags::default() };
    Roster::new(doctors.chain(nurses), [((Facility::new("GHH"), PointOfCare::new("4N")), unit)], false)
}

/// What the steps are taken with.
pub(crate) struct Bench {
    pub(crate) profile: Profile,
    pub(crate) policy: Policy,
    pub(crate) roster: Roster,
    pub(crate) now: Timestamp,
    pub(crate) room: CareRoomId,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self {
            profile: Profile::default(),
            policy: Policy::default(),
            roster: roster(),
            now: Timestamp::from_micros(1_795_262_400_000_000),
            room: CareRoomId(uuid::Uuid::from_u128(7)),
        }
    }

    /// What is known after a patient's admission, and the message that moves them.
    pub(crate) fn admitted(&self) -> (VisitState, PatientRecord, RoomState, String) {
        let (mut state, mut record) = (VisitState::default(), PatientRecord::default());
        for fact in &self.facts(&message("A01", "12", 0), 1) {
            record.say(fact);
            state.apply(fact);
        }
        let before = self.target(&state, &record).unwrap();
        (state, record, before, message("A02", "14", 60))
    }

    pub(crate) fn facts(&self, message: &str, journal: i64) -> Vec<Arc<Fact>> {
        let decoded = charset::decode(message.as_bytes(), None);
        let message = Message::of(&decoded).unwrap();
        adt::read(&message, &self.profile, Arrival { at: self.now, journal: JournalId(journal) }).facts
    }

    pub(crate) fn target(&self, state: &VisitState, record: &PatientRecord) -> Option<RoomState> {
        let bound = state.patient()?;
        let person = record.person(bound);
        let input = PlanInput {
            stay: state.stays().last()?,
            visit: state.id()?,
            patient: record.resolve(bound),
            person: &person,
            room: self.room,
            merged_into: None,
            continues: None,
            also: &[],
            has_conflict: false,
            shares_its_bed: false,
            grants: &[],
            policy: &self.policy,
            roster: &self.roster,
            now: self.now,
        };
        plan(&input).target
    }

    /// From the bytes to the difference.
    pub(crate) fn whole(&self, message: &str, state: &mut VisitState, record: &mut PatientRecord, before: Option<&RoomState>) -> bool {
        for fact in self.facts(message, 1_000_000) {
            record.say(&fact);
            state.apply(&fact);
        }
        self.target(state, record).is_some_and(|target| diff(before, &target, false).is_some())
    }
}
