//! The thread that commits, one and the same for all batches: what the writer keeps in memory stays with it, where of a pool of threads each would keep its
//! own.
//!
//! It decides nothing about what is done, and ends with the last handle.

use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::sync::mpsc;

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::store::error::StoreError;

type Work = Box<dyn FnOnce() + Send>;

/// The way to the thread.
#[derive(Debug)]
pub(in crate::store) struct Hand {
    works: mpsc::Sender<Work>,
}

impl Hand {
    /// Starts the thread, inside the runtime of whoever starts it.
    pub(super) fn start() -> Result<Self, StoreError> {
        let (works, queue) = mpsc::channel::<Work>();
        let runtime = Handle::try_current().map_err(|_| StoreError::Closed)?;
        let serve = move || {
            let _inside = runtime.enter();
            for work in queue {
                // Whoever waits for it learns that it came to no end.
                drop(catch_unwind(AssertUnwindSafe(work)));
            }
        };
        std::thread::Builder::new().name("commits".to_owned()).spawn(serve).map_err(|_| StoreError::Closed)?;
        Ok(Self { works })
    }

    /// Has work done behind all that was asked before; what is given back is broken where that ended by a fault.
    pub(in crate::store) fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> oneshot::Receiver<T> {
        let (done, outcome) = oneshot::channel();
        let work = move || {
            // Whoever asked need not wait for it.
            drop(done.send(work()));
        };
        // Without the thread the receiver is broken at once.
        drop(self.works.send(Box::new(work)));
        outcome
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Handle;

    use super::Hand;

    #[tokio::test]
    async fn works_are_done_in_order_also_behind_one_that_ends_by_a_fault() {
        let hand = Hand::start().unwrap();
        let (first, second) = (hand.run(|| 1), hand.run(|| -> i32 { panic!("a fault") }));
        let third = hand.run(|| std::thread::current().name().map(str::to_owned));
        let fourth = hand.run(|| Handle::try_current().is_ok());
        assert_eq!(first.await, Ok(1));
        assert!(second.await.is_err());
        assert_eq!(third.await.unwrap().as_deref(), Some("commits"));
        assert!(fourth.await.unwrap(), "a task can be begun from there");
    }
}
