//! A sending system, written without any of wardroom's own code: it frames, waits, and reads what an answer says.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

/// Longer than any answer or closing takes.
const PATIENCE: Duration = Duration::from_secs(45);

/// A connection to a feed.
#[derive(Debug)]
pub(crate) struct Peer {
    stream: TcpStream,
    incoming: Vec<u8>,
}

impl Peer {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), incoming: Vec::new() }
    }

    /// Sends bytes as they are. Whether they arrive, an answer tells.
    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        drop(self.stream.write_all(bytes).await);
    }

    /// Sends a message in a frame.
    pub(crate) async fn send(&mut self, message: impl AsRef<[u8]>) {
        self.send_bytes(&framed(message)).await;
    }

    /// The next frame without its ends; nothing when the connection is closed.
    pub(crate) async fn receive(&mut self) -> Option<Vec<u8>> {
        tokio::time::timeout(PATIENCE, self.next_frame()).await.unwrap_or_else(|_| panic!("no answer and no end within {PATIENCE:?}"))
    }

    async fn next_frame(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(end) = self.incoming.windows(2).position(|two| two == b"\x1c\r") {
                let frame: Vec<u8> = self.incoming.drain(..end + 2).collect();
                assert_eq!(frame[0], 0x0b, "an answer begins with VT");
                return Some(frame[1..end].to_vec());
            }
            if self.stream.read_buf(&mut self.incoming).await.unwrap_or(0) == 0 {
                assert!(self.incoming.is_empty(), "the connection ended in the middle of an answer");
                return None;
            }
        }
    }

    /// Sends a message and gives the answer in short.
    pub(crate) async fn ask(&mut self, message: impl AsRef<[u8]>) -> String {
        self.send(message).await;
        self.receive().await.map_or_else(|| "closed".to_owned(), |frame| in_short(&frame))
    }
}

/// A message between VT and FS CR.
pub(crate) fn framed(message: impl AsRef<[u8]>) -> Vec<u8> {
    [b"\x0b", message.as_ref(), b"\x1c\r"].concat()
}

/// The codes and ids of a frame of answers: `AA M1`, `AR 202 M1`; several with commas, a batch as `BHS, AA M1, BTS`.
pub(crate) fn in_short(frame: &[u8]) -> String {
    let text = String::from_utf8_lossy(frame);
    assert!(text.ends_with('\r'), "the last segment ends with CR");
    let mut said: Vec<String> = Vec::new();
    let mut separator = '|';
    for segment in text.split_terminator('\r') {
        if segment.starts_with("MSH") || segment.starts_with("BHS") {
            separator = segment.chars().nth(3).unwrap();
        }
        let fields: Vec<&str> = segment.split(separator).collect();
        match fields[0] {
            "MSA" => said.push(format!("{} {}", fields[1], fields[2]).trim_end().to_owned()),
            "ERR" => {
                let last = said.last_mut().unwrap();
                // ERR-3 since 2.5, the code inside ERR-1 before.
                let code = fields.get(3).map_or_else(
                    || fields[1].split('^').nth(3).unwrap().split('&').next().unwrap().to_owned(),
                    |field| field.split(|c: char| !c.is_ascii_digit()).next().unwrap().to_owned(),
                );
                last.insert_str(2, &format!(" {code}"));
            }
            "BHS" | "BTS" => said.push(fields[0].to_owned()),
            "MSH" => {}
            other => panic!("an answer has no {other}"),
        }
    }
    said.join(", ")
}

/// A plain message: who, which stay, where, when (minutes after eight on a morning that is over).
#[derive(Clone, Debug)]
pub(crate) struct Plain {
    /// MSH-10.
    pub(crate) control_id: String,
    /// EVN-1.
    pub(crate) trigger: &'static str,
    /// A number that makes the patient and the visit.
    pub(crate) number: u32,
    /// The unit.
    pub(crate) unit: &'static str,
    /// Minutes after eight.
    pub(crate) minute: u32,
}

impl Plain {
    pub(crate) fn new(control_id: impl Into<String>, trigger: &'static str, number: u32, unit: &'static str, minute: u32) -> Self {
        Self { control_id: control_id.into(), trigger, number, unit, minute }
    }

    /// PV1-19.
    pub(crate) fn visit(&self) -> String {
        format!("V{}", self.number)
    }

    /// The message, with these for MSH-11, MSH-12 and what follows.
    pub(crate) fn with_tail(&self, tail: &str) -> String {
        let Self { control_id, trigger, number, unit, minute } = self;
        let at = format!("20261120{:02}{:02}00-0500", 8 + minute / 60, minute % 60);
        let discharged = if *trigger == "A03" { at.as_str() } else { "" };
        format!(
            "MSH|^~\\&|EMR|GHH|WARDROOM|GHH|{at}||ADT^{trigger}|{control_id}|{tail}\r\
             EVN|{trigger}|{at}\r\
             PID|1||{number}^^^GHH^MR||TESTER^TERRY||19610401|F\r\
             PV1|1|I|{unit}^12^A^GHH||||D100^Garcia^Luis^^^^^^GHH^L^^^EI||||||||||||{visit}^^^GHH^VN\
             |||||||||||||||||||||||||20261120080000-0500|{discharged}\r",
            visit = self.visit(),
        )
    }

    /// The message.
    pub(crate) fn text(&self) -> String {
        self.with_tail("P|2.5.1")
    }
}
