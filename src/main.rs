//! The `wardroom` program: arguments, runtime, command, exit code.

use std::process::ExitCode;

use clap::Parser;
use wardroom::cli::Cli;
use wardroom::cli::console::Console;

/// A message's way is thousands of short-lived values; the allocator of the platform gives their memory back to the kernel and fetches it again.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let wrong = error.use_stderr();
            // There is nobody left to tell when this fails.
            drop(error.print());
            return ExitCode::from(if wrong { 64 } else { 0 });
        }
    };
    let console = Console::of_process(false);
    // One provider for every TLS connection, chosen before anything could choose another.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        console.tell("error: another TLS provider is installed already");
        return ExitCode::from(70);
    }
    // Exporting spans needs a worker of its own, also on one core.
    let workers = std::thread::available_parallelism().map_or(2, |n| n.get().max(2));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build();
    let result = match runtime {
        Ok(runtime) => {
            let result = runtime.block_on(wardroom::cli::run(cli));
            // A read of standard input may never come back; it must not hold up the end.
            runtime.shutdown_background();
            result
        }
        Err(error) => Err(error.into()),
    };
    result.unwrap_or_else(|error| console.fail(70, &error).unwrap_or_else(|_| ExitCode::from(70)))
}
