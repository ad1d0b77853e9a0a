//! Opening a connection: URL, heartbeat, time-outs and TLS.
//!
//! lapin has a thread and a socket for each connection, and gives up neither while a peer takes the connection and then says nothing. So the socket
//! is opened here, and shut down when nobody wants it any more. The URL is a secret: it is shown nowhere, not even in the error that says that it is
//! none.

use std::net::Shutdown;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

use async_compat::CompatExt as _;
use lapin::Connection;
use lapin::ConnectionProperties;
use lapin::tcp::AsyncTcpStream;
use lapin::tcp::OwnedTLSConfig;
use lapin::uri::AMQPScheme;
use lapin::uri::AMQPUri;
use secrecy::ExposeSecret as _;
use socket2::SockRef;
use socket2::Socket;
use tokio::net::TcpStream;

use crate::outbox::amqp::AmqpError;
use crate::outbox::amqp::AmqpOptions;

/// Seconds between heartbeats, unless the URL says otherwise; a dead broker is noticed after two of them.
const HEARTBEAT: u16 = 10;

/// A second handle on the socket of a connection. The socket is shut down when it is dropped, and lapin's thread ends.
#[derive(Clone, Debug, Default)]
struct Wire(Arc<OnceLock<Socket>>);

/// Keeps the socket open.
#[derive(Debug)]
pub(super) struct OpenWire(Wire);

impl Drop for OpenWire {
    fn drop(&mut self) {
        if let Some(socket) = self.0.0.get() {
            // An error says that it is closed already.
            drop(socket.shutdown(Shutdown::Both));
        }
    }
}

/// Connects and logs in. The connection lives as long as the wire.
pub(super) async fn connect(options: &AmqpOptions) -> Result<(Connection, OpenWire), AmqpError> {
    let uri = uri(options.url.expose_secret())?;
    let tls = OwnedTLSConfig { identity: None, cert_chain: options.ca_pem.clone() };
    let runtime = lapin::runtime::default_runtime().map_err(AmqpError::connecting)?;
    let properties = ConnectionProperties::default().with_connection_name("wardroom".into());
    let wire = OpenWire(Wire::default());
    let (within, its_wire) = (options.connect_timeout, wire.0.clone());
    let dial = async move |uri: AMQPUri, _| dial(&uri, &tls, &its_wire, within).await;
    let connecting = Connection::connector(uri, runtime, dial, properties);
    match tokio::time::timeout(options.connect_timeout, connecting).await {
        Ok(connected) => Ok((connected.map_err(AmqpError::connecting)?, wire)),
        Err(_) => Err(AmqpError::Silent { doing: "connecting", after: options.connect_timeout }),
    }
}

type Stream = AsyncTcpStream<async_compat::Compat<TcpStream>>;

async fn dial(uri: &AMQPUri, tls: &OwnedTLSConfig, wire: &Wire, within: Duration) -> lapin::Result<Stream> {
    let host = uri.authority.host.as_str();
    let dialling = async {
        let stream = TcpStream::connect((host, uri.authority.port)).await?;
        stream.set_nodelay(true)?;
        drop(wire.0.set(SockRef::from(&stream).try_clone()?));
        let stream = AsyncTcpStream::Plain(stream.compat());
        match uri.scheme {
            AMQPScheme::AMQP => Ok(stream),
            AMQPScheme::AMQPS => stream.into_tls(host, tls.as_ref()).await,
        }
    };
    let dialled = tokio::time::timeout(within, dialling).await.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
    Ok(dialled?)
}

fn uri(url: &str) -> Result<AMQPUri, AmqpError> {
    // The parser's own error repeats what it could not read.
    let mut uri: AMQPUri = url.parse().map_err(|_| AmqpError::Url)?;
    if let Some(host) = ipv6_host(url) {
        host.clone_into(&mut uri.authority.host);
    }
    uri.query.heartbeat.get_or_insert(HEARTBEAT);
    Ok(uri)
}

/// The host between brackets. The parser takes a name or an IPv4 address, and silently puts `localhost` where anything else stands.
fn ipv6_host(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    Some(host.strip_prefix('[')?.split_once(']')?.0)
}

#[cfg(test)]
mod tests {
    use super::uri;

    fn host_and_vhost(url: &str) -> Option<(String, String)> {
        uri(url).ok().map(|uri| (uri.authority.host, uri.vhost))
    }

    #[test]
    fn hosts_are_read_in_every_form() {
        for (url, host, vhost) in [
            ("amqp://guest:guest@127.0.0.1:5672/%2f", "127.0.0.1", "/"),
            ("amqp://broker.example", "broker.example", "/"),
            ("amqps://u:p@[2001:db8::5]:5671/ward", "2001:db8::5", "ward"),
            ("amqps://u:p%40%5B@[::1]/%2f", "::1", "/"),
        ] {
            assert_eq!(host_and_vhost(url), Some((host.to_owned(), vhost.to_owned())), "{url}");
        }
    }

    #[test]
    fn what_is_no_url_is_not_repeated() {
        for url in ["http://u:secret@h/", "secret", "amqp:secret", "amqp://u:secret@h:port/"] {
            let error = uri(url).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("secret"));
        }
    }

    #[test]
    fn a_heartbeat_is_asked_for_unless_the_url_does() {
        assert_eq!(uri("amqp://h").unwrap().query.heartbeat, Some(10));
        assert_eq!(uri("amqp://h/%2f?heartbeat=30").unwrap().query.heartbeat, Some(30));
    }
}
