//! The pure path of one message, step by step: from the bytes of its frame to what is sealed, without a store and without a network.
//!
//! It also counts allocations, and fails when a message takes more than its bound. Times of one run can be compared with each other.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench stops where it cannot go on, and tells what it counted")]

use std::hint::black_box;

use bytes::BytesMut;
use criterion::BatchSize;
use criterion::Criterion;
use tokio_util::codec::Decoder as _;
use wardroom::adt;
use wardroom::adt::Arrival;
use wardroom::adt::profile::Profile;
use wardroom::care::change::Cause;
use wardroom::care::change::CauseKind;
use wardroom::care::diff::diff;
use wardroom::care::fact::Fact;
use wardroom::care::identity::PatientRecord;
use wardroom::care::plan::PlanInput;
use wardroom::care::plan::plan;
use wardroom::care::policy::Policy;
use wardroom::care::room::CareRoom;
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
use wardroom::mllp::codec::MllpCodec;
use wardroom::outbox::envelope::About;
use wardroom::outbox::envelope::event;
use wardroom::store::ceiling::BareSealer;
use wardroom::store::form::RoomSlot;
use wardroom::store::form::Stored as _;
use wardroom::store::form::VisitDocument;
use wardroom::time::Timestamp;

/// What one message may allocate from its bytes to its difference.
const ALLOCATIONS: u64 = 100;

/// A message of the size of the load, recorded at this minute and second of an hour.
fn message(trigger: &str, bed: &str, second: u32) -> String {
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
struct Bench {
    profile: Profile,
    policy: Policy,
    roster: Roster,
    now: Timestamp,
    room: CareRoomId,
}

impl Bench {
    fn facts(&self, message: &str, journal: i64) -> Vec<Fact> {
        let decoded = charset::decode(message.as_bytes(), None);
        let message = Message::of(&decoded).unwrap();
        adt::read(&message, &self.profile, Arrival { at: self.now, journal: JournalId(journal) }).facts
    }

    fn target(&self, state: &VisitState, record: &PatientRecord) -> Option<RoomState> {
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
            policy: &self.policy,
            roster: &self.roster,
            now: self.now,
        };
        plan(&input).target
    }

    /// From the bytes to the difference.
    fn whole(&self, message: &str, state: &mut VisitState, record: &mut PatientRecord, before: Option<&RoomState>) -> bool {
        for fact in self.facts(message, 1_000_000) {
            record.say(&fact);
            state.apply(&fact);
        }
        self.target(state, record).is_some_and(|target| diff(before, &target, false).is_some())
    }
}

fn steps(criterion: &mut Criterion) {
    let bench = Bench {
        profile: Profile::default(),
        policy: Policy::default(),
        roster: roster(),
        now: "2026-11-21T12:00:00Z".parse::<jiff::Timestamp>().map(|at| Timestamp::from_micros(at.as_microsecond())).unwrap(),
        room: CareRoomId(uuid::Uuid::from_u128(7)),
    };
    let (first, second) = (message("A01", "12", 0), message("A02", "14", 60));
    println!("the message has {} bytes", second.len());
    let facts = bench.facts(&first, 1);
    let (mut state, mut record) = (VisitState::default(), PatientRecord::default());
    for fact in &facts {
        record.say(fact);
        state.apply(fact);
    }
    let before = bench.target(&state, &record).unwrap();
    let next = bench.facts(&second, 2);
    let (mut moved, mut said) = (state.clone(), record.clone());
    for fact in &next {
        said.say(fact);
        moved.apply(fact);
    }
    let after = bench.target(&moved, &said).unwrap();
    assert!(diff(Some(&before), &after, false).is_some(), "the patient has moved");

    let framed = [b"\x0b", second.as_bytes(), b"\x1c\r"].concat();
    criterion.bench_function("codec", |bencher| {
        bencher.iter_batched(
            || (MllpCodec::new(1 << 20), BytesMut::from(framed.as_slice())),
            |(mut codec, mut buffer)| codec.decode(&mut buffer).unwrap(),
            BatchSize::SmallInput,
        );
    });
    criterion.bench_function("decode and index", |bencher| {
        bencher.iter(|| Message::of(black_box(&charset::decode(second.as_bytes(), None))).is_ok());
    });
    criterion.bench_function("decode, index and read", |bencher| bencher.iter(|| bench.facts(black_box(&second), 2)));
    criterion.bench_function("fold", |bencher| {
        bencher.iter_batched_ref(|| state.clone(), |state| next.iter().for_each(|fact| state.apply(fact)), BatchSize::SmallInput);
    });
    criterion.bench_function("plan", |bencher| bencher.iter(|| bench.target(black_box(&moved), &said)));
    criterion.bench_function("diff", |bencher| bencher.iter(|| diff(Some(black_box(&before)), &after, false)));

    let changes = diff(Some(&before), &after, false).unwrap();
    let cause = Cause::of(CauseKind::Message);
    let room = CareRoom { id: bench.room, epoch: 1, version: 2, state: after };
    let about = About {
        changes: &changes.changes,
        event_type: changes.event_type,
        cause: &cause,
        notify: true,
        notices: &[],
        source: "wardroom/main",
        time: bench.now,
        traceparent: None,
    };
    criterion.bench_function("envelope", |bencher| bencher.iter(|| event(black_box(&room), &about)));
    let document =
        VisitDocument { state: moved.clone(), rooms: vec![RoomSlot { id: bench.room, published: Some(room) }], ..VisitDocument::default() };
    let documents: Vec<_> = next.iter().map(Fact::document).chain([document.document(), said.document()]).collect();
    println!(
        "a visit's document has {} bytes, a fact's {}",
        document.document().bytes.len(),
        next.first().map_or(0, |fact| fact.document().bytes.len())
    );
    criterion.bench_function("documents written", |bencher| {
        bencher.iter(|| (black_box(&document).document(), said.document(), next.first().map(Fact::document)));
    });
    let stored = document.document();
    criterion.bench_function("a visit's document read", |bencher| bencher.iter(|| VisitDocument::read(black_box(&stored)).is_ok()));
    let sealer = BareSealer::new().unwrap();
    criterion.bench_function("seal", |bencher| bencher.iter(|| sealer.seal(black_box(&documents)).unwrap()));

    criterion.bench_function("from bytes to difference", |bencher| {
        bencher.iter_batched_ref(
            || (state.clone(), record.clone()),
            |(state, record)| bench.whole(black_box(&second), state, record, Some(&before)),
            BatchSize::SmallInput,
        );
    });
    let (mut state, mut record) = (state.clone(), record.clone());
    let counted = allocation_counter::measure(|| {
        black_box(bench.whole(&second, &mut state, &mut record, Some(&before)));
    });
    println!("from bytes to difference: {} allocations of {} bytes", counted.count_total, counted.bytes_total);
    assert!(counted.count_total <= ALLOCATIONS, "a message takes {} allocations; its bound is {ALLOCATIONS}", counted.count_total);

    for n_messages in [10_u32, 1000] {
        let mut state = VisitState::default();
        for n in 0..n_messages {
            for fact in bench.facts(&message(if n == 0 { "A01" } else { "A08" }, "12", n), i64::from(n)) {
                state.apply(&fact);
            }
        }
        let next = bench.facts(&message("A08", "12", n_messages), i64::from(n_messages));
        criterion.bench_function(&format!("fold behind {n_messages} messages"), |bencher| {
            bencher.iter_batched_ref(|| state.clone(), |state| next.iter().for_each(|fact| state.apply(fact)), BatchSize::SmallInput);
        });
    }
}

criterion::criterion_group!(pure_path, steps);
criterion::criterion_main!(pure_path);
