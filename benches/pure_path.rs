//! The pure path of one message, step by step: from the bytes of its frame to what is sealed, without a store and without a network.
//!
//! It also counts allocations, and fails when a message takes more than its bound. Times of one run can be compared with each other.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench stops where it cannot go on, and tells what it counted")]

use std::hint::black_box;

use bytes::BytesMut;
use criterion::BatchSize;
use criterion::Criterion;
use tokio_util::codec::Decoder as _;
use wardroom::care::change::Cause;
use wardroom::care::change::CauseKind;
use wardroom::care::diff::diff;
use wardroom::care::room::CareRoom;
use wardroom::care::visit::VisitState;
use wardroom::hl7::charset;
use wardroom::hl7::message::Message;
use wardroom::mllp::codec::MllpCodec;
use wardroom::outbox::envelope::About;
use wardroom::outbox::envelope::event;
use wardroom::store::ceiling::BareSealer;
use wardroom::store::form::RoomSlot;
use wardroom::store::form::Stored as _;
use wardroom::store::form::VisitDocument;

use one_message::Bench;
use one_message::message;

#[path = "pure_path/one_message.rs"]
mod one_message;

/// What one message may allocate from its bytes to its difference.
const ALLOCATIONS: u64 = 59;

fn steps(criterion: &mut Criterion) {
    let bench = Bench::new();
    let (state, record, before, second) = bench.admitted();
    println!("the message has {} bytes", second.len());
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
    let document = VisitDocument {
        state: moved.clone(),
        rooms: vec![RoomSlot { id: bench.room, published: Some(room), made_for: None, grants: Vec::new() }],
        ..VisitDocument::default()
    };
    let documents: Vec<_> = next.iter().map(|fact| fact.document()).chain([document.document(), said.document()]).collect();
    println!(
        "a visit's document has {} bytes, a fact's {}",
        document.document().bytes.len(),
        next.first().map_or(0, |fact| fact.document().bytes.len())
    );
    criterion.bench_function("documents written", |bencher| {
        bencher.iter(|| (black_box(&document).document(), said.document(), next.first().map(|fact| fact.document())));
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
