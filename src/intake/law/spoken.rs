//! The same histories as HL7 messages, through the whole way of a message.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::adt::profile::Profile;
use crate::care::fact::Act;
use crate::care::fact::BedLocation;
use crate::care::fact::Fact;
use crate::care::fact::FieldUpdate;
use crate::care::fact::Practitioner;
use crate::care::policy::Policy;
use crate::care::roster::Roster;
use crate::hl7::ack::AckMode;
use crate::ids::VisitId;
use crate::intake::answer::Feed;
use crate::intake::law::MINUTE;
use crate::intake::law::Telling;
use crate::intake::law::arrival;
use crate::intake::law::history::Said;
use crate::intake::law::history::history;
use crate::intake::law::seen;
use crate::intake::rehearsal::Rehearsal;
use crate::time::Timestamp;

/// Tells a history twice to a feed; gives back the first difference.
pub(super) fn judge(policy: &Arc<Policy>, roster: &Arc<Roster>, said: &[Said], telling: &Telling) -> Result<(), String> {
    let (arrival, told) = (arrival(said), telling.told());
    let begin = || {
        let feed = Feed {
            profile: Profile::default(),
            ack_mode: AckMode::default(),
            warns_quarantined: false,
            answers_each: false,
            commit_timeout: Duration::from_secs(1),
            permits: None,
        };
        Rehearsal::new(feed, Arc::clone(policy), Arc::clone(roster), arrival)
    };
    let (mut plain, mut other) = (begin(), begin());
    let (mut n_plain, mut n_other) = (0, 0);
    for index in &told {
        n_plain += plain.send(&message(&said[*index].facts, *index, false)).len();
    }
    for (place, index, again, _) in &telling.deliveries {
        n_other += other.send(&message(&said[*index].facts, usize::try_from(*place % 1_000_000).unwrap() + 1000, *again)).len();
    }
    assert!(n_plain == told.len() && n_other == telling.deliveries.len(), "each is read as one message");
    if plain.n_waiting() > 0 {
        return Ok(());
    }
    for minutes in [1, 20, 70, 300, 2000] {
        let views = [&mut plain, &mut other].map(|rehearsal| {
            rehearsal.move_to(arrival.plus(MINUTE * minutes));
            let mut rooms: Vec<String> = rehearsal.rooms().into_iter().filter_map(seen).collect();
            rooms.sort();
            rooms
        });
        if views[0] != views[1] {
            let told: Vec<String> = telling
                .deliveries
                .iter()
                .map(|(_, index, ..)| String::from_utf8_lossy(&message(&said[*index].facts, *index, false)).replace('\r', "\n"))
                .collect();
            return Err(format!("after {minutes} minutes\n  in order: {:#?}\n  otherwise: {:#?}\n{}", views[0], views[1], told.join("\n")));
        }
    }
    Ok(())
}

fn stamp(at: Timestamp) -> String {
    at.to_jiff().strftime("%Y%m%d%H%M%S").to_string()
}

fn number(id: &VisitId) -> String {
    format!("{}^^^GHH^VN", id.0.value.as_str())
}

fn place(place: &BedLocation) -> String {
    format!("{}^{}^{}^{}", place.point_of_care, place.room, place.bed, place.facility)
}

fn doctor(doctor: &Practitioner) -> String {
    format!("{}^Doc^Tor^^^^^^GHH^^^^EI", doctor.ids[0].value)
}

fn field<T>(update: &FieldUpdate<T>, show: impl Fn(&T) -> String) -> String {
    match update {
        FieldUpdate::Keep => String::new(),
        FieldUpdate::Clear => "\"\"".to_owned(),
        FieldUpdate::Set(value) => show(value),
    }
}

fn segment(name: &str, fields: &[(usize, String)]) -> String {
    let last = fields.iter().map(|(at, _)| *at).max().unwrap_or(0);
    let mut out = name.to_owned();
    for at in 1..=last {
        let value = fields.iter().find(|(number, _)| *number == at).map_or("", |(_, value)| value);
        write!(out, "|{value}").unwrap();
    }
    out + "\r"
}

/// The messages of a history, in the order in which they were recorded, and when they come.
pub(in crate::intake) fn messages(seed: u64) -> (Vec<Bytes>, Timestamp) {
    let said = history(seed);
    let messages = said.iter().enumerate().map(|(index, said)| message(&said.facts, index, false));
    (messages.collect(), arrival(&said))
}

/// The message that says these facts, under a control id of its own.
fn message(facts: &[Fact], control: usize, again: bool) -> Bytes {
    let first = &facts[0];
    let sent = if again { first.stamp.sent.plus(Duration::from_secs(7)) } else { first.stamp.sent };
    let mut out = format!("MSH|^~\\&|EMR|GHH|ROOMS|GHH|{}||ADT^{}|{control}|P|2.5.1\r", stamp(sent), first.trigger);
    // Without EVN-2 the time of sending stands in for it, which differs when it is sent again.
    out +=
        &segment("EVN", &[(1, first.trigger.to_string()), (2, stamp(first.stamp.recorded)), (6, first.occurred_at.map(stamp).unwrap_or_default())]);
    for fact in facts {
        out += &group(fact);
    }
    Bytes::from(out)
}

fn group(fact: &Fact) -> String {
    let id = |id: &crate::ids::PatientId| format!("{}^^^GHH^MR", id.0.value.as_str());
    let relation = fact.relation.as_ref();
    let visit = fact.visit.as_ref();
    let account = visit.and_then(|visit| if visit.is_account { Some(&visit.id) } else { visit.account.as_ref() });
    let account = account.or_else(|| Some(&relation?.accounts.first()?.into));
    let own = visit.filter(|visit| !visit.is_account).map(|visit| &visit.id).or_else(|| Some(&relation?.visits.first()?.into));
    let name = field(&fact.person.name, |name| format!("{}^{}", name.family.as_str(), name.given.as_str()));
    let mut out = segment(
        "PID",
        &[
            (3, id(&fact.patient)),
            (5, name),
            (7, field(&fact.person.birth_date, |date| date.as_str().replace('-', ""))),
            (8, field(&fact.person.sex, |sex| sex.as_str().to_owned())),
            (18, account.map(number).unwrap_or_default()),
            (30, field(&fact.person.deceased, |dead| if *dead { "Y".to_owned() } else { "N".to_owned() })),
        ],
    );
    if let Some(relation) = relation {
        out += &segment(
            "MRG",
            &[
                (1, relation.patients.first().map_or_else(|| id(&fact.patient), |pair| id(&pair.from))),
                (3, relation.accounts.first().map(|pair| number(&pair.from)).unwrap_or_default()),
                (5, relation.visits.first().map(|pair| number(&pair.from)).unwrap_or_default()),
            ],
        );
    }
    if fact.act != Act::Person {
        let stay = &fact.stay;
        out += &segment(
            "PV1",
            &[
                (2, field(&stay.class, ToString::to_string)),
                (3, field(&stay.location, place)),
                (5, visit.and_then(|visit| visit.preadmit.as_ref()).map(number).unwrap_or_default()),
                (6, stay.prior_location.as_ref().map(place).unwrap_or_default()),
                (7, field(&stay.attending, doctor)),
                (9, field(&stay.consulting, |list| list.iter().map(doctor).collect::<Vec<_>>().join("~"))),
                (10, field(&stay.service, ToString::to_string)),
                (11, field(&stay.whereabouts, place)),
                (17, field(&stay.admitting, doctor)),
                (19, own.map(number).unwrap_or_default()),
                (44, field(&stay.admitted_at, |at| stamp(*at))),
                (45, field(&stay.discharged_at, |at| stamp(*at))),
                (50, visit.and_then(|visit| visit.alternate.as_ref()).map(number).unwrap_or_default()),
            ],
        );
    }
    out
}
