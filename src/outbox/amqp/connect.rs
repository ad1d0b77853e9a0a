//! Opening a connection: URL, heartbeat, time-outs and TLS.
//!
//! The URL is a secret: it is parsed here and shown nowhere, not even in the error that says that it is none.

use lapin::Connection;
use lapin::ConnectionProperties;
use lapin::tcp::OwnedTLSConfig;
use lapin::uri::AMQPUri;
use secrecy::ExposeSecret as _;

use crate::outbox::amqp::AmqpError;
use crate::outbox::amqp::AmqpOptions;

/// Seconds between heartbeats, unless the URL says otherwise; a dead broker is noticed after two of them.
const HEARTBEAT: u16 = 10;

/// Connects and logs in.
pub(super) async fn connect(options: &AmqpOptions) -> Result<Connection, AmqpError> {
    let uri = uri(options.url.expose_secret())?;
    let tls = OwnedTLSConfig { identity: None, cert_chain: options.ca_pem.clone() };
    let runtime = lapin::runtime::default_runtime().map_err(AmqpError::connecting)?;
    let properties = ConnectionProperties::default().with_connection_name("wardroom".into());
    let connecting = Connection::connect_uri_with_config(uri, properties, tls, runtime);
    match tokio::time::timeout(options.connect_timeout, connecting).await {
        Ok(connected) => connected.map_err(AmqpError::connecting),
        Err(_) => Err(AmqpError::Silent { doing: "connecting", after: options.connect_timeout }),
    }
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
