//! MLLP: the frames in which HL7 messages travel over TCP (HL7 v3 transport specification, MLLP release 1).
//!
//! [`codec`] finds frames in bytes, [`session`] takes the frames of one connection one after another and writes the answers, [`listener`] accepts
//! connections, of which `door` lets so many in, [`tls`] builds the TLS configurations and says why a handshake failed, [`client`] is the sender
//! that `replay` uses. Nothing here looks into a message: what a frame means, and what is answered, is up to the [`session::Answerer`].

pub mod client;
pub mod codec;
mod door;
pub mod listener;
pub mod session;
pub mod stats;
pub mod tls;
mod wire;
