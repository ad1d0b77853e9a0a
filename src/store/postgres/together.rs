//! Batches of one commit that have nothing to do with each other, written as one: the server is asked once for all rows of a table, however many batches
//! were planned meanwhile.
//!
//! It changes nothing in what is written, and never the order of two batches of which one could stand on the other.

use std::collections::HashSet;

use crate::store::sealed::SealedBatch;

impl SealedBatch {
    /// Whether nothing in it depends on what the rows of another batch are written before or behind.
    fn is_plain(&self) -> bool {
        let Self { dedupe_released, journal_settled, quarantine, quarantine_left, directory, .. } = self;
        dedupe_released.is_empty() && journal_settled.is_empty() && quarantine.is_empty() && quarantine_left.is_empty() && directory.is_none()
    }

    /// Adds a plain batch.
    fn append(&mut self, mut plain: Self) {
        self.patients_read.append(&mut plain.patients_read);
        self.visits_read.append(&mut plain.visits_read);
        self.absent.append(&mut plain.absent);
        self.look_ups_known.append(&mut plain.look_ups_known);
        self.journal.append(&mut plain.journal);
        self.patients.append(&mut plain.patients);
        self.visits.append(&mut plain.visits);
        self.facts.append(&mut plain.facts);
        self.look_ups.append(&mut plain.look_ups);
        self.outbox.append(&mut plain.outbox);
        self.audit.append(&mut plain.audit);
    }
}

/// Which rows a batch writes that another could be planned on.
#[derive(Default)]
struct Written {
    patients: HashSet<i64>,
    visits: HashSet<i64>,
    look_ups: HashSet<Vec<u8>>,
}

impl Written {
    fn add(&mut self, batch: &SealedBatch) {
        self.patients.extend(batch.patients.iter().map(|row| row.0));
        self.visits.extend(batch.visits.iter().map(|row| row.0));
        self.look_ups.extend(batch.look_ups.iter().map(|row| row.0.clone()));
    }

    /// Whether the batch neither writes nor was planned from any of them.
    fn is_apart_from(&self, batch: &SealedBatch) -> bool {
        let mut patients = batch.patients.iter().map(|row| row.0).chain(batch.patients_read.iter().map(|row| row.0));
        let mut visits = batch.visits.iter().map(|row| row.0).chain(batch.visits_read.iter().map(|row| row.0));
        !(patients.any(|id| self.patients.contains(&id))
            || visits.any(|id| self.visits.contains(&id))
            || batch.absent.iter().any(|hash| self.look_ups.contains(hash.0.as_slice())))
    }
}

/// The same batches, those that have nothing to do with each other as one: for a database that is asked once for all rows of a table.
pub(super) fn together(batches: Vec<SealedBatch>) -> Vec<SealedBatch> {
    let (mut all, mut written): (Vec<SealedBatch>, _) = (Vec::new(), Written::default());
    let n_batches = batches.len();
    for batch in batches {
        let joins = batch.is_plain() && written.is_apart_from(&batch);
        if !joins {
            written = Written::default();
        }
        if n_batches > 1 {
            written.add(&batch);
        }
        match all.last_mut() {
            Some(before) if joins => before.append(batch),
            _ => all.push(batch),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::together;
    use crate::store::sealed::SealedBatch;
    use crate::store::sealing::LookUpHash;

    /// A batch that writes a visit and a patient.
    fn batch(id: i64) -> SealedBatch {
        SealedBatch {
            patients: vec![(id, 1, Vec::new(), None, Vec::new())],
            visits: vec![(id, id, 1, "open".to_owned(), true, None, None, 0, 0, Vec::new())],
            look_ups: vec![(vec![u8::try_from(id).unwrap(); 16], id, 1)],
            ..SealedBatch::default()
        }
    }

    /// Of each batch that is written the visits.
    fn visits(batches: Vec<SealedBatch>) -> Vec<Vec<i64>> {
        together(batches).iter().map(|batch| batch.visits.iter().map(|row| row.0).collect()).collect()
    }

    #[test]
    fn batches_that_have_nothing_to_do_with_each_other_are_one() {
        assert_eq!(visits(vec![batch(1), batch(2), batch(3)]), [vec![1, 2, 3]]);
        assert_eq!(visits(vec![batch(1)]), [vec![1]]);
        assert!(visits(Vec::new()).is_empty());
    }

    #[test]
    fn a_batch_that_stands_on_one_before_comes_behind_it() {
        let visit_again = SealedBatch { patients: Vec::new(), ..batch(1) };
        assert_eq!(visits(vec![batch(1), batch(2), visit_again, batch(3)]), [vec![1, 2], vec![1, 3]]);
        let patient_again = SealedBatch { visits: Vec::new(), ..batch(2) };
        assert_eq!(visits(vec![batch(1), batch(2), patient_again]), [vec![1, 2], vec![]]);
        let reads_patient = SealedBatch { patients_read: vec![(1, 1)], ..batch(2) };
        assert_eq!(visits(vec![batch(1), reads_patient]), [vec![1], vec![2]]);
        let reads_visit = SealedBatch { visits_read: vec![(1, 1)], ..batch(2) };
        assert_eq!(visits(vec![batch(1), reads_visit]), [vec![1], vec![2]]);
        let knew_nobody = SealedBatch { absent: vec![LookUpHash([1; 16])], ..batch(2) };
        assert_eq!(visits(vec![batch(1), knew_nobody]), [vec![1], vec![2]]);
    }

    #[test]
    fn a_batch_that_does_more_than_add_rows_is_written_behind_those_before_it() {
        for special in [
            SealedBatch { dedupe_released: vec![1], ..batch(2) },
            SealedBatch { journal_settled: vec![(1, 1, None)], ..batch(2) },
            SealedBatch { quarantine: vec![(1, String::new(), 0, None, None, String::new())], ..batch(2) },
            SealedBatch { quarantine_left: vec![1], ..batch(2) },
            SealedBatch { directory: Some((1, Vec::new())), ..batch(2) },
        ] {
            assert_eq!(visits(vec![batch(1), special, batch(3)]), [vec![1], vec![2, 3]]);
        }
    }
}
