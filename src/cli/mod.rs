//! cli

pub mod messages;
pub mod replay;
