//! The line between the EMR and whoever listens: most messages go at once, some wait, some go twice.

use std::collections::BTreeMap;

use super::hospital::Hospital;
use super::hospital::Record;
use super::rates::Rates;
use crate::random::Random;
use crate::time::Timestamp;

const MINUTE: u64 = 60_000;
const DAY: u64 = 24 * 60 * MINUTE;

/// A hospital and how long it is watched.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) n_beds: usize,
    pub(super) n_days: u64,
    pub(super) seed: u64,
    pub(super) start: Timestamp,
    pub(super) rates: Rates,
}

/// The messages in the order in which they are sent.
#[derive(Debug)]
pub(super) struct Line {
    hospital: Hospital,
    random: Random,
    rates: Rates,
    end: u64,
    now: u64,
    n_queued: u64,
    queue: BTreeMap<(u64, u64), Record>,
}

impl Line {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            hospital: Hospital::new(plan.n_beds, plan.seed, plan.start, plan.rates),
            // What the line does must not change what happens in the hospital.
            random: Random::new(!plan.seed),
            rates: plan.rates,
            end: plan.n_days.saturating_mul(DAY),
            now: 0,
            n_queued: 0,
            queue: BTreeMap::new(),
        }
    }

    fn queue(&mut self, after: u64, sent: Record) {
        self.n_queued += 1;
        self.queue.insert((self.now + after, self.n_queued), sent);
    }

    fn take(&mut self, sent: Record) {
        let after = if self.random.in_a_million(self.rates.late.0) { self.random.between(MINUTE, 180 * MINUTE) } else { 0 };
        if self.random.in_a_million(self.rates.duplicates.0) {
            // The sender missed the answer, or somebody sent a day again.
            let again = if self.random.one_in(2) { 1 } else { self.random.between(5 * MINUTE, 600 * MINUTE) };
            self.queue(after + again, sent.clone());
        }
        self.queue(after, sent);
    }
}

impl Iterator for Line {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        loop {
            let due = self.queue.first_key_value().map(|((at, _), _)| *at);
            if due.is_some_and(|at| at < self.now) {
                return self.queue.pop_first().map(|(_, sent)| sent);
            }
            match self.hospital.go_on(self.end) {
                Some((at, records)) => {
                    self.now = at;
                    for record in records {
                        self.take(record);
                    }
                }
                None => return self.queue.pop_first().map(|(_, sent)| sent),
            }
        }
    }
}
