//! What to do about a message that has no effect, waits or is refused, and what a notice means: in words, by the fixed word that the daemon gives.
//!
//! Only words that stand in the code can come in here; nothing of a message does.

/// Why, and what to do about it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Advice {
    /// What the word means.
    pub(super) why: &'static str,
    /// What to do; empty where nothing is to be done.
    pub(super) action: &'static str,
}

const fn advice(why: &'static str, action: &'static str) -> Advice {
    Advice { why, action }
}

/// The advice on a reason.
pub(super) fn on(reason: &str) -> Option<Advice> {
    Some(match reason {
        // Quarantined.
        "no_visit" => advice(
            "PV1-19, PID-18 and PV1-50 name no visit, and the patient has no single open visit that it could mean",
            "have the sender fill one of them, or name the field that it fills under `visit_id` of the feed",
        ),
        "several_visits" => advice(
            "PID-18 names an account with several open visits, and PV1-19 does not say which one is meant",
            "have the sender fill PV1-19; or, where an account is a visit at this site, put PID-18 first in `visit_id` of the feed",
        ),
        "no_patient_id" => advice(
            "no repetition of PID-3 has an identifier that can be used",
            "have the sender fill PID-3.1; one that is cut short or a word such as UNKNOWN is no identifier",
        ),
        "nothing_to_relate" => advice(
            "a merge, move or change without an old and a new identifier at the level that the event is about",
            "have the sender fill MRG-1, MRG-3 or MRG-5 and its counterpart in PID-3, PID-18 or PV1-19, as the event asks for",
        ),
        "identity_conflict" => advice(
            "the visit is known under another patient, and no merge or move explains this one",
            "nothing if a merge is still to come: it then applies by itself; else find out whose visit it is, and have it corrected at the sender",
        ),
        "possible_unmerge" => advice(
            "the patient number was merged into another, and comes again with a name and birth date of its own",
            "find out whether the merge was an error, and have it corrected at the sender",
        ),
        "delete_request" => advice("it asks that a record be deleted, which no message alone can do", "decide by the retention rules of the site"),
        "no_usable_record" => advice(
            "a master file or staff message of which no record names anybody or any unit",
            "have the sender fill MFE-4 or STF-1 and STF-2, or LOC-1",
        ),
        "names_too_many" => advice(
            "it names more than a thousand people or identifiers, which no stay has: taking it would hold up everybody else's messages",
            "look at how the sender repeats PID-3, PV1-9 or ROL, and have it send each of them once",
        ),
        "unreadable_identifier" => advice(
            "a number of the patient, the visit or the account, or its authority, has characters that the character set does not have or that stand for nothing: two such numbers could not be told apart",
            "set `charset` of the feed to what the sender really writes, or have MSH-18 say it, then retry; or have the number corrected at the sender",
        ),
        "internal_fault" => advice("wardroom failed on it: this is a bug", "report it with a message of the same shape"),
        // Rejected.
        "not_hl7" => advice(
            "it does not begin with an MSH segment",
            "look at what the sender writes before MSH, and at its character set (UTF-16 is not taken)",
        ),
        "no_control_id" => advice("MSH-10 is empty, so that no answer could name it", "have the sender fill MSH-10"),
        "processing_id" => advice(
            "MSH-11 is not among the processing ids of the feed",
            "a test message belongs on a test feed; to take it here add it to `processing_ids` of the feed",
        ),
        "version" => advice("MSH-12 is no version 2 of HL7", "have the sender fill MSH-12 with 2.x, or leave it empty"),
        "unsupported_event" => {
            advice("wardroom has no use for the event, and the feed is strict", "stop the sender from sending it, or set `unsupported = \"accept\"`")
        }
        // Rejected when strict, else no-op.
        "unsupported_type" => advice("messages of this type say nothing about patients or staff", ""),
        // No-op.
        "unknown_event" => advice("the event is in no table of HL7", "if the site means something by it, map it under `event_map` of the feed"),
        "bed_status" => advice("the state of a bed says nothing about a patient", ""),
        "allergy" => advice("allergies are no matter of rooms", ""),
        "other_master_file" => advice("a master file of something else than staff and units", ""),
        "certificate" => advice("certificates make nobody a member", ""),
        "self_merge" => advice("both sides of the merge are the same identifier", ""),
        "history" => advice("it is older than the late window and changes nothing any more", ""),
        _ => return None,
    })
}

/// What a notice means.
pub(super) fn on_notice(code: &str) -> &'static str {
    match code {
        "unknown_charset" => "is in no table and counts as empty",
        "bad_bytes" => "bytes that the character set does not have were replaced",
        "continuation_line" => "a line that is no segment was taken as part of the field before",
        "unreadable_field" => "could not be read and was ignored",
        "truncated_value" => "was cut short by its sender and is not used as an identifier",
        "clamped_clock" => "is ahead of arrival and counts as the time of arrival",
        "unusable_clock" => "orders nothing: a date alone, older than 1990, or no time",
        "unknown_class" => "is in no map; taken as inpatient when admitted, else as outpatient: see `class_map`",
        "unknown_restriction" => "is in no map; taken as restricted: see `vip_map`",
        "role_without_person" => "a role without a person was ignored",
        "unmapped_role" => "a role that is in no map makes nobody a member: see `role_map`",
        "unknown_trigger" => "wardroom does not know the event",
        "unsupported_type" => "wardroom does not take messages of this type",
        "no_evn" => "there is no EVN; MSH-7 orders the message",
        "trigger_mismatch" => "names another event than MSH-9.2, which counts",
        "account_only" => "names the visit; it is taken for the account's only visit",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::on;
    use crate::adt::NoOpReason;
    use crate::adt::QuarantineReason;

    #[test]
    fn every_reason_of_the_reader_has_words() {
        let no_op = [NoOpReason::BedStatus, NoOpReason::Allergy, NoOpReason::UnknownEvent, NoOpReason::UnsupportedType, NoOpReason::SelfMerge]
            .map(NoOpReason::as_str);
        let waits = [QuarantineReason::NoPatientId, QuarantineReason::NothingToRelate].map(QuarantineReason::as_str);
        for reason in no_op.into_iter().chain(waits) {
            assert!(on(reason).is_some(), "{reason}");
        }
    }
}
