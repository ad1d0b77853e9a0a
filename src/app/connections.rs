//! The thread that connections are served on: one for all of them, with a runtime of its own.
//!
//! A commit answers many connections at once. Among several threads each of those answers wakes another thread, and on two processors that costs more than
//! writing it; on one thread they go out one after another. What takes long, planning and committing, is on other threads. It knows nothing of what is
//! said on a connection.

use std::io;

use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

/// Starts the thread, and says how to reach it. It ends with `stop`, and so does every connection that is still there.
pub(super) fn start(stop: CancellationToken) -> io::Result<Handle> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    std::thread::Builder::new().name("connections".to_owned()).spawn(move || runtime.block_on(stop.cancelled_owned()))?;
    Ok(handle)
}

/// The same listener, for another runtime: a socket belongs to the one in which it was made.
pub(super) fn moved_to(handle: &Handle, listener: TcpListener) -> io::Result<TcpListener> {
    let listener = listener.into_std()?;
    let _inside = handle.enter();
    TcpListener::from_std(listener)
}
