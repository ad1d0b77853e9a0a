//! The whole way of a message: read, routed, folded and planned; and what is sent again is known again.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use wardroom::cli::setting::Setting;
use wardroom::cli::setting::feed;
use wardroom::config::Config;
use wardroom::config::environment::Environment;
use wardroom::intake::rehearsal::Rehearsal;
use wardroom::store::rows::Disposition;
use wardroom::time::Timestamp;

thread_local! {
    static SETTING: Setting = Setting { config: Config::load(None, &Environment::default()).expect("the built-in defaults are right") };
}

fuzz_target!(|frame: &[u8]| {
    SETTING.with(|setting| {
        let roster = setting.roster().expect("without files there is nothing to read");
        let now = Timestamp::from_micros(1_795_000_000_000_000);
        let mut rehearsal = Rehearsal::new(feed(&setting.config.feeds[0]), setting.policy(), roster, now);
        let first: Vec<Disposition> = rehearsal.send(&Bytes::copy_from_slice(frame)).iter().map(|one| one.verdict.disposition).collect();
        let again: Vec<Disposition> = rehearsal.send(&Bytes::copy_from_slice(frame)).iter().map(|one| one.verdict.disposition).collect();
        assert_eq!(first.len(), again.len());
        for (first, again) in first.iter().zip(&again) {
            assert!(*first == Disposition::Rejected || *again == Disposition::Duplicate, "{first:?}, then {again:?}");
        }
    });
});
