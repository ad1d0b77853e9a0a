//! `staff.csv` and `units.csv`: what their lines mean.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;

use crate::care::roster::StaffIdPattern;
use crate::care::roster::StaffMember;
use crate::care::roster::Unit;
use crate::care::roster::UnitFlags;
use crate::directory::table;
use crate::directory::table::BadLine;
use crate::directory::table::Columns;
use crate::directory::table::listed;
use crate::ids::AssigningAuthority;
use crate::ids::Facility;
use crate::ids::GroupId;
use crate::ids::PointOfCare;
use crate::ids::UserId;

const STAFF: Columns = Columns { required: &["user", "ids"], optional: &["name", "groups", "active"] };
const UNITS: Columns = Columns { required: &["facility", "point_of_care", "group"], optional: &["name", "flags"] };
const FLAGS: [&str; 4] = ["sensitive", "part2", "no_auto_join", "virtual"];

/// Reads a staff file.
pub(super) fn staff(file: &Path, bytes: &[u8]) -> (Vec<StaffMember>, Vec<BadLine>) {
    let (rows, mut bad_lines) = table::read(file, bytes, STAFF);
    let mut members = Vec::new();
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    for row in rows {
        let mut bad = |rule: String| bad_lines.push(BadLine { file: file.to_owned(), line: row.line, rule });
        let user = row.value("user");
        if user.is_empty() || user.contains(char::is_whitespace) {
            bad("the user is empty or holds a blank: write the name that the chat knows".to_owned());
            continue;
        }
        if let Some(line) = seen.insert(user.to_owned(), row.line) {
            bad(format!("the user stands on line {line} too: put all ids and groups on one line"));
            continue;
        }
        let Some(active) = truth(row.value("active")) else {
            bad("`active` must be `true` or `false`; empty is true".to_owned());
            continue;
        };
        let Some(ids) = row.value("ids").split_whitespace().map(pattern).collect::<Option<Vec<_>>>() else {
            bad("an id is not `[AUTHORITY/][TYPE:]VALUE`, as in `GHH/EI:D100`; ids are separated by blanks".to_owned());
            continue;
        };
        let groups = row.value("groups").split_whitespace().map(GroupId::new).collect();
        members.push(StaffMember { user: UserId::new(user), ids, groups, active });
    }
    (members, bad_lines)
}

/// Reads a units file.
pub(super) fn units(file: &Path, bytes: &[u8]) -> (Vec<((Facility, PointOfCare), Unit)>, Vec<BadLine>) {
    let (rows, mut bad_lines) = table::read(file, bytes, UNITS);
    let mut units = Vec::new();
    let mut seen: BTreeMap<(String, String), u64> = BTreeMap::new();
    for row in rows {
        let mut bad = |rule: String| bad_lines.push(BadLine { file: file.to_owned(), line: row.line, rule });
        let (facility, point_of_care) = (row.value("facility"), row.value("point_of_care"));
        if point_of_care.is_empty() {
            bad("the point of care is empty: write the unit as PV1-3.1 has it".to_owned());
            continue;
        }
        if let Some(line) = seen.insert((facility.to_owned(), point_of_care.to_owned()), row.line) {
            bad(format!("the unit stands on line {line} too: each unit of a facility has one line"));
            continue;
        }
        if row.value("group").contains(char::is_whitespace) {
            bad("the group holds a blank: a unit has one group".to_owned());
            continue;
        }
        let Some(flags) = flags(row.value("flags")) else {
            bad(format!("a flag is none of {}; flags are separated by blanks", listed(&FLAGS)));
            continue;
        };
        let group = (!row.value("group").is_empty()).then(|| GroupId::new(row.value("group")));
        let unit = Unit { group, name: row.value("name").to_owned(), flags };
        units.push(((Facility::new(facility), PointOfCare::new(point_of_care)), unit));
    }
    (units, bad_lines)
}

/// `[AUTHORITY/][TYPE:]VALUE`; a missing part matches any.
fn pattern(text: &str) -> Option<StaffIdPattern> {
    let (authority, rest) = text.split_once('/').map_or((None, text), |(authority, rest)| (Some(authority), rest));
    let (id_type, value) = rest.split_once(':').map_or((None, rest), |(id_type, value)| (Some(id_type), value));
    let given = [authority, id_type, Some(value)];
    given.iter().flatten().all(|part| !part.is_empty()).then(|| StaffIdPattern {
        authority: authority.map(|authority| AssigningAuthority::new(authority.to_uppercase())),
        id_type: id_type.map(str::to_uppercase),
        value: value.to_owned(),
    })
}

fn truth(text: &str) -> Option<bool> {
    match text.to_lowercase().as_str() {
        "" | "true" | "yes" | "y" | "1" => Some(true),
        "false" | "no" | "n" | "0" => Some(false),
        _ => None,
    }
}

fn flags(text: &str) -> Option<UnitFlags> {
    let said: BTreeSet<&str> = text.split_whitespace().collect();
    said.iter().all(|flag| FLAGS.contains(flag)).then(|| UnitFlags {
        sensitive: said.contains("sensitive"),
        part2: said.contains("part2"),
        no_auto_join: said.contains("no_auto_join"),
        virtual_unit: said.contains("virtual"),
        // Only a master file says so.
        closed: false,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::any;
    use proptest::prelude::proptest;

    use super::staff;
    use super::units;
    use crate::care::roster::Roster;
    use crate::ids::AssigningAuthority;

    /// What is wrong with a staff file, line by line.
    #[track_caller]
    fn check_staff(text: &str, expected: &[&str]) {
        let (_, bad) = staff(Path::new("staff.csv"), text.as_bytes());
        assert_eq!(bad.iter().map(ToString::to_string).collect::<Vec<_>>(), expected, "{text}");
    }

    #[track_caller]
    fn check_units(text: &str, expected: &[&str]) {
        let (_, bad) = units(Path::new("units.csv"), text.as_bytes());
        assert_eq!(bad.iter().map(ToString::to_string).collect::<Vec<_>>(), expected, "{text}");
    }

    #[test]
    fn columns_go_by_name_and_any_line_end_is_read() {
        let text = "\u{feff}active,groups,extra,IDS,name,user\r\ntrue,g4n gicu,x,GHH/EI:D100 npi:123 77,\"Garcia, Luis\",lgarcia\r\n\r\nno,,,ei:D2,,gone\r\n";
        let (members, bad) = staff(Path::new("staff.csv"), text.as_bytes());
        assert!(bad.is_empty(), "{bad:?}");
        assert_eq!(members.len(), 2);
        assert_eq!(members[0].groups.len(), 2);
        let shown: Vec<String> = members[0]
            .ids
            .iter()
            .map(|id| format!("{:?}/{:?}:{}", id.authority.as_ref().map(AssigningAuthority::as_str), id.id_type, id.value))
            .collect();
        assert_eq!(shown, ["Some(\"GHH\")/Some(\"EI\"):D100", "None/Some(\"NPI\"):123", "None/None:77"]);
        assert!(members[0].active && !members[1].active);
    }

    #[test]
    fn bad_lines_of_staff_say_what_to_do() {
        check_staff("", &["staff.csv:1: is empty: the first line names the columns, `user`, `ids`"]);
        check_staff(
            "user;ids\n",
            &[
                "staff.csv:1: the column `user` is missing: the first line names the columns, separated by commas",
                "staff.csv:1: the column `ids` is missing: the first line names the columns, separated by commas",
            ],
        );
        check_staff("user,ids,actve\na,1,false\n", &["staff.csv:1: the column `active` is missing; another is spelt almost so"]);
        check_staff("user,ids,user\n", &["staff.csv:1: the column `user` stands there twice"]);
        check_staff(
            "user,ids,active\n,1,\na b,1,\nc,1,\nc,2,\nd,1,maybe\ne,GHH/,\nf,/1,\ng,EI:,\nh,1\n",
            &[
                "staff.csv:10: has 2 values where the header has 3: put values that hold a comma in double quotes",
                "staff.csv:2: the user is empty or holds a blank: write the name that the chat knows",
                "staff.csv:3: the user is empty or holds a blank: write the name that the chat knows",
                "staff.csv:5: the user stands on line 4 too: put all ids and groups on one line",
                "staff.csv:6: `active` must be `true` or `false`; empty is true",
                "staff.csv:7: an id is not `[AUTHORITY/][TYPE:]VALUE`, as in `GHH/EI:D100`; ids are separated by blanks",
                "staff.csv:8: an id is not `[AUTHORITY/][TYPE:]VALUE`, as in `GHH/EI:D100`; ids are separated by blanks",
                "staff.csv:9: an id is not `[AUTHORITY/][TYPE:]VALUE`, as in `GHH/EI:D100`; ids are separated by blanks",
            ],
        );
        let (_, bad) = staff(Path::new("staff.csv"), b"user,ids\nm\xfcller,1\n");
        assert_eq!(bad[0].to_string(), "staff.csv:2: is not UTF-8: save the file as UTF-8");
    }

    #[test]
    fn bad_lines_of_units_say_what_to_do() {
        check_units(
            "facility,point_of_care,group,name,flags\nGHH,4N,g4n,4 North,\nGHH,,g,,\nGHH,4N,g,,\nGHH,5N,a b,,\nGHH,6N,g,,secret\n",
            &[
                "units.csv:3: the point of care is empty: write the unit as PV1-3.1 has it",
                "units.csv:4: the unit stands on line 2 too: each unit of a facility has one line",
                "units.csv:5: the group holds a blank: a unit has one group",
                "units.csv:6: a flag is none of `sensitive`, `part2`, `no_auto_join`, `virtual`; flags are separated by blanks",
            ],
        );
        let (read, bad) = units(Path::new("units.csv"), b"facility,point_of_care,group,name,flags\nGHH,PSY,,Psychiatry,sensitive no_auto_join\n");
        assert!(bad.is_empty());
        assert!(read[0].1.flags.sensitive && read[0].1.flags.no_auto_join && !read[0].1.flags.part2 && read[0].1.group.is_none());
    }

    #[test]
    fn an_id_that_fits_two_users_is_reported() {
        let (members, _) = staff(Path::new("staff.csv"), b"user,ids\na,EI:7\nb,GHH/7\nc,NPI:8\nd,EI:8\n");
        let ambiguous = Roster::new(members, [], false).ambiguous();
        assert_eq!(ambiguous.len(), 1);
        assert_eq!(ambiguous[0].0, "7");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in any::<Vec<u8>>()) {
            let file = Path::new("x.csv");
            drop((staff(file, &bytes), units(file, &bytes)));
            let mut text = b"user,ids,groups,active\n".to_vec();
            text.extend(&bytes);
            drop(staff(file, &text));
        }
    }
}
