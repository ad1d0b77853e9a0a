//! The store, opened beside a daemon that may have it, for commands that read; and what their exit codes are when it cannot be opened or read.
//!
//! Nothing but audit rows is ever written here: whoever changes something goes through `orders`.

use std::process::ExitCode;

use crate::cli::console::Console;
use crate::cli::setting::Setting;
use crate::store;
use crate::store::Store;
use crate::store::StoreOptions;
use crate::store::error::StoreError;

/// Opens the configured store beside whoever has it; what is wrong comes with its exit code.
pub(super) async fn open(setting: &Setting) -> Result<Store, (u8, anyhow::Error)> {
    Store::open_beside(options(setting)?).await.map_err(not_open)
}

/// As [`open`], for a command that writes nothing at all.
pub(super) async fn open_read_only(setting: &Setting) -> Result<Store, (u8, anyhow::Error)> {
    Store::open_read_only(options(setting)?).await.map_err(not_open)
}

fn options(setting: &Setting) -> Result<StoreOptions, (u8, anyhow::Error)> {
    is_there(setting)?;
    setting.store(store::BESIDE_LANE, false).map_err(|error| (64, anyhow::Error::new(error)))
}

/// Whether there is a store to open; what is wrong comes with its exit code.
pub(super) fn is_there(setting: &Setting) -> Result<(), (u8, anyhow::Error)> {
    match store::exists(&setting.config.store.url.to_secret()) {
        Ok(true) => Ok(()),
        Ok(false) => Err((69, anyhow::Error::new(StoreError::NotMigrated))),
        Err(error) => Err((64, anyhow::Error::new(error))),
    }
}

/// What a store that does not open is to the command, with its exit code.
pub(super) fn not_open(error: StoreError) -> (u8, anyhow::Error) {
    let code = if matches!(error, StoreError::Url | StoreError::WrongKey | StoreError::NotAStore) { 64 } else { 69 };
    (code, anyhow::Error::new(error).context("cannot open the store"))
}

/// Closes the store, and says what a command has done with it; a store that could not be read is not reachable.
pub(super) async fn close(store: Store, done: anyhow::Result<ExitCode>, console: &Console) -> anyhow::Result<ExitCode> {
    store.close().await;
    match done {
        Err(error) if error.downcast_ref::<StoreError>().is_some() => console.fail(69, &error),
        done => done,
    }
}
