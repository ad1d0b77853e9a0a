//! What codes mean where a feed's own maps say nothing: patient classes (HL7 table 0004), roles (tables 0443 and 0912), restrictions (tables 0099,
//! 0177, 0717 and 0719) and administrative sex (table 0001).
//!
//! All of these tables are "user-defined" in practice: senders put words, truncated words and local codes where a code is meant. A code that is in
//! no map is never guessed at.

use compact_str::CompactString;

use crate::adt::profile::Profile;
use crate::care::fact::Confidentiality;
use crate::ids::PatientClass;
use crate::ids::Role;

/// Classes by code and by the words seen in place of it.
const CLASSES: &[(&str, &[&str])] = &[
    ("I", &["I", "IP", "INP", "IN", "INPATIENT", "IMP", "ACUTE", "AM ADMIT", "ADMIT", "ADMITTED", "INPATIENT ENCOUNTER", "HOSPITAL ENCOUNTER"]),
    (
        "O",
        &[
            "O",
            "OP",
            "OUT",
            "OUTP",
            "OUTPT",
            "OUTPATIENT",
            "OUTPATIENT ENCOUNTER",
            "AMB",
            "AMBULATORY",
            "OBS",
            "OBSERVATION",
            "OBSV",
            "SDC",
            "SDS",
            "DAY SURGERY",
            "SAME DAY SURGERY",
            "CLINIC",
        ],
    ),
    ("E", &["E", "ED", "ER", "EM", "EMER", "EMERGENCY", "EMERGENCY ROOM", "EMERGENCY DEPARTMENT", "EMERGENCY DEPT", "A&E"]),
    ("P", &["P", "PRE", "PREADMIT", "PRE-ADMIT", "PREADMISSION", "PRE-ADMISSION", "PREREG", "PRE-REGISTRATION"]),
    ("R", &["R", "REC", "RECURRING", "RECURRING PATIENT", "SERIES"]),
    ("B", &["B", "OBSTETRICS", "OBSTETRIC", "OB"]),
    ("C", &["C", "COMMERCIAL", "COMMERCIAL ACCOUNT"]),
    ("N", &["N", "NOT APPLICABLE"]),
    ("U", &["U"]),
];

/// The class of a code or word, by the feed's map and then by the standard's table; `None` when neither has it.
pub(crate) fn class(profile: &Profile, code: &str) -> Option<PatientClass> {
    let code = upper(code);
    if let Some(class) = profile.class_map.get(code.as_str()) {
        return Some(class.clone());
    }
    CLASSES.iter().find(|(_, words)| words.contains(&code.as_str())).map(|(class, _)| PatientClass::from(*class))
}

/// Roles by code and by the words seen in place of it. Where a word is also a code of table 0443 the standard's meaning wins: `RT` is
/// "referred-to", never a respiratory therapist.
const ROLES: &[(&str, &[&str])] = &[
    ("admitting", &["AD", "ADMITTING", "ADMITTING PHYSICIAN", "ADMITTING PROVIDER", "ADMITTER", "ADMPHYS"]),
    ("attending", &["AT", "ATTENDING", "ATTENDING PHYSICIAN", "ATTENDING PROVIDER", "ATTND", "ATND", "ATTPHYS"]),
    (
        "consulting",
        &["CP", "CONSULTING", "CONSULTING PROVIDER", "CONSULTING PHYSICIAN", "CONSULTANT", "CONSULT", "CONSULT MD", "CONSULTING MD", "CONPHYS"],
    ),
    ("referring", &["RP", "REFERRING", "REFERRING PROVIDER", "REFERRING PHYSICIAN", "REFPHYS"]),
    ("referred to", &["RT", "REFERRED TO", "REFERRED-TO", "REFERRED TO PROVIDER", "REFERRED-TO PROVIDER", "REFERRING TO PROVIDER"]),
    (
        "primary care",
        &["PP", "PCP", "PRIMARY CARE", "PRIMARY CARE PROVIDER", "PRIMARY CARE PHYSICIAN", "PRIMARY", "GENERAL", "GENERAL PRACTITIONER", "GP", "ODRP"],
    ),
    ("family care", &["FHCP", "FAMILY", "FAMILY HEALTH CARE PROFESSIONAL", "FAMILY PHYSICIAN", "FAMILY DOCTOR"]),
    (
        "nurse",
        &[
            "RN",
            "REGISTERED NURSE",
            "LPN",
            "LVN",
            "LICENSED PRACTICAL NURSE",
            "LICENSED VOCATIONAL NURSE",
            "NURSE",
            "STAFF NURSE",
            "BEDSIDE NURSE",
            "PRIMARY NURSE",
            "PRIMARY RN",
            "ASSOCIATE NURSE",
            "NUR",
            "NURSING",
        ],
    ),
    ("charge nurse", &["CHARGE NURSE", "CHARGE RN", "CRN"]),
    (
        "aide",
        &[
            "CNA",
            "PCA",
            "PCT",
            "NA",
            "CERTIFIED NURSING ASSISTANT",
            "NURSING ASSISTANT",
            "NURSE AIDE",
            "NURSING AIDE",
            "PATIENT CARE ASSISTANT",
            "PATIENT CARE TECHNICIAN",
            "PATIENT CARE TECH",
            "AIDE",
            "TECH",
            "HCA",
        ],
    ),
    ("nurse practitioner", &["NP", "ARNP", "APRN", "CRNP", "NURSE PRACTITIONER", "CNS", "APP", "ADVANCED PRACTICE PROVIDER"]),
    ("physician assistant", &["PA", "PA-C", "PAC", "PHYSICIAN ASSISTANT"]),
    (
        "physician",
        &[
            "MD",
            "DO",
            "PHYSICIAN",
            "DOCTOR",
            "COVERING PHYSICIAN",
            "COVERING PROVIDER",
            "COVERING",
            "ON CALL PHYSICIAN",
            "ROUNDING PROVIDER",
            "PROVIDER",
            "TREATING PHYSICIAN",
            "TREATING PROVIDER",
        ],
    ),
    ("hospitalist", &["HOSPITALIST"]),
    ("intensivist", &["INTENSIVIST"]),
    ("resident", &["RESIDENT", "RES", "RESIDENT PHYSICIAN", "SENIOR RESIDENT", "JUNIOR RESIDENT", "INTERN", "HOUSE OFFICER"]),
    ("fellow", &["FELLOW"]),
    ("medical student", &["MS", "MEDICAL STUDENT"]),
    ("surgeon", &["SURGEON", "PRIMARY SURGEON", "ASSISTANT SURGEON", "SURG", "OPERATING SURGEON"]),
    ("anesthesiologist", &["ANESTHESIOLOGIST", "ANESTHESIOLO", "ANESTHESIA", "ANAESTHETIST", "ANESTH", "CRNA"]),
    ("midwife", &["MIDWIFE", "CNM", "NURSE MIDWIFE"]),
    ("pharmacist", &["PHARMD", "RPH", "PHARMACIST", "PHARM", "CLINICAL PHARMACIST"]),
    ("physical therapist", &["PT", "DPT", "PTA", "PHYSICAL THERAPIST", "PHYSICAL THERAPY", "PHYSIOTHERAPIST"]),
    ("occupational therapist", &["OT", "OTR", "COTA", "OCCUPATIONAL THERAPIST", "OCCUPATIONAL THERAPY"]),
    ("respiratory therapist", &["RRT", "CRT", "RCP", "RESPIRATORY THERAPIST", "RESPIRATORY THERAPY", "RESP THERAPIST", "RESPIRATORY"]),
    ("speech therapist", &["SLP", "SPEECH THERAPIST", "SPEECH THERAPY", "SPEECH LANGUAGE PATHOLOGIST", "SPEECH PATHOLOGIST"]),
    ("dietitian", &["RD", "RDN", "DIETITIAN", "DIETICIAN", "NUTRITIONIST"]),
    ("case manager", &["CM", "CASE MANAGER", "CASE MGR", "CARE MANAGER", "CARE COORDINATOR", "RN CASE MANAGER", "UTILIZATION REVIEW"]),
    ("social worker", &["SW", "LCSW", "MSW", "LSW", "SOCIAL WORKER", "SOCIAL WORK"]),
    ("chaplain", &["CHAPLAIN", "PASTORAL CARE"]),
    ("wound care", &["WOCN", "WOUND CARE", "WOUND CARE NURSE"]),
    ("psychologist", &["PSYCHOLOGIST"]),
    ("interpreter", &["INTERPRETER"]),
];

/// The role of a code, by the feed's map and then by the built-in one; `None` when neither has it.
pub(crate) fn role(profile: &Profile, code: &str, text: &str) -> Option<Role> {
    let said = [upper(code), upper(text)];
    let said = || said.iter().filter(|word| !word.is_empty());
    said()
        .find_map(|word| profile.role_map.get(word.as_str()))
        .cloned()
        .or_else(|| said().find_map(|word| ROLES.iter().find(|(_, words)| words.contains(&word.as_str())).map(|(role, _)| Role::from(*role))))
}

/// What a restriction code asks for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Asked {
    /// The level.
    pub(crate) level: Confidentiality,
    /// The place is not shown.
    pub(crate) hides_place: bool,
    /// The patient is staff.
    pub(crate) employee: bool,
    /// A substance use disorder program is involved.
    pub(crate) part2: bool,
    /// The code is in no map, and counts as restricted.
    pub(crate) unknown: bool,
}

impl Asked {
    const fn level(level: Confidentiality) -> Self {
        Self { level, hides_place: false, employee: false, part2: false, unknown: false }
    }

    /// The stricter of both in everything.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            level: self.level.max(other.level),
            hides_place: self.hides_place || other.hides_place,
            employee: self.employee || other.employee,
            part2: self.part2 || other.part2,
            unknown: self.unknown || other.unknown,
        }
    }
}

/// PV1-16: what an indicator asks for; `None` when it says that the patient is no VIP.
pub(crate) fn vip(profile: &Profile, code: &str) -> Option<Asked> {
    let code = upper(code);
    if let Some(level) = profile.vip_map.get(code.as_str()) {
        return (*level > Confidentiality::Normal).then(|| Asked { employee: is_employee(&code), ..Asked::level(*level) });
    }
    match code.as_str() {
        "N" | "0" | "NO" | "F" | "FALSE" | "NONE" | "NOT VIP" | "NONVIP" => None,
        "Y" | "1" | "YES" | "T" | "TRUE" | "V" | "VIP" => Some(Asked::level(Confidentiality::Restricted)),
        _ if is_employee(&code) => Some(Asked { employee: true, ..Asked::level(Confidentiality::Restricted) }),
        _ => Some(Asked { unknown: true, ..Asked::level(Confidentiality::Restricted) }),
    }
}

fn is_employee(code: &str) -> bool {
    matches!(code, "EMP" | "EMPLOYEE")
}

/// ARV-3 and ARV-4: what a restriction value or its reason asks for.
pub(crate) fn restriction(profile: &Profile, code: &str) -> Asked {
    let code = upper(code);
    let mut asked = match code.as_str() {
        "NO" => Asked::default(),
        "LOC" | "PATLOC" => Asked { hides_place: true, ..Asked::default() },
        "PSY" | "DRG" | "SMD" | "V" | "HIPAAPSYNOTES" | "PSYTHPN" => Asked::level(Confidentiality::VeryRestricted),
        "42CFRPART2" | "42CFRPART2CD" | "ETH" | "SUD" | "OPIOIDUD" | "ETHUD" => {
            Asked { part2: true, ..Asked::level(Confidentiality::VeryRestricted) }
        }
        "EMP" | "UWM" => Asked { employee: code == "EMP", ..Asked::level(Confidentiality::Restricted) },
        "ALL" | "DEM" | "PID-7" | "PID-17" | "HIV" | "STD" | "AID" | "OO" | "OI" | "OPTOUT" | "HIPAASELFPAY" | "TITLE38SECTION7332" | "R" | "VIP"
        | "MH" | "BH" | "SDV" | "SEX" | "ADOL" | "CEL" | "TBOO" | "DIA" | "PHY" | "PAT" => Asked::level(Confidentiality::Restricted),
        _ => Asked { unknown: true, ..Asked::level(Confidentiality::Restricted) },
    };
    if let Some(level) = profile.vip_map.get(code.as_str()) {
        asked = Asked { level: *level, unknown: false, ..asked };
    }
    asked
}

/// MSH-26 and ARV-7: what a security classification asks for; `None` when it is in no table.
pub(crate) fn classification(code: &str) -> Option<Confidentiality> {
    match upper(code).as_str() {
        "U" | "L" | "M" | "N" => Some(Confidentiality::Normal),
        "R" => Some(Confidentiality::Restricted),
        "V" => Some(Confidentiality::VeryRestricted),
        _ => None,
    }
}

/// PID-8: words reduced to their letter; `None` for what is no letter of the table.
pub(crate) fn sex(code: &str) -> Option<&'static str> {
    Some(match upper(code).as_str() {
        "M" | "MALE" | "MAN" | "BOY" => "M",
        "F" | "FEMALE" | "WOMAN" | "GIRL" => "F",
        "O" | "OTHER" => "O",
        "A" | "AMBIGUOUS" => "A",
        "U" | "UNDIFFERENTIATED" | "INDETERMINATE" => "U",
        "N" | "NOT APPLICABLE" => "N",
        "X" | "NON-BINARY" | "NONBINARY" => "X",
        _ => return None,
    })
}

/// A flag of HL7 table 0136, and what is sent in its place.
pub(crate) fn yes_or_no(code: &str) -> Option<bool> {
    match upper(code).as_str() {
        "Y" | "YES" | "1" | "T" | "TRUE" => Some(true),
        "N" | "NO" | "0" | "F" | "FALSE" => Some(false),
        _ => None,
    }
}

/// Trimmed, in upper case, inner white space reduced to one blank.
pub(crate) fn upper(text: &str) -> CompactString {
    let mut out = CompactString::default();
    for word in text.split_whitespace() {
        if !out.is_empty() {
            out.push(' ');
        }
        capitals(word, &mut out);
    }
    out
}

/// Adds a text in capitals.
pub(crate) fn capitals(text: &str, out: &mut CompactString) {
    if text.bytes().any(|byte| byte.is_ascii_lowercase() || !byte.is_ascii()) {
        out.extend(text.chars().flat_map(char::to_uppercase));
    } else {
        out.push_str(text);
    }
}

#[cfg(test)]
mod tests {
    use super::CLASSES;
    use super::ROLES;
    use super::class;
    use super::restriction;
    use super::role;
    use super::vip;
    use crate::adt::profile::Profile;
    use crate::care::fact::Confidentiality;
    use crate::ids::PatientClass;
    use crate::ids::Role;

    #[test]
    fn no_word_stands_for_two_things() {
        for table in [CLASSES, ROLES] {
            let mut words: Vec<&str> = table.iter().flat_map(|(_, words)| words.iter().copied()).collect();
            let n_words = words.len();
            words.sort_unstable();
            words.dedup();
            assert_eq!(words.len(), n_words);
        }
    }

    #[test]
    fn classes_are_read_from_codes_and_words_and_by_the_feeds_own_map() {
        let mut profile = Profile::default();
        for (said, want) in [("I", "I"), ("Inpatient", "I"), ("am  admit", "I"), ("EMERGENCY", "E"), ("OBS", "O"), ("SDC", "O"), ("B", "B")] {
            assert_eq!(class(&profile, said), Some(PatientClass::from(want)), "{said}");
        }
        assert_eq!(class(&profile, "ff"), None);
        profile.class_map.insert("OBS".to_owned(), PatientClass::from("I"));
        assert_eq!(class(&profile, "obs"), Some(PatientClass::from("I")));
    }

    #[test]
    fn the_standards_code_wins_over_a_local_reading_of_it() {
        let profile = Profile::default();
        assert_eq!(role(&profile, "RT", ""), Some(Role::from("referred to")));
        assert_eq!(role(&profile, "rn", ""), Some(Role::from("nurse")));
        assert_eq!(role(&profile, "X17", "Case Manager"), Some(Role::from("case manager")));
        assert_eq!(role(&profile, "X17", ""), None);
    }

    #[test]
    fn unknown_restriction_codes_restrict() {
        let profile = Profile::default();
        assert_eq!(vip(&profile, "N"), None);
        assert!(vip(&profile, "VI").is_some_and(|asked| asked.unknown && asked.level == Confidentiality::Restricted));
        assert!(restriction(&profile, "XQ").unknown);
        assert_eq!(restriction(&profile, "HIV").level, Confidentiality::Restricted);
        assert!(restriction(&profile, "42CFRPart2").part2);
        assert!(restriction(&profile, "LOC").hides_place);
    }

    #[test]
    fn a_sites_own_level_overrules_the_table() {
        let mut profile = Profile::default();
        profile.vip_map.insert("HIV".to_owned(), Confidentiality::VeryRestricted);
        assert_eq!(restriction(&profile, "hiv").level, Confidentiality::VeryRestricted);
        profile.vip_map.insert("E".to_owned(), Confidentiality::Normal);
        assert_eq!(vip(&profile, "E"), None);
    }
}
