//! Whom a search of the audit trail is about: the rooms that somebody means by a room, a visit number or a patient id.
//!
//! Numbers are looked up by keyed hash, as they come from a feed; nothing is searched for them. It puts no number into an error.

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::Context as _;
use compact_str::CompactString;
use uuid::Uuid;

use crate::care::identity::PatientRecord;
use crate::cli::console::Console;
use crate::cli::rooms;
use crate::cli::setting::Setting;
use crate::ids::AssigningAuthority;
use crate::ids::CareRoomId;
use crate::ids::Identifier;
use crate::ids::PatientId;
use crate::ids::VisitId;
use crate::intake::look_ups::LookUps;
use crate::phi::Phi;
use crate::store::Store;
use crate::store::form::Stored as _;
use crate::store::form::VisitDocument;
use crate::store::look_up::LookUpHash;
use crate::store::look_up::LookUpKind;
use crate::store::rows::FindRequest;
use crate::store::rows::Found;

/// How many visits are read at once.
const VISITS_AT_ONCE: usize = 500;

/// Whom a search is about.
#[derive(Debug, Default)]
pub(super) struct Subject {
    /// Only these rooms, unless nobody named any.
    pub(super) rooms: Option<BTreeSet<CareRoomId>>,
    /// Messages of these patients, by their rows; messages belong to no room.
    pub(super) patients: Vec<i64>,
}

/// What somebody named.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named<'a> {
    pub(super) room: Option<&'a str>,
    pub(super) visit: Option<&'a str>,
    pub(super) patient: Option<&'a str>,
}

impl Subject {
    /// Looks up what was named; what is wrong with it has been said when this gives an exit code.
    pub(super) async fn find(named: Named<'_>, setting: &Setting, store: &Store, console: &Console) -> anyhow::Result<Result<Self, ExitCode>> {
        let mut subject = Self::default();
        if let Some(given) = named.room {
            match room(given, store, console).await? {
                Ok(room) => subject.narrow(BTreeSet::from([room])),
                Err(code) => return Ok(Err(code)),
            }
        }
        let ways = Ways { look_ups: LookUps::of(store.clone()), setting, store, console };
        if let Some(given) = named.visit {
            match ways.visit(given).await? {
                Ok(rooms) => subject.narrow(rooms),
                Err(code) => return Ok(Err(code)),
            }
        }
        if let Some(given) = named.patient {
            match ways.patient(given).await? {
                Ok((patients, rooms)) => {
                    let is_narrower = subject.rooms.is_some();
                    subject.narrow(rooms);
                    subject.patients = if is_narrower { Vec::new() } else { patients };
                }
                Err(code) => return Ok(Err(code)),
            }
        }
        Ok(Ok(subject))
    }

    fn narrow(&mut self, to: BTreeSet<CareRoomId>) {
        self.rooms = Some(match self.rooms.take() {
            Some(rooms) => rooms.intersection(&to).copied().collect(),
            None => to,
        });
    }
}

/// A whole id counts also when the store has no such room any more: the trail may.
async fn room(given: &str, store: &Store, console: &Console) -> anyhow::Result<Result<CareRoomId, ExitCode>> {
    if let Ok(id) = given.parse::<Uuid>() {
        return Ok(Ok(CareRoomId(id)));
    }
    let named = rooms::named(given, store, console).await?;
    if named.is_err() {
        console.tell("hint: a room that was purged is known by its whole id alone, which `audit search --action room.purged --json` shows");
    }
    Ok(named.map(|room| room.room.id))
}

/// What numbers are looked up with.
struct Ways<'a> {
    look_ups: LookUps,
    setting: &'a Setting,
    store: &'a Store,
    console: &'a Console,
}

impl Ways<'_> {
    /// The rooms of a visit's stays.
    async fn visit(&self, given: &str) -> anyhow::Result<Result<BTreeSet<CareRoomId>, ExitCode>> {
        let readings = self.readings(given, false).into_iter().map(|id| (self.look_ups.visit(LookUpKind::Visit, &VisitId(id.clone())), id)).collect();
        let (found, known) = self.known(readings).await?;
        if let Some(code) = self.unclear("visit number", &known)? {
            return Ok(Err(code));
        }
        let visits = found.look_ups.iter().map(|(_, _, visit)| *visit).collect();
        let (mut ids, mut left) = (BTreeSet::new(), visits);
        let mut seen = BTreeSet::new();
        while let Some(visit) = Vec::pop(&mut left) {
            if !seen.insert(visit) {
                continue;
            }
            let found = self.store.find(&FindRequest { visits: vec![visit], ..FindRequest::default() }).await?;
            let mut stored = Vec::new();
            rooms::rooms_of(visit, &found, &mut stored)?;
            ids.extend(stored.iter().map(|stored| stored.room.id));
            for row in found.visits.iter().filter(|row| row.id == visit) {
                // Numbers that turned out to be the same visit.
                let document = VisitDocument::read(&row.doc)?;
                left.extend(document.absorbed_by.into_iter().chain(document.absorbed));
            }
        }
        Ok(Ok(ids))
    }

    /// A patient's rows and rooms, also those of ids that were merged with this one.
    async fn patient(&self, given: &str) -> anyhow::Result<Result<(Vec<i64>, BTreeSet<CareRoomId>), ExitCode>> {
        let readings = self.readings(given, true).into_iter().map(|id| (self.look_ups.patient(&PatientId(id.clone())), id)).collect();
        let (found, known) = self.known(readings).await?;
        if let Some(code) = self.unclear("patient id", &known)? {
            return Ok(Err(code));
        }
        // The record that counts knows every id that was merged with this one; each of them leads to where its visits may still be.
        let ids: Vec<PatientId> = records(&found)?.iter().flat_map(PatientRecord::ids).cloned().collect();
        let look_ups = ids.iter().map(|id| self.look_ups.patient(id)).collect();
        let found = self.store.find(&FindRequest { look_ups, ..FindRequest::default() }).await?;
        let (records, patients) = (records(&found)?, found.patients.iter().map(|patient| patient.id).collect::<Vec<_>>());
        let known: Vec<PatientId> = known.into_iter().map(PatientId).collect();
        let is_theirs = |id: &PatientId| known.iter().any(|known| known == id || records.iter().any(|record| record.are_one(id, known)));
        let mut theirs = BTreeSet::new();
        for visits in self.store.visits_of_patients(&patients).await?.chunks(VISITS_AT_ONCE) {
            let found = self.store.find(&FindRequest { visits: visits.to_vec(), ..FindRequest::default() }).await?;
            let mut stored = Vec::new();
            for visit in visits {
                rooms::rooms_of(*visit, &found, &mut stored)?;
            }
            // A record may hold more than one person: after a merge was taken back, or a visit moved.
            theirs.extend(stored.iter().map(|stored| &stored.room).filter(|room| is_theirs(&room.state.patient.id)).map(|room| room.id));
        }
        Ok(Ok((patients, theirs)))
    }

    /// What the store knows of these readings, and which of them it knows.
    async fn known(&self, readings: Vec<(LookUpHash, Identifier)>) -> anyhow::Result<(Found, Vec<Identifier>)> {
        let look_ups = readings.iter().map(|(hash, _)| *hash).collect();
        let found = self.store.find(&FindRequest { look_ups, ..FindRequest::default() }).await?;
        let known = readings.into_iter().filter(|(hash, _)| found.look_ups.iter().any(|(known, _, _)| known == hash)).map(|(_, id)| id).collect();
        Ok((found, known))
    }

    /// Says when a number is nobody's, or may be several's.
    fn unclear(&self, what: &str, known: &[Identifier]) -> anyhow::Result<Option<ExitCode>> {
        let form = if what == "patient id" { "AUTHORITY/TYPE:ID" } else { "AUTHORITY/NUMBER" };
        match known {
            [_] => Ok(None),
            [] => {
                let hint = format!("hint: write it as {form}, as `wardroom rooms show` shows it");
                self.console.fail(1, &anyhow::anyhow!("wardroom knows no such {what}\n{hint}")).map(Some)
            }
            several => {
                let of: Vec<String> = several.iter().map(|id| format!("{}/{}", id.authority, id.id_type).trim_end_matches('/').to_owned()).collect();
                let hint = format!("hint: write it as {form}");
                self.console.fail(64, &anyhow::anyhow!("several authorities have such a {what}: {}\n{hint}", of.join(", "))).map(Some)
            }
        }
    }

    /// As what `[AUTHORITY/][TYPE:]VALUE` may have been said: a part that is missing is what the feeds are configured with.
    fn readings(&self, given: &str, has_type: bool) -> Vec<Identifier> {
        let profiles = || self.setting.config.feeds.iter().map(|feed| &feed.profile);
        let given = given.trim();
        let (authority, rest) = given.split_once('/').map_or((None, given), |(authority, rest)| (Some(authority), rest));
        let (id_type, value) = rest.split_once(':').map_or((None, rest), |(id_type, value)| (Some(id_type), value));
        let authorities: BTreeSet<AssigningAuthority> = match authority {
            Some(authority) => BTreeSet::from([AssigningAuthority::new(authority.to_uppercase())]),
            None => profiles().flat_map(|profile| profile.authority_map.values().chain([&profile.authority])).cloned().collect(),
        };
        let types: BTreeSet<String> = match id_type {
            // A visit is known by authority and number, whatever the type.
            _ if !has_type => BTreeSet::from([String::new()]),
            Some(id_type) => BTreeSet::from([id_type.to_uppercase()]),
            None => profiles().map(|profile| profile.patient_id_type.clone()).collect(),
        };
        let of = |authority: &AssigningAuthority, id_type: &String| Identifier {
            authority: authority.clone(),
            id_type: id_type.as_str().into(),
            value: Phi::new(CompactString::from(value)),
        };
        authorities.iter().flat_map(|authority| types.iter().map(move |id_type| of(authority, id_type))).collect()
    }
}

fn records(found: &Found) -> anyhow::Result<Vec<PatientRecord>> {
    found
        .patients
        .iter()
        .map(|patient| PatientRecord::read(&patient.doc))
        .collect::<Result<_, _>>()
        .context("cannot read what is known of the patient")
}
