//! The embedded defaults against the schema of the configuration.

#[test]
fn the_default_file_fits_the_schema() {
    let defaults: serde_json::Value = toml::from_str(wardroom::config::default_toml()).unwrap();
    let validator = jsonschema::validator_for(&wardroom::config::schema()).unwrap();
    assert_eq!(validator.iter_errors(&defaults).map(|error| error.to_string()).collect::<Vec<_>>(), Vec::<String>::new());
}
