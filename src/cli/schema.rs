//! `wardroom schema`: the JSON Schemas of what people and programs write and read.

use std::io::Write as _;
use std::process::ExitCode;

use crate::cli::console::OutputError;

/// Print a JSON Schema
#[derive(Clone, Debug, Default, clap::Args)]
pub struct SchemaArgs {
    /// Which; without it, the names of all
    pub name: Option<String>,
}

/// What makes a schema.
type Make = fn() -> serde_json::Value;

/// Every schema, by name.
const SCHEMAS: [(&str, Make); 3] =
    [("config", crate::config::schema), ("journey", crate::cli::verify::schema), ("audit-row", crate::cli::audit::export::schema)];

/// The names of all schemas.
pub fn names() -> impl Iterator<Item = &'static str> {
    SCHEMAS.iter().map(|(name, _)| *name).chain(crate::outbox::schema::names())
}

/// The schema of this name.
pub fn schema(name: &str) -> Option<serde_json::Value> {
    SCHEMAS.iter().find(|(known, _)| *known == name).map(|(_, make)| make()).or_else(|| crate::outbox::schema::schema(name))
}

/// A schema as it stands in a file and is printed.
///
/// # Errors
/// When it cannot be written as JSON.
pub fn text(schema: &serde_json::Value) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(schema)? + "\n")
}

/// Prints one schema, or the names of all.
///
/// # Errors
/// When standard output cannot be written.
pub fn run(name: Option<&str>, json: bool) -> anyhow::Result<ExitCode> {
    let known: Vec<&str> = names().collect();
    let text = match name.map(schema) {
        None if json => text(&serde_json::json!(known))?,
        None => known.join("\n") + "\n",
        Some(Some(schema)) => text(&schema)?,
        Some(None) => {
            writeln!(std::io::stderr(), "error: there is no schema of this name\n  hint: there are {}", known.join(", "))?;
            return Ok(ExitCode::from(64));
        }
    };
    std::io::stdout().write_all(text.as_bytes()).map_err(OutputError::from)?;
    Ok(ExitCode::SUCCESS)
}
