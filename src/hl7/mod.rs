//! HL7 v2: bytes to text, text to segments, fields to data types, and the acknowledgement back (HL7 v2.5.1 chapter 2).
//!
//! The way in: [`batch::split`] takes a frame apart into messages, [`charset::decode`] makes text of one, [`message::Message::parse`] indexes its
//! segments, and [`cx`], [`xcn`], [`xpn`], [`pl`] and [`ts`] read the fields that are asked for. The way back: [`ack`].
//!
//! What it never does: know what an ADT message means, decide about rooms, log, or fail because of one bad byte. The index borrows from the text
//! and decodes nothing before it is asked; hl7-parser takes apart the paths and the timestamps. No error of this module, and none of hl7-parser's
//! (they quote the message), carries any content out of it.

pub mod batch;
pub mod charset;
pub mod delimiters;
pub mod escape;
pub mod message;
pub mod segment;
pub mod field;
pub mod path;

pub mod hd;
pub mod cx;
pub mod xcn;
pub mod xpn;
pub mod pl;
pub mod ts;

pub mod ack;
mod header;
