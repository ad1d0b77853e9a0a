//! The catalogue of events, in words: what each event of the trigger table means and what it does to rooms (HL7 table 0003).
//!
//! It decides nothing. `explain` and the documentation speak with it; a test holds it against the table.

use crate::ids::TriggerEvent;

/// One event in words.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// MSH-9.2.
    pub code: &'static str,
    /// What it reports.
    pub meaning: &'static str,
    /// What it does to a known visit, in terms of rooms.
    pub effect: &'static str,
    /// What it does when wardroom never heard of the visit or number.
    pub unknown: &'static str,
}

/// The words of an event that the trigger table has.
pub fn event(trigger: TriggerEvent) -> Option<&'static Event> {
    EVENTS.iter().find(|event| event.code == trigger.as_str())
}

/// Every event of the trigger table, in its order.
pub const EVENTS: [Event; 58] = [
    Event {
        code: "A01",
        meaning: "Admit a patient",
        effect: "Opens the room, or makes an expected one active; the unit's team and the named clinicians join",
        unknown: BEGINS,
    },
    Event {
        code: "A02",
        meaning: "Transfer a patient",
        effect: "The new unit's team joins at once, the old one leaves after the handover; another bed of the same unit is a new label only",
        unknown: "A visit that nobody heard of begins with it, at the new place",
    },
    Event {
        code: "A03",
        meaning: "Discharge a patient or end a visit",
        effect: "The room closes after the discharge grace; until then its members stay",
        unknown: "Recorded as ended; no room",
    },
    Event { code: "A04", meaning: "Register a patient", effect: "As A01, where the class is one that gets a room", unknown: BEGINS },
    Event { code: "A05", meaning: "Pre-admit a patient", effect: "The room is expected: nobody is in it and it is not published", unknown: BEGINS },
    Event {
        code: "A06",
        meaning: "Change an outpatient to an inpatient",
        effect: "The same room goes on with the new class and place, or opens if the class had none; an old account number in MRG-3 is the account that this visit alone has left, not a merge",
        unknown: BEGINS,
    },
    Event {
        code: "A07",
        meaning: "Change an inpatient to an outpatient",
        effect: "The room goes on; its class is updated; MRG-3 as in A06",
        unknown: "A visit begins with it, with a room only if its class gets one",
    },
    Event {
        code: "A08",
        meaning: "Update patient information",
        effect: "Whatever differs is updated: place, clinicians, class, name, level. It opens no room of a known visit and closes none, except that a PV1-45 in it ends the stay",
        unknown: "A patient who is here is taken over (go-live in the middle of a stay)",
    },
    Event {
        code: "A09",
        meaning: "Patient departing (tracking)",
        effect: "`whereabouts` names the temporary place; bed and team stay",
        unknown: RECORDED,
    },
    Event { code: "A10", meaning: "Patient arriving (tracking)", effect: "As A09", unknown: RECORDED },
    Event {
        code: "A11",
        meaning: "Cancel admit",
        effect: "The room is cancelled at once, without grace; a visit that was expected or an outpatient's before is that again",
        unknown: CANCEL_REMEMBERED,
    },
    Event {
        code: "A12",
        meaning: "Cancel transfer",
        effect: "The patient is back at PV1-3, or where the transfer came from; whoever was on the way out stays",
        unknown: CANCEL_REMEMBERED,
    },
    Event {
        code: "A13",
        meaning: "Cancel discharge",
        effect: "The room is open again, at PV1-3 if that is given, else at the last known place",
        unknown: "Without a visit number it goes to the discharge it matches; otherwise the visit is taken over as open",
    },
    Event { code: "A14", meaning: "Pending admit", effect: "As A05", unknown: BEGINS },
    Event { code: "A15", meaning: "Pending transfer", effect: "Flag `pending_transfer`; nobody moves", unknown: RECORDED },
    Event { code: "A16", meaning: "Pending discharge", effect: "Flag `pending_discharge`; nobody leaves", unknown: RECORDED },
    Event { code: "A17", meaning: "Swap patients", effect: "Both patients move in one step, as with two A02", unknown: BEGINS },
    Event {
        code: "A18",
        meaning: "Merge patient information",
        effect: "The level is that of the numbers which differ: patient (as A40), account (as A41) or visit (as A42)",
        unknown: NUMBER_REMEMBERED,
    },
    Event { code: "A20", meaning: "Bed status update", effect: "None", unknown: "None" },
    Event {
        code: "A21",
        meaning: "Leave of absence begins",
        effect: "The room is `on_leave`; the bed and the team stay",
        unknown: "A visit that nobody heard of begins with it, on leave",
    },
    Event { code: "A22", meaning: "Return from a leave of absence", effect: "The room is active again", unknown: BEGINS },
    Event {
        code: "A23",
        meaning: "Delete a visit record",
        effect: "None: the message waits for a person; nothing is deleted on a message alone",
        unknown: "None",
    },
    Event {
        code: "A24",
        meaning: "Link patient records",
        effect: "None: the records stay two and so do their rooms",
        unknown: "The link is remembered",
    },
    Event { code: "A25", meaning: "Cancel pending discharge", effect: "The flag goes", unknown: CANCEL_REMEMBERED },
    Event { code: "A26", meaning: "Cancel pending transfer", effect: "The flag goes", unknown: CANCEL_REMEMBERED },
    Event {
        code: "A27",
        meaning: "Cancel pending admit",
        effect: "The expected room is cancelled; ignored once the patient is admitted",
        unknown: CANCEL_REMEMBERED,
    },
    Event {
        code: "A28",
        meaning: "Add person information",
        effect: "No room; number, name and restrictions of the person are kept",
        unknown: "The person is recorded",
    },
    Event { code: "A29", meaning: "Delete person information", effect: "None: with an open room the message waits for a person", unknown: "None" },
    Event { code: "A30", meaning: "Merge person information", effect: PATIENTS_MERGED, unknown: NUMBER_REMEMBERED },
    Event {
        code: "A31",
        meaning: "Update person information",
        effect: "Name and restrictions are updated in all open rooms of the person; its PV1 is ignored",
        unknown: "The person is recorded; no room",
    },
    Event { code: "A32", meaning: "Cancel patient arriving", effect: "`whereabouts` is as the message says", unknown: CANCEL_REMEMBERED },
    Event { code: "A33", meaning: "Cancel patient departing", effect: "As A32", unknown: CANCEL_REMEMBERED },
    Event { code: "A34", meaning: "Merge patient, identifier only", effect: PATIENTS_MERGED, unknown: NUMBER_REMEMBERED },
    Event { code: "A35", meaning: "Merge account, identifier only", effect: "As A41", unknown: NUMBER_REMEMBERED },
    Event {
        code: "A36",
        meaning: "Merge patient and account",
        effect: "As A40; visits under the old account go on under the new one",
        unknown: NUMBER_REMEMBERED,
    },
    Event { code: "A37", meaning: "Unlink patient records", effect: "None", unknown: "The unlinking is remembered" },
    Event {
        code: "A38",
        meaning: "Cancel pre-admit",
        effect: "The expected room is cancelled; ignored once the patient is admitted",
        unknown: CANCEL_REMEMBERED,
    },
    Event { code: "A39", meaning: "Merge person, external identifier", effect: PATIENTS_MERGED, unknown: NUMBER_REMEMBERED },
    Event { code: "A40", meaning: "Merge patient", effect: PATIENTS_MERGED, unknown: NUMBER_REMEMBERED },
    Event {
        code: "A41",
        meaning: "Merge account",
        effect: "Where the account names the visit: as A42. Where visits lie below it: they go on under the new account",
        unknown: NUMBER_REMEMBERED,
    },
    Event {
        code: "A42",
        meaning: "Merge visit",
        effect: "The survivor's room goes on and takes in the other's named clinicians; the other room is `merged` and leads to it",
        unknown: NUMBER_REMEMBERED,
    },
    Event {
        code: "A43",
        meaning: "Move patient information to another person",
        effect: "None: the record keeps its number and its rooms",
        unknown: "The numbers are remembered",
    },
    Event {
        code: "A44",
        meaning: "Move account to another patient",
        effect: "Every room that is of the account then becomes the other patient's (`room.rehomed`): name and level are worked out anew and grants end",
        unknown: "The move is remembered",
    },
    Event {
        code: "A45",
        meaning: "Move visit to another account or patient",
        effect: "Same patient: the visit has another account. Another patient: as A44, of this visit alone",
        unknown: "The move is remembered",
    },
    Event {
        code: "A46",
        meaning: "Change the external patient identifier",
        effect: "The rooms stay as they are; either number finds them",
        unknown: NUMBER_REMEMBERED,
    },
    Event {
        code: "A47",
        meaning: "Change the patient identifier",
        effect: "The rooms go on and show the new number; the old one still finds them",
        unknown: NUMBER_REMEMBERED,
    },
    Event {
        code: "A48",
        meaning: "Change the alternate patient identifier",
        effect: "The rooms stay as they are; either number finds them",
        unknown: NUMBER_REMEMBERED,
    },
    Event {
        code: "A49",
        meaning: "Change the account number",
        effect: "The rooms go on under the new account; the old one still finds them",
        unknown: NUMBER_REMEMBERED,
    },
    Event {
        code: "A50",
        meaning: "Change the visit number",
        effect: "The room goes on under the new number; the old one still finds it",
        unknown: NUMBER_REMEMBERED,
    },
    Event { code: "A51", meaning: "Change the alternate visit number", effect: "As A50", unknown: NUMBER_REMEMBERED },
    Event { code: "A52", meaning: "Cancel leave of absence", effect: "The room is active again", unknown: CANCEL_REMEMBERED },
    Event { code: "A53", meaning: "Cancel return from leave", effect: "The room is `on_leave` again", unknown: CANCEL_REMEMBERED },
    Event {
        code: "A54",
        meaning: "Change the attending doctor",
        effect: "The new one joins, the old one leaves after the handover",
        unknown: BEGINS,
    },
    Event {
        code: "A55",
        meaning: "Cancel change of the attending doctor",
        effect: "PV1-7 names who attends: that doctor is back",
        unknown: CANCEL_REMEMBERED,
    },
    Event { code: "A60", meaning: "Update allergy information", effect: "None", unknown: "None" },
    Event {
        code: "A61",
        meaning: "Change the consulting doctors",
        effect: "PV1-9 is the whole list: who is new joins, who is no longer in it leaves",
        unknown: BEGINS,
    },
    Event {
        code: "A62",
        meaning: "Cancel change of the consulting doctors",
        effect: "PV1-9 is the whole list as it was before",
        unknown: CANCEL_REMEMBERED,
    },
    Event {
        code: "Z99",
        meaning: "Update a movement (IHE PAM)",
        effect: "A current movement: as A08. A historic one: the timeline is corrected and nobody moves",
        unknown: "As A08",
    },
];

const PATIENTS_MERGED: &str =
    "Both patients' rooms go on under the surviving number; they stay two rooms, flagged as possible duplicates where both are in one bed";
const NUMBER_REMEMBERED: &str = "The old number is remembered, so that a later message under it reaches the survivor";
const CANCEL_REMEMBERED: &str = "Remembered: when the event it cancels arrives late, it has no effect";
const BEGINS: &str = "A visit that nobody heard of begins with it";
const RECORDED: &str = "Recorded; a room opens only when another event tells of the stay";
