//! `[[feeds]]`: where messages come from, and how each sender's are read.
//!
//! What the values mean to a message is the matter of the feed's profile; here they are only held against their rules.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::adt::profile::Consultants;
use crate::adt::profile::FeedClock;
use crate::adt::profile::Profile;
use crate::adt::profile::RecordedFrom;
use crate::adt::profile::RolMode;
use crate::adt::profile::Unsupported;
use crate::care::fact::Confidentiality;
use crate::care::fact::Facet;
use crate::config::feed_values as values;
use crate::config::feed_values::AddressRange;
use crate::config::reader;
use crate::config::reader::Reader;
use crate::config::reader::is_blank_or_padded;
use crate::config::tls;
use crate::config::tls::RawTls;
use crate::config::tree::KeyPath;
use crate::ids::AssigningAuthority;
use crate::ids::Facility;
use crate::ids::FeedName;
use crate::ids::Role;
use crate::mllp::tls::ServerTlsFiles;

/// A feed: one listener for HL7 v2 messages over MLLP, and how its messages are read.
#[derive(Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Feed")]
pub(super) struct RawFeed {
    /// The feed's name in events, metrics and logs.
    name: String,
    /// An IP address and a port.
    pub(super) listen: String,
    /// TLS. Without it the listener is plain TCP, which is refused outside loopback unless `allow_plaintext` is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RawTls")]
    tls: Option<RawTls>,
    /// Whether patient data may come over the network in the clear, because something else protects it (a VPN, a sidecar).
    allow_plaintext: bool,
    /// The facility, where PV1-3.4, PV1-39, EVN-7 and MSH-4 say nothing.
    facility: String,
    /// The IANA time zone of times without an offset, such as `America/New_York`.
    time_zone: String,
    /// Other time zones by sending facility (MSH-4), on a feed that several hospitals share.
    time_zones: BTreeMap<String, String>,
    /// The assigning authority of identifiers that come without one.
    authority: String,
    /// Other names of assigning authorities: `{ GOODHEALTH = "GHH" }`.
    authority_map: BTreeMap<String, String>,
    /// The identifier type (CX.5, table 0203) of the PID-3 repetition that is the patient's key.
    patient_id_type: String,
    /// Which of `PV1-19`, `PID-18` and `PV1-50` number the visit; the first that is valued counts.
    visit_id: Vec<String>,
    /// How messages are acknowledged; `auto`: as MSH-15 and MSH-16 ask.
    ack_mode: AckMode,
    /// Whether an AA to a message that waits in quarantine carries a warning (ERR), which says that it waits and nothing of what it says.
    warn_quarantined: bool,
    /// Several messages in one frame: `one` frame with all answers, or a frame for `each`.
    batch_ack: BatchAck,
    /// What becomes of messages that HL7 lets a receiver refuse.
    strictness: RawStrictness,
    /// Message types and trigger events that are not known. Without this key: `accept` when lenient, `reject` when `pam`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RawUnsupported")]
    unsupported: Option<RawUnsupported>,
    /// The processing ids (MSH-11) that are accepted; a blank one counts as `P`.
    processing_ids: Vec<String>,
    /// The largest frame: `8MiB`.
    max_frame: String,
    /// How many connections may be open at one time; more are closed at once.
    #[schemars(range(min = 1, max = 65535))]
    max_connections: u32,
    /// How many of them may be from one address, those aside that the sender has closed; a load balancer is one address.
    #[schemars(range(min = 1, max = 65535))]
    max_connections_per_address: u32,
    /// When a message is not on disk in this time, the connection is closed without an answer, and the sender sends it again.
    commit_timeout: String,
    /// Whose clock says when something was recorded: the `event`'s (EVN-2, MSH-7), or that of the `arrival`, for a feed with a useless clock.
    clock: RawClock,
    /// Which fields say when something was recorded, the first that is usable counts.
    recorded_from: Vec<RawRecordedFrom>,
    /// The trigger events whose PV1-3 moves the patient; empty: all that HL7 lets.
    location_from: Vec<String>,
    /// Whether a PV1-9 replaces the consultants who stood, or adds to them.
    pv1_9: RawConsultants,
    /// Whether who stands behind a procedure (ROL, PRT behind PR1) is of the visit's team, like those behind PV1.
    procedure_team: bool,
    /// Whether an A01 with the same visit number and PV1-44 opens an ended stay again. The same in every feed.
    reopen_on_admit: bool,
    /// Whether an update of an ended stay without PV1-45 opens it again. The same in every feed.
    reopen_on_update: bool,
    /// Whether an update of a stay never seen opened opens it. The same in every feed.
    adopt_on_update: bool,
    /// The facets for which this feed's word counts where two feeds speak of one visit.
    owner: Vec<Facet>,
    /// Until when this feed's word counts: `2026-11-21T06:00:00-05:00`, or without an offset in the feed's time zone. Empty: for ever.
    source_until: String,
    /// Classes (PV1-2) as the site writes them: `{ INPATIENT = "I", OBS = "O" }`.
    class_map: BTreeMap<String, String>,
    /// Trigger events that this site uses as others: `{ A08 = "A02" }`.
    event_map: BTreeMap<String, String>,
    /// Role codes (ROL-3, PRT-4) as `[[team]]` roles, beside the built-in ones: `{ RN2 = "nurse" }`.
    role_map: BTreeMap<String, String>,
    /// PV1-16, ARV-3 and ARV-4 codes: `{ VIP = "restricted", N = "normal" }`. A code that is in no map counts as restricted.
    vip_map: BTreeMap<String, RawConfidentiality>,
    /// The character set of all messages, whatever MSH-18 says: a name of table 0211 such as `UNICODE UTF-8` or `8859/1`. Empty: as MSH-18 says.
    charset: String,
    /// Whether the ROL and PRT segments of a message are the whole team (`snapshot`) or changes of it (`delta`); `auto`: message by message.
    rol_mode: RawRolMode,
    /// Fields whose being empty means nobody: `PV1-9`, or only on some trigger events: `PV1-9 on A08,A61`.
    empty_clears: Vec<String>,
    /// How long a message is known again as a duplicate.
    #[schemars(range(min = 1, max = 3650))]
    dedupe_days: u32,
    /// Who may send; empty: everybody who can connect.
    senders: Vec<RawSender>,
    /// Team members in segments of the site's own.
    z: Vec<RawZField>,
}

impl Default for RawFeed {
    fn default() -> Self {
        Self {
            name: String::new(),
            listen: String::new(),
            tls: None,
            allow_plaintext: false,
            facility: String::new(),
            time_zone: "UTC".to_owned(),
            time_zones: BTreeMap::new(),
            authority: String::new(),
            authority_map: BTreeMap::new(),
            patient_id_type: "MR".to_owned(),
            visit_id: ["PV1-19", "PID-18", "PV1-50"].map(str::to_owned).to_vec(),
            ack_mode: AckMode::Auto,
            warn_quarantined: false,
            batch_ack: BatchAck::One,
            strictness: RawStrictness::Lenient,
            unsupported: None,
            processing_ids: vec!["P".to_owned()],
            max_frame: "8MiB".to_owned(),
            max_connections: 1024,
            max_connections_per_address: 256,
            commit_timeout: "10s".to_owned(),
            clock: RawClock::Event,
            recorded_from: vec![RawRecordedFrom::Event, RawRecordedFrom::Message],
            location_from: Vec::new(),
            pv1_9: RawConsultants::Replace,
            procedure_team: false,
            reopen_on_admit: true,
            reopen_on_update: false,
            adopt_on_update: true,
            owner: Vec::new(),
            source_until: String::new(),
            class_map: BTreeMap::new(),
            event_map: BTreeMap::new(),
            role_map: BTreeMap::new(),
            vip_map: BTreeMap::new(),
            charset: String::new(),
            rol_mode: RawRolMode::Auto,
            empty_clears: Vec::new(),
            dedupe_days: 30,
            senders: Vec::new(),
            z: Vec::new(),
        }
    }
}

/// One who may send: all that is given here must hold.
#[derive(Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Sender")]
struct RawSender {
    /// MSH-3.1.
    application: String,
    /// MSH-4.1.
    facility: String,
    /// The common name or a DNS name of the client certificate.
    certificate: String,
    /// IP addresses or ranges: `10.1.2.3`, `10.1.0.0/16`.
    addresses: Vec<String>,
}

/// Where a team member stands in a segment of the site's own.
#[derive(Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "ZField")]
struct RawZField {
    /// The field that names the person, as an XCN: `ZTM-3`.
    path: String,
    /// The role of the person, as in `role_map`.
    role: String,
}

/// How messages are acknowledged.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AckMode {
    /// As MSH-15 and MSH-16 ask.
    Auto,
    /// AA, AE, AR, whatever the message asks.
    Original,
    /// CA, CE, CR, whatever the message asks.
    Enhanced,
    /// Never.
    None,
}

/// How several messages in one frame are answered.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchAck {
    /// One frame with all answers.
    One,
    /// A frame per answer.
    Each,
}

#[derive(Clone, Copy, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Strictness")]
enum RawStrictness {
    /// They are accepted and counted.
    Lenient,
    /// They are refused, as IHE Patient Administration Management asks.
    Pam,
}

#[derive(Clone, Copy, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Unsupported")]
enum RawUnsupported {
    /// They are accepted, counted, and do nothing.
    Accept,
    /// They are refused (AR 200, 201).
    Reject,
}

#[derive(Clone, Copy, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Clock")]
enum RawClock {
    /// The sender's: EVN-2, MSH-7.
    Event,
    /// Ours: when the message came.
    Arrival,
}

#[derive(Clone, Copy, Deserialize, JsonSchema, Serialize)]
#[schemars(rename = "RecordedFrom")]
enum RawRecordedFrom {
    /// When the event was recorded.
    #[serde(rename = "EVN-2")]
    Event,
    /// When the message was made.
    #[serde(rename = "MSH-7")]
    Message,
}

#[derive(Clone, Copy, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Consultants")]
enum RawConsultants {
    /// These are the consultants.
    Replace,
    /// These are consultants too: the field carries only the newest.
    Add,
}

#[derive(Clone, Copy, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "RolMode")]
enum RawRolMode {
    /// Found out message by message, by their action codes.
    Auto,
    /// The whole team.
    Snapshot,
    /// Changes of the team.
    Delta,
}

#[derive(Clone, Copy, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Confidentiality")]
enum RawConfidentiality {
    Normal,
    Restricted,
    VeryRestricted,
}

/// A feed, checked.
#[derive(Clone, Debug)]
pub struct FeedConfig {
    /// The name.
    pub name: FeedName,
    /// Where it listens.
    pub listen: SocketAddr,
    /// TLS; absent is plain TCP.
    pub tls: Option<ServerTlsFiles>,
    /// The largest frame.
    pub max_frame_bytes: usize,
    /// Connections open at one time.
    pub max_connections: usize,
    /// Connections open at one time from one address.
    pub max_connections_per_address: usize,
    /// When a message is not on disk in this time, the connection is closed.
    pub commit_timeout: Duration,
    /// How several messages in one frame are answered.
    pub batch_ack: BatchAck,
    /// Who may send; empty is everybody who can connect.
    pub senders: Vec<Sender>,
    /// How messages are acknowledged.
    pub ack_mode: AckMode,
    /// Whether an AA to a message that waits carries a warning.
    pub warn_quarantined: bool,
    /// Whether an A01 opens an ended stay again.
    pub reopen_on_admit: bool,
    /// Whether an update opens an ended stay again.
    pub reopen_on_update: bool,
    /// Whether an update opens a stay never seen.
    pub adopt_on_update: bool,
    /// How messages are read.
    pub profile: Profile,
}

/// One who may send: all that is given must hold.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sender {
    /// MSH-3.1.
    pub application: Option<String>,
    /// MSH-4.1.
    pub facility: Option<String>,
    /// A name in the client certificate.
    pub certificate: Option<String>,
    /// Addresses; empty is any.
    pub addresses: Vec<AddressRange>,
}

/// Reads the feeds; the addresses are absent where they could not be read.
pub(super) fn read(raw: &[RawFeed], reader: &mut Reader<'_>) -> Vec<(FeedConfig, Option<SocketAddr>)> {
    let section = KeyPath::of("feeds");
    if raw.is_empty() {
        reader.problem_with_hint(&section, "at least one feed is needed", "add `[[feeds]]` with a `name` and a `listen` address");
    }
    let feeds: Vec<_> = raw.iter().enumerate().map(|(index, raw)| read_feed(raw, &section.index(index), reader)).collect();
    for (index, raw_feed) in raw.iter().enumerate() {
        let earlier = raw.iter().take(index);
        let path = section.index(index);
        if !raw_feed.name.is_empty() && earlier.clone().any(|other| other.name == raw_feed.name) {
            reader.problem(&path.key("name"), "is the name of an earlier feed too");
        }
        for (position, facet) in raw_feed.owner.iter().enumerate() {
            if earlier.clone().any(|other| other.owner.contains(facet)) {
                reader.problem(&path.key("owner").index(position), "is owned by an earlier feed: one feed's word can count");
            }
        }
        // A visit is folded once for all feeds, so these cannot differ from feed to feed.
        let Some(first) = raw.first() else { continue };
        for (key, ours, theirs) in [
            ("reopen_on_admit", raw_feed.reopen_on_admit, first.reopen_on_admit),
            ("reopen_on_update", raw_feed.reopen_on_update, first.reopen_on_update),
            ("adopt_on_update", raw_feed.adopt_on_update, first.adopt_on_update),
        ] {
            if ours != theirs {
                reader.problem(&path.key(key), "differs from that of the first feed: a visit is folded once for all feeds");
            }
        }
    }
    feeds
}

fn read_feed(raw: &RawFeed, path: &KeyPath, reader: &mut Reader<'_>) -> (FeedConfig, Option<SocketAddr>) {
    if is_blank_or_padded(&raw.name) || !raw.name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
        reader.problem(&path.key("name"), "is required: letters, digits, `-`, `_` and `.`");
    }
    let listen = reader.listen(&path.key("listen"), &raw.listen);
    if listen.is_some_and(|address| !address.ip().is_loopback()) && raw.tls.is_none() && !raw.allow_plaintext {
        reader.problem_with_hint(
            &path.key("listen"),
            "is outside loopback and would take patient data in the clear",
            "add `[feeds.tls]`, or set `allow_plaintext = true` where something else protects the line",
        );
    }
    let tls = raw.tls.as_ref().map(|raw| tls::read(raw, &path.key("tls"), reader));
    let max_frame_bytes = reader.size(&path.key("max_frame"), &raw.max_frame);
    if (1..1024).contains(&max_frame_bytes) || max_frame_bytes > 1 << 30 {
        reader.problem(&path.key("max_frame"), "must be between `1KiB` and `1GiB`");
    }
    if raw.max_connections < raw.max_connections_per_address && reader.is_set(&path.key("max_connections_per_address")) {
        reader.warn(
            &path.key("max_connections_per_address"),
            "is more than `max_connections`, so it is never reached",
            "raise `max_connections` of the feed too",
        );
    }
    let commit_timeout = reader.positive_duration(&path.key("commit_timeout"), &raw.commit_timeout);
    if !commit_timeout.is_zero() && commit_timeout < Duration::from_secs(2) {
        reader.warn(&path.key("commit_timeout"), "is very short: a slow disk closes connections", "senders wait 10 s and more; `10s` is the default");
    } else if commit_timeout > Duration::from_secs(30) {
        reader.warn(&path.key("commit_timeout"), "is longer than senders wait", "they send again before the connection closes; `10s` is the default");
    }
    let requires_client_certificates = tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
    let senders = raw.senders.iter().enumerate();
    let senders = senders.map(|(index, raw)| sender(raw, requires_client_certificates, &path.key("senders").index(index), reader)).collect();
    let profile = profile(raw, path, reader);
    let feed = FeedConfig {
        name: FeedName::new(&raw.name),
        listen: listen.unwrap_or(reader::UNREADABLE_ADDRESS),
        senders,
        tls,
        max_frame_bytes,
        max_connections: usize::try_from(raw.max_connections).unwrap_or(usize::MAX),
        max_connections_per_address: usize::try_from(raw.max_connections_per_address).unwrap_or(usize::MAX),
        commit_timeout,
        batch_ack: raw.batch_ack,
        ack_mode: raw.ack_mode,
        warn_quarantined: raw.warn_quarantined,
        reopen_on_admit: raw.reopen_on_admit,
        reopen_on_update: raw.reopen_on_update,
        adopt_on_update: raw.adopt_on_update,
        profile,
    };
    (feed, listen)
}

fn profile(raw: &RawFeed, path: &KeyPath, reader: &mut Reader<'_>) -> Profile {
    if !reader.is_set(&path.key("time_zone")) {
        reader.warn(
            &path.key("time_zone"),
            "is not set: times without an offset are read as UTC",
            "name the hospital's zone, such as `America/New_York`",
        );
    }
    for (key, text) in [("facility", &raw.facility), ("authority", &raw.authority)] {
        if text.trim() != text {
            reader.problem(&path.key(key), "must not have blanks around it");
        }
    }
    if is_blank_or_padded(&raw.patient_id_type) {
        reader.problem(&path.key("patient_id_type"), "must be an identifier type of table 0203, such as `MR`");
    }
    if raw.recorded_from.is_empty() {
        reader.problem_with_hint(
            &path.key("recorded_from"),
            "must name at least one field",
            "for a feed with a useless clock set `clock = \"arrival\"`",
        );
    }
    if raw.processing_ids.is_empty() || raw.processing_ids.iter().any(|id| !matches!(id.as_str(), "P" | "T" | "D")) {
        reader.problem(&path.key("processing_ids"), "must hold one or more of `P`, `T`, `D`");
    }
    if raw.dedupe_days < 30 && raw.dedupe_days > 0 {
        reader.warn(
            &path.key("dedupe_days"),
            "is short: what a sender sends again after that is taken as new",
            "replays come weeks later; 30 days are the default",
        );
    }
    let location_from = values::triggers(&raw.location_from, &path.key("location_from"), reader);
    let recorded_from = raw.recorded_from.iter().map(|field| match field {
        RawRecordedFrom::Event => RecordedFrom::Event,
        RawRecordedFrom::Message => RecordedFrom::Message,
    });
    let time_zone = values::time_zone(&raw.time_zone, &path.key("time_zone"), reader);
    let zones = raw.time_zones.iter();
    let time_zones = zones.map(|(facility, name)| (facility.clone(), values::time_zone(name, &path.key("time_zones").key(facility), reader)));
    let mut owner = raw.owner.clone();
    owner.sort_unstable();
    owner.dedup();
    Profile {
        name: FeedName::new(&raw.name),
        facility: Facility::new(&raw.facility),
        time_zones: time_zones.collect(),
        owner,
        source_until: values::until(&raw.source_until, &time_zone, &path.key("source_until"), reader),
        time_zone,
        dedupe: Duration::from_hours(24 * u64::from(raw.dedupe_days)),
        authority: AssigningAuthority::new(raw.authority.to_uppercase()),
        authority_map: values::authorities(&raw.authority_map, &path.key("authority_map"), reader),
        patient_id_type: raw.patient_id_type.to_uppercase(),
        visit_id: values::visit_id(&raw.visit_id, &path.key("visit_id"), reader),
        processing_ids: raw.processing_ids.clone(),
        strict: matches!(raw.strictness, RawStrictness::Pam),
        unsupported: raw.unsupported.map(|unsupported| match unsupported {
            RawUnsupported::Accept => Unsupported::Accept,
            RawUnsupported::Reject => Unsupported::Reject,
        }),
        clock: match raw.clock {
            RawClock::Event => FeedClock::Event,
            RawClock::Arrival => FeedClock::Arrival,
        },
        recorded_from: recorded_from.collect(),
        location_from: (!raw.location_from.is_empty()).then_some(location_from),
        pv1_9: match raw.pv1_9 {
            RawConsultants::Replace => Consultants::Replace,
            RawConsultants::Add => Consultants::Add,
        },
        procedure_team: raw.procedure_team,
        class_map: values::classes(&raw.class_map, &path.key("class_map"), reader),
        event_map: values::events(&raw.event_map, &path.key("event_map"), reader),
        role_map: values::roles(&raw.role_map, &path.key("role_map"), reader),
        vip_map: raw.vip_map.iter().map(|(code, level)| (code.to_uppercase(), level.into())).collect(),
        charset: values::charset(&raw.charset, &path.key("charset"), reader),
        rol_mode: match raw.rol_mode {
            RawRolMode::Auto => RolMode::Auto,
            RawRolMode::Snapshot => RolMode::Snapshot,
            RawRolMode::Delta => RolMode::Delta,
        },
        empty_clears: values::empty_clears(&raw.empty_clears, &path.key("empty_clears"), reader),
        z: raw.z.iter().enumerate().map(|(index, raw)| z_field(raw, &path.key("z").index(index), reader)).collect(),
    }
}

impl From<&RawConfidentiality> for Confidentiality {
    fn from(raw: &RawConfidentiality) -> Self {
        match raw {
            RawConfidentiality::Normal => Self::Normal,
            RawConfidentiality::Restricted => Self::Restricted,
            RawConfidentiality::VeryRestricted => Self::VeryRestricted,
        }
    }
}

fn sender(raw: &RawSender, requires_client_certificates: bool, path: &KeyPath, reader: &mut Reader<'_>) -> Sender {
    let given = |text: &String| (!text.is_empty()).then(|| text.clone());
    let sender = Sender {
        application: given(&raw.application),
        facility: given(&raw.facility),
        certificate: given(&raw.certificate),
        addresses: values::addresses(&raw.addresses, &path.key("addresses"), reader),
    };
    if sender.application.is_none() && sender.facility.is_none() && sender.certificate.is_none() && raw.addresses.is_empty() {
        reader.problem(path, "must say something: `application`, `facility`, `certificate` or `addresses`");
    }
    if sender.certificate.is_some() && !requires_client_certificates {
        reader.problem(&path.key("certificate"), "needs `tls.client_ca`: without it no client shows a certificate");
    }
    sender
}

fn z_field(raw: &RawZField, path: &KeyPath, reader: &mut Reader<'_>) -> (String, Role) {
    if !values::is_field_path(&raw.path) {
        reader.problem(&path.key("path"), "must be a segment and a field, such as `ZTM-3`");
    }
    if is_blank_or_padded(&raw.role) {
        reader.problem(&path.key("role"), "is required: as what do they belong?");
    }
    (raw.path.clone(), Role::new(&raw.role))
}
