//! The configuration: any text is either right or wrong in words, and never anything else.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wardroom::config::Config;
use wardroom::config::environment::Environment;

fuzz_target!(|text: &str| {
    if let Err(errors) = Config::from_text(text, None, &Environment::default()) {
        assert!(!errors.0.is_empty(), "what is wrong is said");
    }
});
