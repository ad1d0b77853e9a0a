//! Looking ahead: what planning visits again would publish, under a policy and a directory that may be others than the daemon's.
//!
//! It reads from the store and plans with the very code of the daemon, and commits nothing. What a daemon writes meanwhile may be in it or not.

use std::collections::BTreeSet;

use foldhash::HashMap;

use crate::care::brake::Brake;
use crate::care::change::Cause;
use crate::care::change::CauseKind;
use crate::care::policy::Policy;
use crate::directory::Snapshot;
use crate::directory::said::Said;
use crate::ids::IdSource;
use crate::intake::batch::BatchError;
use crate::intake::batch::Work;
use crate::intake::batch::load;
use crate::intake::batch::load_facts;
use crate::intake::batch::request;
use crate::intake::batch::take_all;
use crate::intake::look_ups::LookUps;
use crate::intake::room_ids::RoomIds;
use crate::intake::staff::Hearing;
use crate::intake::world::Need;
use crate::intake::world::Rules;
use crate::intake::world::World;
use crate::outbox::envelope::Event;
use crate::store::Store;
use crate::store::look_up::LookUpHash;
use crate::time::Timestamp;

/// How often planning may lack something that it asked for already.
const TRIES: usize = 8;

/// What visits are planned with.
#[derive(Debug)]
pub struct Foresight<'a> {
    /// Where they are.
    pub store: &'a Store,
    /// The policy.
    pub policy: &'a Policy,
    /// Staff and units.
    pub directory: &'a Snapshot,
    /// The present.
    pub now: Timestamp,
}

impl Foresight<'_> {
    /// The events that planning these visits again would publish, if nothing held back what ends.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn of(&self, visits: &[i64]) -> Result<Vec<Event>, BatchError> {
        let work = Work { visits: visits.iter().map(|row| (*row, Cause::of(CauseKind::Policy))).collect(), ..Work::default() };
        let (look_ups, ids) = (LookUps::of(self.store.clone()), IdSource::new(crate::store::BESIDE_LANE));
        let (policy, roster, now, epoch) = (self.policy, &*self.directory.roster, self.now, self.store.epoch());
        let rules = Rules { policy, roster, now, ids: &ids, look_ups: &look_ups, brake: &Brake::RELEASED, epoch };
        let mut request = request(&work);
        let (mut with_facts, mut wanted): (BTreeSet<i64>, BTreeSet<LookUpHash>) = (BTreeSet::new(), BTreeSet::new());
        let mut n_tries = 0;
        while n_tries < TRIES {
            let mut world = World::new(RoomIds::random());
            load(self.store.find(&request).await?, &mut world)?;
            load_facts(self.store, &mut world, &with_facts).await?;
            let mut hearing = Hearing::new(&self.directory.files, Said::default());
            let is_new = match take_all(&mut world, &mut hearing, &work, &HashMap::default(), &rules) {
                Ok(_) => return Ok(world.changes.into_iter().map(|change| change.event).collect()),
                Err(Need::Facts(visit)) => with_facts.insert(visit),
                Err(Need::Visit(visit)) => add(visit, &mut request.visits),
                Err(Need::Patient(patient)) => add(patient, &mut request.patients),
                Err(Need::LookUp(hash)) => {
                    request.look_ups.push(hash);
                    wanted.insert(hash)
                }
            };
            n_tries += usize::from(!is_new);
        }
        Err(BatchError::Contended)
    }
}

/// Whether it was not among them.
fn add(row: i64, rows: &mut Vec<i64>) -> bool {
    let is_new = !rows.contains(&row);
    rows.extend(is_new.then_some(row));
    is_new
}
