//! The ports that the daemon listens on: its own before anything is made, and heard only when all else works.
//!
//! A port that somebody listens on is known before a key, a store or a socket is left behind; only one that two daemons take at the same moment is not. It
//! accepts nobody.

use std::io;
use std::io::ErrorKind;
use std::net::SocketAddr;

use tokio::net::TcpListener;
use tokio::net::TcpSocket;

use crate::config::store::StoreUrl;
use crate::store;

/// How many connections may wait to be accepted.
const BACKLOG: u32 = 1024;

/// A port that is ours, on which nobody is heard yet.
#[derive(Debug)]
pub(super) struct Port {
    socket: TcpSocket,
    address: SocketAddr,
}

impl Port {
    /// Takes a port.
    ///
    /// # Errors
    /// When somebody else has it, the address is not this machine's, or the port is not for this user.
    pub(super) fn take(address: SocketAddr) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // What is left of connections of the daemon before this one is in nobody's way.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok(Self { address: socket.local_addr()?, socket })
    }

    /// Where it is.
    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on whoever connects is heard.
    ///
    /// # Errors
    /// When somebody else took the port at the same moment, which the system allows until one of them listens.
    pub(super) fn listen(self) -> io::Result<(TcpListener, SocketAddr)> {
        Ok((self.socket.listen(BACKLOG)?, self.address))
    }
}

/// Whether a daemon has this store now; nothing where that cannot be told.
pub(crate) fn is_running(store: &StoreUrl) -> Option<bool> {
    match store {
        StoreUrl::Sqlite(file) => store::is_locked(file),
        StoreUrl::SqliteInMemory | StoreUrl::Postgres { .. } => None,
    }
}

/// What an operator can do about a port that cannot be had, where it is known whether a daemon runs already.
pub(crate) const fn hint(kind: ErrorKind, is_running: Option<bool>) -> &'static str {
    match (kind, is_running) {
        (ErrorKind::AddrInUse, Some(true)) => "a wardroom runs on this store already: that it listens there is most likely as it should be",
        (ErrorKind::AddrInUse, Some(false)) => "see what uses the port, e.g. with `ss -ltnp`, or choose another",
        (ErrorKind::AddrInUse, None) => "a wardroom that runs listens there itself; if none does, see what uses the port, e.g. with `ss -ltnp`",
        (ErrorKind::AddrNotAvailable, _) => "the address must be one of this machine's",
        (ErrorKind::PermissionDenied, _) => "ports below 1024 are for users who have the right to them; has the daemon's?",
        _ => "look at the address, and at how many files the daemon may open",
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use tokio::net::TcpStream;

    use super::Port;

    #[tokio::test]
    async fn a_port_that_is_taken_is_nobody_elses_and_heard_only_later() {
        let port = Port::take("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = port.address();
        assert_eq!(TcpStream::connect(address).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        let (_listener, same) = port.listen().unwrap();
        assert_eq!(same, address);
        TcpStream::connect(address).await.unwrap();
        assert_eq!(Port::take(address).unwrap_err().kind(), ErrorKind::AddrInUse);
    }
}
