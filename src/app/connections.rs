//! The thread that connections are served on: one for all of them, with a runtime of its own.
//!
//! A commit answers many connections at once. Among several threads each of those answers wakes another thread, and on two processors that costs more than
//! writing it; on one thread they go out one after another. What takes long, planning and committing, is on other threads. It knows nothing of what is
//! said on a connection.

use std::io;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::mllp::listener::ListenerOptions;
use crate::mllp::listener::serve;
use crate::mllp::session::Answerer;

/// The way to the thread.
pub(super) struct Connections {
    runtime: Handle,
    tracker: TaskTracker,
    stop_listening: CancellationToken,
}

impl Connections {
    /// Starts the thread. It ends with `stop`, and so does every connection that is still there; `tracker` knows those.
    pub(super) fn start(tracker: TaskTracker, stop_listening: CancellationToken, stop: CancellationToken) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        std::thread::Builder::new().name("connections".to_owned()).spawn(move || runtime.block_on(stop.cancelled_owned()))?;
        Ok(Self { runtime: handle, tracker, stop_listening })
    }

    /// The runtime of the thread.
    pub(super) fn runtime(&self) -> Handle {
        self.runtime.clone()
    }

    /// Serves what comes to a listener until listening is stopped.
    pub(super) fn serve(&self, listener: TcpListener, options: ListenerOptions, answerer: Arc<impl Answerer>) -> io::Result<()> {
        // A socket belongs to the runtime in which it was made.
        let listener = listener.into_std()?;
        let listener = {
            let _inside = self.runtime.enter();
            TcpListener::from_std(listener)?
        };
        self.tracker.spawn_on(serve(listener, options, answerer, self.stop_listening.clone(), self.tracker.clone()), &self.runtime);
        Ok(())
    }
}
