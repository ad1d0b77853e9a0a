//! `[directory]`: who the staff are and which teams the units have.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::config::reader::Reader;
use crate::config::reader::is_blank_or_padded;
use crate::config::tree::KeyPath;
use crate::directory::Sources;
use crate::ids::GroupId;
use crate::ids::HospitalService;

/// Who the staff are and which teams the units have. The files are read again when they change.
#[derive(Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Directory")]
pub(super) struct RawDirectory {
    /// A CSV file with the columns `user,name,ids,groups,active`. Empty: none.
    staff: String,
    /// A CSV file with the columns `facility,point_of_care,group,name,flags`. Empty: none.
    units: String,
    /// What becomes of somebody whom a message names and the staff file does not. Without this key: `hold` with a staff file, `include` without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RawUnknownStaff")]
    unknown_staff: Option<RawUnknownStaff>,
    /// The group that is the team of a service (PV1-10), for `[[team]]` rules with `from = ["service"]`: `{ CAR = "cardiology" }`.
    services: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "UnknownStaff")]
enum RawUnknownStaff {
    /// They are shown as unresolved, and join when the directory knows them.
    Hold,
    /// They join as the user `AUTHORITY:ID`.
    Include,
}

/// Reads the section. Whether the files can be read is the directory's own matter: they may change at any time.
pub(super) fn read(raw: &RawDirectory, reader: &mut Reader<'_>) -> Sources {
    let section = KeyPath::of("directory");
    let path = |text: &str| (!text.is_empty()).then(|| reader.path(text));
    let (staff, units) = (path(&raw.staff), path(&raw.units));
    let include_unknown_staff = raw.unknown_staff.map_or_else(|| staff.is_none(), |unknown| unknown == RawUnknownStaff::Include);
    if include_unknown_staff && staff.is_some() {
        reader.warn(
            &section.key("unknown_staff"),
            "lets everybody a message names join, known or not",
            "`hold` keeps those whom the staff file does not know out until it does",
        );
    }
    for (service, group) in &raw.services {
        if is_blank_or_padded(group) || service.is_empty() || group.contains(char::is_whitespace) {
            reader.problem(&section.key("services").key(service), "must name one group, without blanks");
        }
    }
    let services = raw.services.iter().map(|(service, group)| (HospitalService::new(service), GroupId::new(group))).collect();
    Sources { staff, units, services, include_unknown_staff }
}
