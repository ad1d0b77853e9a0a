//! The patients and visits that batches used last, kept in memory between batches.
//!
//! A hospital's messages come back to the same stays again and again, so most batches need nothing from the store but to know whether their messages are
//! new. Where this process alone changes patients and visits, which the lock of a SQLite file ensures, all that is kept is so. Elsewhere other daemons may
//! have changed it: the commit checks the version of everything that a batch stands on, and that its look-ups lead nowhere else by now, so a stale entry
//! costs a second try and never a wrong commit. Where that happens, nothing is kept for a while: feeds that bring one patient's messages to several daemons
//! in turn would be planned twice all the time.
//!
//! It keeps a patient with every open visit of theirs, or not at all. What a batch uses is taken out and comes back when its commit has succeeded, or, for
//! the batch that is planned meanwhile, when it has begun: should it fail, everything is forgotten.

use std::cmp::Reverse;
use std::collections::hash_map::IntoIter;

use foldhash::HashMap;

use crate::intake::world::PatientEntry;
use crate::intake::world::Targets;
use crate::intake::world::VisitEntry;
use crate::intake::world::World;
use crate::store::look_up::LookUpHash;

/// How many patients one generation holds; there are two.
const GENERATION: usize = 1024;
/// For how many batches nothing is kept after something was not so any more.
const PAUSE: u32 = 16;

/// A patient, with every open visit of theirs and perhaps some that are not.
#[derive(Debug)]
struct Family {
    patient: Box<PatientEntry>,
    visits: Vec<(i64, Box<VisitEntry>)>,
}

/// What was used since some moment.
#[derive(Debug, Default)]
struct Generation {
    families: HashMap<i64, Family>,
    /// All targets of a look-up.
    targets: HashMap<LookUpHash, Targets>,
    /// With which patient a visit is kept.
    patients: HashMap<i64, i64>,
}

/// The patients and visits that batches used last.
#[derive(Debug)]
pub(crate) struct Recent {
    is_ours_alone: bool,
    n_paused: u32,
    young: Generation,
    old: Generation,
    /// What no generation has any more. A part of it goes with each batch: to give back the memory of all of it takes as long as to plan one.
    leaving: IntoIter<i64, Family>,
}

impl Recent {
    /// `is_ours_alone` says whether no other process changes patients and visits.
    pub(crate) fn new(is_ours_alone: bool) -> Self {
        Self { is_ours_alone, n_paused: 0, young: Generation::default(), old: Generation::default(), leaving: IntoIter::default() }
    }

    /// Whether it keeps anything just now.
    pub(crate) const fn is_kept(&self) -> bool {
        self.n_paused == 0
    }

    /// Moves what the look-ups lead to into the world, and gives back those of which the store must be asked.
    pub(crate) fn take(&mut self, wanted: &[LookUpHash], world: &mut World) -> Vec<LookUpHash> {
        wanted.iter().copied().filter(|hash| !self.follow(*hash, world)).collect()
    }

    /// Whether everything that a look-up leads to is in the world now.
    fn follow(&mut self, hash: LookUpHash, world: &mut World) -> bool {
        let Some(targets) = self.young.targets.get(&hash).or_else(|| self.old.targets.get(&hash)).cloned() else { return false };
        for (kind, row) in &targets {
            let leads_to_visit = kind.leads_to_visits();
            let is_there = |world: &World| if leads_to_visit { world.visits.contains_key(row) } else { world.patients.contains_key(row) };
            if is_there(world) {
                continue;
            }
            let patient = if leads_to_visit { self.young.patients.get(row).or_else(|| self.old.patients.get(row)).copied() } else { Some(*row) };
            let Some(patient) = patient else { return false };
            if !world.patients.contains_key(&patient)
                && let Some(family) = self.young.families.remove(&patient).or_else(|| self.old.families.remove(&patient))
            {
                world.patients.insert(patient, family.patient);
                world.visits.extend(family.visits);
            }
            if !is_there(world) {
                return false;
            }
        }
        world.targets.insert(hash, targets);
        true
    }

    /// Keeps the world of a batch that was committed. `wanted` are the look-ups whose targets were asked for, `led` those that it added.
    pub(crate) fn keep(&mut self, world: World, wanted: &[LookUpHash], led: impl IntoIterator<Item = LookUpHash>) {
        if self.n_paused > 0 {
            self.n_paused -= 1;
            return;
        }
        if self.young.families.len() >= GENERATION {
            let old = std::mem::replace(&mut self.old, std::mem::take(&mut self.young));
            self.leaving = old.families.into_iter();
        }
        let World { patients, visits, mut targets, .. } = world;
        // As many as this batch brings, twice, so that all are gone when there are as many again.
        self.leaving.by_ref().take(2 * patients.len() + 1).for_each(drop);
        for hash in led {
            self.young.targets.remove(&hash);
            self.old.targets.remove(&hash);
        }
        for hash in wanted {
            // Only of these are all targets known.
            if let Some(mut targets) = targets.remove(hash) {
                targets.sort_unstable_by_key(|(_, target)| Reverse(*target));
                // What the old generation says of it is asked for no more.
                self.young.targets.insert(*hash, targets);
            }
        }
        for (row, mut patient) in patients {
            self.old.families.remove(&row);
            if patient.absorbed_into.is_some() {
                self.young.families.remove(&row);
            } else {
                patient.version += i64::from(patient.is_dirty);
                patient.is_dirty = false;
                self.young.families.insert(row, Family { patient, visits: Vec::new() });
            }
        }
        for (row, mut visit) in visits {
            let Some(family) = self.young.families.get_mut(&visit.patient) else { continue };
            visit.version += i64::from(visit.is_dirty);
            visit.is_dirty = false;
            visit.facts = None;
            visit.unpublished.clear();
            visit.new_facts.clear();
            self.young.patients.insert(row, visit.patient);
            family.visits.push((row, visit));
        }
    }

    /// Forgets everything, because a commit was refused that stood on it.
    pub(crate) fn was_wrong(&mut self) {
        self.forget();
        self.n_paused = if self.is_ours_alone { 0 } else { PAUSE };
    }

    /// Forgets everything: nobody knows what of it is in the store.
    pub(crate) fn forget(&mut self) {
        *self = Self { n_paused: self.n_paused, ..Self::new(self.is_ours_alone) };
    }
}

#[cfg(test)]
mod tests;
