//! wardroom turns a hospital's HL7 v2 ADT feed into patient-centred care-team chat rooms.
//!
//! The modules below stand in the order of a message's way: `mllp` frames bytes, `hl7` reads a message, `adt` reads what it means as facts, `care`
//! folds facts into a visit and plans the room, `intake` commits what many connections brought in one transaction of `store`, and `outbox` carries
//! the committed changes to the backend. `phi`, `ids`, `time` and `random` are the vocabulary all of them share.

pub mod phi;
pub mod ids;
pub mod time;
pub mod random;

pub mod mllp;
pub mod hl7;
pub mod adt;
pub mod care;
pub mod directory;
pub mod intake;
pub mod store;
pub mod outbox;
pub mod wake;

pub mod app;
pub mod admin;
pub mod config;
pub mod telemetry;
pub mod cli;
