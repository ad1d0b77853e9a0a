//! The ceilings: what the machine does when everything but one thing is left out.

use std::fs::File;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::load;
use super::load::Fared;
use super::load::Load;
use crate::hl7::ack;
use crate::hl7::ack::AckCode;
use crate::hl7::ack::AckHeader;
use crate::ids::FeedName;
use crate::mllp::codec::Frame;
use crate::mllp::listener;
use crate::mllp::listener::ListenerOptions;
use crate::mllp::session::Answer;
use crate::mllp::session::Answerer;
use crate::mllp::session::PeerInfo;
use crate::time::Clock as _;
use crate::time::SystemClock;

const SYNCS: u32 = 200;
/// A disk that syncs as fast as this every time has nothing else to do.
const CALM_MS: f64 = 10.0;
const CALM_WITHIN: Duration = Duration::from_mins(1);
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Frames, reads MSH-10, answers; keeps nothing.
struct Bare;

impl Answerer for Bare {
    async fn answer(&self, _: &PeerInfo, frame: Frame) -> Answer {
        let Frame::Message(bytes) = frame else { return Answer::Close };
        Answer::Frames(vec![ack::build(&AckHeader::recover(&bytes), AckCode::AA, None, SystemClock.now(), "1")])
    }
}

/// The same load against a receiver that keeps nothing.
pub(super) async fn bare_receiver(load: Load) -> anyhow::Result<Fared> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let to = listener.local_addr()?;
    let (stop, connections) = (CancellationToken::new(), TaskTracker::new());
    let options = ListenerOptions::new(FeedName::new("bare"));
    let serving = listener::serve(listener, options, Arc::new(Bare), stop.clone(), connections.clone());
    connections.spawn(serving);
    let fared = load::one(Load { n_turns: 1, ..load }, vec![to]).await;
    stop.cancel();
    fared
}

/// What appending 4 KiB to a file and syncing it takes, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct SyncMs {
    pub(super) median: f64,
    pub(super) longest: f64,
}

/// Tries how long a sync takes on the disk of this folder.
pub(super) fn sync_ms(folder: &Path) -> anyhow::Result<SyncMs> {
    let mut file = File::create(folder.join("sync"))?;
    let mut took = Vec::new();
    for _ in 0..SYNCS {
        let begun = Instant::now();
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        took.push(begun.elapsed().as_secs_f64() * 1000.0);
    }
    took.sort_unstable_by(f64::total_cmp);
    Ok(SyncMs { median: took.get(took.len() / 2).copied().unwrap_or_default(), longest: took.last().copied().unwrap_or_default() })
}

/// Waits until the disk has done what was asked of it before: what it still writes of gigabytes is no matter of what is measured next. `false` where it
/// does not come to rest.
pub(super) async fn is_calm(folder: &Path) -> anyhow::Result<bool> {
    let begun = Instant::now();
    while sync_ms(folder)?.longest > CALM_MS {
        if begun.elapsed() > CALM_WITHIN {
            return Ok(false);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(true)
}
