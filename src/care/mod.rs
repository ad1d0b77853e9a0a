//! The core: facts are folded into a visit, a visit is planned into a room, the difference is what is published.
//!
//! Everything here is a plain function of its arguments. It never awaits, never asks for the time, never does I/O, never logs, and knows no HL7.

pub mod change;
pub mod fact;
pub mod notice;
mod runs;
pub mod onward;
mod owner;
pub mod account;
pub mod identity;
pub mod visit;
pub mod policy;
pub mod roster;
mod team;
pub mod grant;
pub mod plan;
pub mod room;
pub mod brake;
pub mod diff;
