//! MRG, and the second of two PIDs: what is done to identifiers (HL7 v2.5.1 §3.4.9 and §3.6.2).
//!
//! MRG names the old side, PID and PV1 the side that counts from now on. Identifiers are paired by authority and type, and by position only where
//! that leaves no doubt. It resolves nothing: chains, cycles and unknown identifiers are the core's.

use crate::adt::context::Context;
use crate::adt::group::Group;
use crate::adt::patient;
use crate::adt::patient::Identity;
use crate::adt::trigger::Relates;
use crate::adt::visit;
use crate::care::fact::Pair;
use crate::care::fact::Relation;
use crate::care::fact::RelationKind;
use crate::ids::PatientId;
use crate::ids::VisitId;

/// What a group does to identifiers.
#[derive(Debug)]
pub(crate) enum Related {
    /// Nothing, and its event is not about that.
    No,
    /// This.
    By(Relation),
    /// Its event is about that, and the old or the new identifier is missing.
    Incomplete(RelationKind),
    /// Both sides are the same: nothing is left to do.
    Same(RelationKind),
}

/// Reads what a group with a MRG does.
pub(crate) fn of_group(context: &mut Context<'_, '_>, group: &Group<'_>, identity: &Identity) -> Related {
    let all = match context.rule.relates {
        Relates::No => return Related::No,
        Relates::IfRenumbered | Relates::ByDifference | Relates::Kind(_) => Pairs::read(context, group, identity),
    };
    let differ = all.that_differ();
    let kind = match context.rule.relates {
        Relates::Kind(kind) => kind,
        Relates::IfRenumbered => {
            if differ.accounts.is_empty() && differ.visits.is_empty() {
                return Related::No;
            }
            RelationKind::AccountChange
        }
        Relates::ByDifference if !differ.patients.is_empty() => RelationKind::Patient,
        Relates::ByDifference if !differ.accounts.is_empty() => RelationKind::Account,
        Relates::ByDifference if !differ.visits.is_empty() => RelationKind::Visit,
        Relates::No | Relates::ByDifference => RelationKind::Patient,
    };
    let is_incomplete = !all.names_level(kind);
    let Pairs { patients, accounts, visits } = match kind {
        RelationKind::Patient => differ,
        RelationKind::PatientMove | RelationKind::PatientIdChange => Pairs { patients: differ.patients, ..Pairs::default() },
        // The patients of a merge below them are the same by definition.
        RelationKind::Account | RelationKind::AccountChange => Pairs { patients: Vec::new(), ..differ },
        RelationKind::Visit | RelationKind::VisitChange => Pairs { visits: differ.visits, ..Pairs::default() },
        // What moves keeps its number as a rule: the pair of equals says what moved.
        RelationKind::AccountMove => Pairs { patients: differ.patients, accounts: all.accounts, visits: differ.visits },
        RelationKind::VisitMove => Pairs { patients: differ.patients, accounts: differ.accounts, visits: all.visits },
        RelationKind::Link | RelationKind::Unlink => Pairs::default(),
    };
    if is_incomplete {
        Related::Incomplete(kind)
    } else if patients.is_empty() && accounts.is_empty() && visits.is_empty() {
        Related::Same(kind)
    } else {
        Related::By(Relation { kind, patients, accounts, visits })
    }
}

/// Reads what a message with two patients says of the first in `of`, seen from it.
pub(crate) fn link(kind: RelationKind, of: &PatientId, other: Option<&PatientId>) -> Related {
    match other {
        None => Related::Incomplete(kind),
        Some(other) if other == of => Related::Same(kind),
        Some(other) => {
            Related::By(Relation { kind, patients: vec![Pair { from: other.clone(), into: of.clone() }], accounts: Vec::new(), visits: Vec::new() })
        }
    }
}

/// All pairs that a MRG makes with its PID and PV1, also of equals.
#[derive(Clone, Debug, Default)]
struct Pairs {
    patients: Vec<Pair<PatientId>>,
    accounts: Vec<Pair<VisitId>>,
    visits: Vec<Pair<VisitId>>,
}

impl Pairs {
    fn read(context: &mut Context<'_, '_>, group: &Group<'_>, identity: &Identity) -> Self {
        let (Some(mrg), Some(pid)) = (group.first("MRG"), group.first("PID")) else { return Self::default() };
        let current: Vec<PatientId> = std::iter::once(&identity.key).chain(&identity.others).cloned().collect();
        let sent = patient::ids(context, pid.field(3), "PID-3");
        let old = patient::ids(context, mrg.field(1), "MRG-1");
        let mut patients = pair_up(&old, if sent.is_empty() { &current } else { &sent }, &identity.key);
        for (n_old, name_old, n_new, name_new) in [(4, "MRG-4", 2, "PID-2"), (2, "MRG-2", 4, "PID-4")] {
            let (old, new) = (patient::ids(context, mrg.field(n_old), name_old), patient::ids(context, pid.field(n_new), name_new));
            if let Some(first) = new.first() {
                patients.extend(pair_up(&old, &new, first));
            }
        }
        // What becomes the patient's key comes first.
        patients.sort_by_key(|pair| pair.into != identity.key);
        let mut unique: Vec<Pair<PatientId>> = Vec::with_capacity(patients.len());
        for pair in patients {
            if !unique.contains(&pair) {
                unique.push(pair);
            }
        }

        // What moves keeps its number as a rule, and then many name it on one side only.
        let names_source = [1, 3, 5].iter().any(|n| !mrg.field(*n).is_empty());
        let moves = |kind| names_source && context.rule.relates == Relates::Kind(kind);
        let (moves_account, moves_visit) = (moves(RelationKind::AccountMove), moves(RelationKind::VisitMove));
        let old = visit::id(context, mrg.field(3), "MRG-3");
        let new = visit::id(context, pid.field(18), "PID-18");
        let accounts = pair(old, new, moves_account).into_iter().collect();
        let mut visits = Vec::new();
        if let Some(pv1) = group.first("PV1") {
            for (n_old, name_old, n_new, name_new) in [(5, "MRG-5", 19, "PV1-19"), (6, "MRG-6", 50, "PV1-50")] {
                let old = visit::id(context, mrg.field(n_old), name_old);
                let new = visit::id(context, pv1.field(n_new), name_new);
                visits.extend(pair(old, new, moves_visit));
            }
        }
        Self { patients: unique, accounts, visits }
    }

    fn that_differ(&self) -> Self {
        let differ = |pairs: &[Pair<VisitId>]| pairs.iter().filter(|pair| pair.from != pair.into).cloned().collect();
        Self {
            patients: self.patients.iter().filter(|pair| pair.from != pair.into).cloned().collect(),
            accounts: differ(&self.accounts),
            visits: differ(&self.visits),
        }
    }

    /// Whether both sides are named at the level that the kind is about.
    fn names_level(&self, kind: RelationKind) -> bool {
        match kind {
            RelationKind::Patient | RelationKind::PatientMove | RelationKind::PatientIdChange => !self.patients.is_empty(),
            RelationKind::Account | RelationKind::AccountMove => !self.accounts.is_empty(),
            RelationKind::AccountChange | RelationKind::VisitMove => !self.accounts.is_empty() || !self.visits.is_empty(),
            RelationKind::Visit | RelationKind::VisitChange => !self.visits.is_empty(),
            RelationKind::Link | RelationKind::Unlink => true,
        }
    }
}

/// The pair of two numbers; where `moves`, one that is named on one side only is the same on both.
fn pair(old: Option<VisitId>, new: Option<VisitId>, moves: bool) -> Option<Pair<VisitId>> {
    let (old, new) = if moves { (old.clone().or_else(|| new.clone()), new.or(old)) } else { (old, new) };
    old.zip(new).map(|(from, into)| Pair { from, into })
}

/// Pairs old identifiers with new ones: equals first, then the same authority and type, then a single old one with the patient's key, then position.
/// What is left over is not affected.
fn pair_up(old: &[PatientId], new: &[PatientId], key: &PatientId) -> Vec<Pair<PatientId>> {
    let mut is_taken = vec![false; new.len()];
    let mut into: Vec<Option<usize>> = vec![None; old.len()];
    let same_kind = |a: &PatientId, b: &PatientId| a.0.authority == b.0.authority && a.0.id_type == b.0.id_type;
    let position = |at: usize, id: &PatientId, candidate: usize, other: &PatientId| {
        if old.len() == 1 { other == key } else { at == candidate && id.0.id_type == other.0.id_type }
    };
    let passes: [&dyn Fn(usize, &PatientId, usize, &PatientId) -> bool; 3] =
        [&|_, id, _, other| id == other, &|_, id, _, other| same_kind(id, other), &position];
    for fits in passes {
        for ((at, id), into) in old.iter().enumerate().zip(&mut into) {
            if into.is_some() {
                continue;
            }
            let found = new.iter().zip(&mut is_taken).enumerate().find(|(candidate, (other, taken))| !**taken && fits(at, id, *candidate, other));
            if let Some((candidate, (_, taken))) = found {
                *taken = true;
                *into = Some(candidate);
            }
        }
    }
    old.iter().zip(into).filter_map(|(id, into)| Some(Pair { from: id.clone(), into: new.get(into?)?.clone() })).collect()
}
