//! The ceilings: what the machine does when everything but one thing is left out.

use std::fs::File;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

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
    let fared = tokio::task::spawn_blocking(move || load::run(load, &[to])).await?;
    stop.cancel();
    fared
}

/// The median of appending 4 KiB to a file and syncing it, in milliseconds.
pub(super) fn sync_ms(folder: &Path) -> anyhow::Result<f64> {
    let mut file = File::create(folder.join("sync"))?;
    let mut took = Vec::new();
    for _ in 0..SYNCS {
        let begun = Instant::now();
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        took.push(begun.elapsed().as_secs_f64() * 1000.0);
    }
    took.sort_unstable_by(f64::total_cmp);
    Ok(took.get(took.len() / 2).copied().unwrap_or_default())
}
