//! cli

pub mod check;
pub mod messages;
pub mod replay;
pub mod schema;
