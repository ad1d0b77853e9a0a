//! Reads MFN^M02, MFN^M05 and PMU^B01 to B06 as changes of the directory (HL7 v2.5.1 §8.5, §8.9, §15.3, §15.4).
//!
//! It decides nothing about who is meant or what stands afterwards, and reads no names: nobody is matched by name. A record that cannot be used is left
//! out and answered with `U`; those beside it count.

use std::collections::BTreeSet;

use crate::adt::Arrival;
use crate::adt::Kind;
use crate::adt::profile::Profile;
use crate::care::fact::FieldUpdate;
use crate::care::notice::Notice;
use crate::care::notice::NoticeCode;
use crate::care::roster::StaffIdPattern;
use crate::directory::change::Act;
use crate::directory::change::Affiliation;
use crate::directory::change::AffiliationKind;
use crate::directory::change::Change;
use crate::directory::change::Changes;
use crate::directory::change::StaffRecord;
use crate::directory::change::UnitKey;
use crate::directory::change::UnitRecord;
use crate::hl7::ack::master_file::MasterFile;
use crate::hl7::ack::master_file::RecordAnswer;
use crate::hl7::cx::Cx;
use crate::hl7::field::Field;
use crate::hl7::message::Message;
use crate::hl7::pl::Pl;
use crate::hl7::segment::Segment;
use crate::hl7::ts::TimeContext;
use crate::hl7::ts::timestamp;
use crate::ids::AssigningAuthority;
use crate::ids::Facility;
use crate::ids::PointOfCare;
use crate::ids::TriggerEvent;
use crate::ids::UserId;
use crate::time::Timestamp;

/// The longest key that is a user's name.
const LONGEST_KEY: usize = 255;

/// What was read from one message.
#[derive(Debug)]
pub struct Reading {
    /// What it says.
    pub says: Says,
    /// What its answer repeats, for a master file.
    pub master_file: Option<MasterFile>,
    /// What is worth telling.
    pub notices: Vec<Notice>,
}

/// What a message says of the directory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Says {
    /// These changes.
    Changes(Changes),
    /// Nothing that the directory keeps: a fixed word says why.
    Nothing(&'static str),
    /// An event of no table of ours.
    UnknownEvent,
    /// Nothing in it can be used.
    Unusable,
}

/// Which records a message holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Of {
    Staff,
    Units,
}

/// Reads a message about staff or units; `None` for one that is about something else, which is most of them.
pub fn read(message: &Message<'_>, (kind, trigger): (Kind, Option<TriggerEvent>), profile: &Profile, arrival: Arrival) -> Option<Reading> {
    let says = match kind {
        Kind::MasterFile => Reader::of_master_file,
        Kind::Personnel => Reader::of_personnel,
        Kind::Adt | Kind::Ack | Kind::Other => return None,
    };
    let mut reader = Reader::new(message, profile, arrival);
    let (says, master_file) = says(&mut reader, trigger.as_ref().map_or("", TriggerEvent::as_str));
    Some(Reading { says, master_file, notices: reader.notices })
}

struct Reader<'m, 'p> {
    message: &'m Message<'m>,
    profile: &'p Profile,
    times: TimeContext,
    /// What is after both clocks is for later.
    present: Timestamp,
    notices: Vec<Notice>,
}

impl<'m, 'p> Reader<'m, 'p> {
    fn new(message: &'m Message<'m>, profile: &'p Profile, arrival: Arrival) -> Self {
        let sent = message.header().field(7).text();
        let times = TimeContext::for_message(profile.time_zone.clone(), &sent, Some(arrival.at));
        let present = timestamp(&sent, &times).ok().flatten().map_or(arrival.at, |sent| sent.at.max(arrival.at));
        Self { message, profile, times, present, notices: Vec::new() }
    }

    fn of_master_file(&mut self, event: &str) -> (Says, Option<MasterFile>) {
        match event {
            "M02" => self.master_file(Of::Staff),
            "M05" => self.master_file(Of::Units),
            event if event.starts_with('M') => (Says::Nothing("other_master_file"), None),
            _ => (Says::UnknownEvent, None),
        }
    }

    fn of_personnel(&mut self, event: &str) -> (Says, Option<MasterFile>) {
        match event {
            "B07" | "B08" => (Says::Nothing("certificate"), None),
            "B01" => self.personnel(Act::Add),
            "B02" => self.personnel(Act::Update),
            "B03" => self.personnel(Act::Delete),
            "B04" => self.personnel(Act::Reactivate),
            "B05" => self.personnel(Act::Suspend),
            "B06" => self.personnel(Act::Terminate),
            _ => (Says::UnknownEvent, None),
        }
    }

    fn notice(&mut self, field: &'static str) {
        self.notices.push(Notice::at(NoticeCode::Unreadable, field));
    }

    fn instant(&self, field: Field<'_>) -> Option<Timestamp> {
        timestamp(&field.text(), &self.times).ok().flatten().map(|dtm| dtm.at)
    }

    /// When it takes effect, where that is later.
    fn effective(&self, field: Field<'_>) -> Option<Timestamp> {
        self.instant(field).filter(|at| *at > self.present)
    }

    /// MFI, and one record for each MFE.
    fn master_file(&mut self, of: Of) -> (Says, Option<MasterFile>) {
        let Some(mfi) = self.message.first("MFI") else {
            self.notice("MFI-1");
            return (Says::Unusable, None);
        };
        let later = self.effective(mfi.field(5));
        let is_whole = mfi.field(3).text().eq_ignore_ascii_case("REP");
        let mut answer = MasterFile::of(mfi);
        let mut changes = Vec::new();
        for record in self.records() {
            let change = self.change(&record, of);
            if let Some(mfe) = record.first() {
                answer.records.push(RecordAnswer::of(*mfe, change.is_some()));
                let at = if mfe.field(3).is_empty() { later } else { self.effective(mfe.field(3)) };
                changes.extend(change.map(|change| (at, change)));
            }
        }
        if changes.is_empty() {
            return (Says::Unusable, Some(answer));
        }
        if is_whole {
            changes.insert(0, (later, whole(&changes, of)));
        }
        (Says::Changes(Changes { changes }), Some(answer))
    }

    /// The segments of each MFE, it itself first.
    fn records(&self) -> Vec<Vec<Segment<'m>>> {
        let mut records: Vec<Vec<Segment<'m>>> = Vec::new();
        for segment in self.message.segments() {
            if segment.is("MFE") {
                records.push(vec![segment]);
            } else if let Some(record) = records.last_mut() {
                record.push(segment);
            }
        }
        records
    }

    fn change(&mut self, record: &[Segment<'m>], of: Of) -> Option<Change> {
        let mfe = *record.first()?;
        let act = match mfe.field(1).text().to_ascii_uppercase().as_str() {
            "MAD" => Act::Add,
            "MUP" => Act::Update,
            "MDL" => Act::Delete,
            "MDC" => Act::Deactivate,
            "MAC" => Act::Reactivate,
            _ => {
                self.notice("MFE-1");
                return None;
            }
        };
        match of {
            Of::Staff => self.staff(record, Some(mfe.field(4)), act),
            Of::Units => self.unit(record, mfe.field(4), act),
        }
    }

    /// STF and what follows it.
    fn personnel(&mut self, act: Act) -> (Says, Option<MasterFile>) {
        let evn = self.message.first("EVN");
        let effective = |n| evn.map(|evn| evn.field(n)).filter(|field| !field.is_empty());
        let at = effective(6).or_else(|| effective(3)).and_then(|field| self.effective(field));
        let segments: Vec<Segment<'m>> = self.message.segments().collect();
        let says = self.staff(&segments, None, act).map_or(Says::Unusable, |change| Says::Changes(Changes { changes: vec![(at, change)] }));
        (says, None)
    }

    fn staff(&mut self, record: &[Segment<'m>], key: Option<Field<'m>>, act: Act) -> Option<Change> {
        let first = |id: &str| record.iter().copied().find(|segment| segment.is(id));
        let (stf, pra) = (first("STF"), first("PRA"));
        let orgs: Vec<Segment<'m>> = record.iter().copied().filter(|segment| segment.is("ORG")).collect();
        let ids = self.ids(stf, pra, &orgs);
        let field = |segment: Option<Segment<'m>>, n| segment.map(|segment| segment.field(n)).filter(|field| !field.is_empty() && !field.is_null());
        let named = key.filter(|key| !key.is_empty()).or_else(|| field(stf, 1)).or_else(|| field(pra, 1)).map(|key| key.text().into_owned());
        // Without a key somebody is who their first id says.
        let key = named.filter(|key| !key.is_empty()).or_else(|| {
            let id = ids.first()?;
            Some(id.authority.as_ref().map_or_else(|| id.value.clone(), |authority| format!("{authority}:{}", id.value)))
        });
        let Some(key) = key.filter(|key| key.len() <= LONGEST_KEY && !key.contains(char::is_whitespace)) else {
            self.notice(if record.iter().any(|segment| segment.is("MFE")) { "MFE-4" } else { "STF-1" });
            return None;
        };
        let active = field(stf, 7).and_then(|field| match field.text().to_ascii_uppercase().as_str() {
            "A" => Some(true),
            "I" => Some(false),
            _ => None,
        });
        let date = |n| stf.map_or(FieldUpdate::Keep, |stf| stf.field(n).update(|field| self.instant(field)));
        let (from, until) = (date(12), date(13));
        let teams = self.teams(stf, &orgs);
        Some(Change::Staff { key: UserId::new(key), act, record: StaffRecord { ids, teams, active, from, until } })
    }

    /// STF-2; PRA-6 with a type; ORG-5 with an authority: without one it is an id only inside of its unit, which nothing here could tell.
    fn ids(&mut self, stf: Option<Segment<'m>>, pra: Option<Segment<'m>>, orgs: &[Segment<'m>]) -> Vec<StaffIdPattern> {
        let mut ids: Vec<StaffIdPattern> = Vec::new();
        for repetition in stf.iter().flat_map(|stf| stf.field(2).repetitions()) {
            if Cx::is_cut(repetition) {
                self.notices.push(Notice::at(NoticeCode::Truncated, "STF-2"));
            }
            let Some(cx) = Cx::read(repetition) else { continue };
            // NPI numbers are one list for the whole country.
            let is_national = cx.authority.is_empty() && cx.id_type == "NPI";
            let authority = (!is_national).then(|| self.profile.authority(&cx.authority)).filter(|authority| !authority.is_empty());
            ids.push(pattern(authority, &cx.id_type, &cx.id));
        }
        for repetition in pra.iter().flat_map(|pra| pra.field(6).repetitions()) {
            let (value, id_type) = (repetition.text(), repetition.component(2).text().to_uppercase());
            if !value.is_empty() && !id_type.is_empty() {
                ids.push(pattern(None, &id_type, &value));
            }
        }
        for cx in orgs.iter().filter_map(|org| Cx::read(org.field(5))).filter(|cx| !cx.authority.is_empty()) {
            ids.push(pattern(Some(self.profile.authority(&cx.authority)), &cx.id_type, &cx.id));
        }
        let mut seen = BTreeSet::new();
        ids.retain(|id| seen.insert(id.clone()));
        ids
    }

    fn teams(&self, stf: Option<Segment<'m>>, orgs: &[Segment<'m>]) -> FieldUpdate<Vec<Affiliation>> {
        let fields = || stf.into_iter().flat_map(|stf| [stf.field(8), stf.field(9)]).chain(orgs.iter().map(|org| org.field(2)));
        let plain = |field: Field<'m>, kind| {
            let codes = field.repetitions().map(|code| code.text().into_owned()).filter(|code| !code.is_empty()).collect::<Vec<_>>();
            codes.into_iter().map(move |code| Affiliation { kind, code, from: None, until: None })
        };
        let mut teams: Vec<Affiliation> = Vec::new();
        if let Some(stf) = stf {
            teams.extend(plain(stf.field(8), AffiliationKind::Department));
            teams.extend(plain(stf.field(9), AffiliationKind::Service));
        }
        for org in orgs {
            let span = org.field(9);
            let of_span = |n| timestamp(&span.component(n).text(), &self.times).ok().flatten().map(|dtm| dtm.at);
            let span = |team| Affiliation { from: of_span(1), until: of_span(2), ..team };
            teams.extend(plain(org.field(2), AffiliationKind::Department).map(span));
        }
        if !teams.is_empty() {
            FieldUpdate::Set(teams)
        } else if fields().any(|field| field.is_null()) {
            FieldUpdate::Clear
        } else {
            FieldUpdate::Keep
        }
    }

    fn unit(&mut self, record: &[Segment<'m>], key: Field<'m>, act: Act) -> Option<Change> {
        let loc = record.iter().copied().find(|segment| segment.is("LOC"));
        let place = Pl::read(loc.map_or(key, |loc| loc.field(1))).or_else(|| Pl::read(key));
        let Some(place) = place.filter(|place| !place.point_of_care.is_empty()) else {
            self.notice("LOC-1");
            return None;
        };
        // Rooms and beds need no entry: their unit is in every PL. One is taken note of as its unit, of which it says nothing.
        let is_unit = place.room.is_empty() && place.bed.is_empty();
        let key = self.unit_key(&place);
        if !is_unit {
            return Some(Change::Unit { key, act: Act::Update, record: UnitRecord::default() });
        }
        let alias_of = record
            .iter()
            .filter(|segment| segment.is("LRL") && segment.field(4).text().eq_ignore_ascii_case("ALI"))
            .find_map(|lrl| Pl::read(lrl.field(6)))
            .filter(|of| !of.point_of_care.is_empty())
            .map(|of| self.unit_key(&of))
            .filter(|of| *of != key);
        let departments = record.iter().filter(|segment| segment.is("LDP")).map(|ldp| ldp.field(2).text().into_owned());
        let name = loc.map(|loc| loc.field(2).whole().into_owned()).filter(|name| !name.is_empty());
        let departments = departments.filter(|code| !code.is_empty()).collect();
        let flags = record.iter().filter(|segment| segment.is("LDP")).map(|ldp| ldp.field(6).text().to_ascii_uppercase());
        // One department that is in use is enough.
        let in_use = flags.filter_map(|flag| match &*flag {
            "A" => Some(true),
            "I" => Some(false),
            _ => None,
        });
        let said = UnitRecord { name, alias_of, departments, in_use: in_use.reduce(|one, other| one || other) };
        Some(Change::Unit { key, act, record: said })
    }

    fn unit_key(&self, place: &Pl<'_>) -> UnitKey {
        let facility = if place.facility.is_empty() { self.profile.facility.clone() } else { Facility::new(&*place.facility) };
        (facility, PointOfCare::new(&*place.point_of_care))
    }
}

fn pattern(authority: Option<AssigningAuthority>, id_type: &str, value: &str) -> StaffIdPattern {
    StaffIdPattern { authority, id_type: (!id_type.is_empty()).then(|| id_type.to_owned()), value: value.to_owned() }
}

/// That these records are all there are.
fn whole(changes: &[(Option<Timestamp>, Change)], of: Of) -> Change {
    let keys = changes.iter().map(|(_, change)| change);
    match of {
        Of::Staff => {
            Change::OnlyStaff(keys.filter_map(|change| if let Change::Staff { key, .. } = change { Some(key.clone()) } else { None }).collect())
        }
        Of::Units => {
            Change::OnlyUnits(keys.filter_map(|change| if let Change::Unit { key, .. } = change { Some(key.clone()) } else { None }).collect())
        }
    }
}

#[cfg(test)]
mod tests;
