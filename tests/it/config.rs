//! The schema of the configuration as it stands in `schemas/`.

use std::path::Path;

use wardroom::cli::schema;

#[test]
fn the_schema_of_the_configuration_is_not_stale() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/config.json");
    let now = schema::text(&wardroom::config::schema()).unwrap();
    if std::env::var_os("WARDROOM_BLESS").is_some() {
        std::fs::write(&file, &now).unwrap();
    }
    let stored = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(stored == now, "schemas/config.json is stale: run the tests with WARDROOM_BLESS=1 and look at the difference");
}

#[test]
fn the_default_file_fits_the_schema() {
    let defaults: serde_json::Value = toml::from_str(wardroom::config::default_toml()).unwrap();
    let validator = jsonschema::validator_for(&wardroom::config::schema()).unwrap();
    assert_eq!(validator.iter_errors(&defaults).map(|error| error.to_string()).collect::<Vec<_>>(), Vec::<String>::new());
}
