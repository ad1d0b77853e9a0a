//! `[publish]`: where the events go.

use std::path::PathBuf;

use schemars::JsonSchema;
use secrecy::ExposeSecret;
use secrecy::SecretString;
use serde::Deserialize;
use serde::Serialize;

use crate::config::endpoint::Endpoint;
use crate::config::reader::Reader;
use crate::config::reader::is_blank_or_padded;
use crate::config::tree::KeyPath;

/// Where the events go.
#[derive(Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Publish")]
pub(super) struct RawPublish {
    /// Which of the two below.
    to: PublishTo,
    /// How many events may wait for the backend before no more messages are taken. 0: any number.
    #[schemars(range(max = 1_000_000_000))]
    max_pending: u32,
    jsonl: RawJsonl,
    amqp: RawAmqp,
}

impl Default for RawPublish {
    fn default() -> Self {
        Self { to: PublishTo::default(), max_pending: 1_000_000, jsonl: RawJsonl::default(), amqp: RawAmqp::default() }
    }
}

#[derive(Clone, Copy, Default, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
enum PublishTo {
    /// Lines of JSON, to a file or to standard output.
    #[default]
    Jsonl,
    /// A broker that speaks AMQP 0-9-1, such as RabbitMQ.
    Amqp,
}

/// Events as lines of JSON.
#[derive(Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Jsonl")]
struct RawJsonl {
    /// A file, to which lines are appended and fsynced; or `-` for standard output.
    path: String,
}

impl Default for RawJsonl {
    fn default() -> Self {
        Self { path: "-".to_owned() }
    }
}

/// Events over AMQP.
#[derive(Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Amqp")]
struct RawAmqp {
    /// `amqp://` or, for TLS, `amqps://`. A secret: may be `file:PATH` or `env:NAME`.
    url: String,
    /// A durable topic exchange.
    exchange: String,
    /// A quorum queue, bound to the exchange with `#`. Empty: the operator's own topology is used, and checked.
    queue: String,
    /// A PEM file: certificates of a private authority, for `amqps://`. Empty: those of the system count.
    ca: String,
    /// How many messages may be on their way without a confirm.
    #[schemars(range(min = 1, max = 65_535))]
    window: u32,
}

impl Default for RawAmqp {
    fn default() -> Self {
        Self {
            url: "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned(),
            exchange: "wardroom.events".to_owned(),
            queue: "wardroom.backend".to_owned(),
            ca: String::new(),
            window: 1024,
        }
    }
}

/// Where the events go.
#[derive(Clone, Debug)]
pub enum PublishConfig {
    /// Lines of JSON on standard output.
    Stdout,
    /// Lines of JSON, appended to a file.
    File(PathBuf),
    /// A broker.
    Amqp(AmqpConfig),
}

/// How the broker is reached, and what is used there.
#[derive(Clone, Debug)]
pub struct AmqpConfig {
    /// The whole URL, with its password.
    pub url: SecretString,
    /// The host and port in it.
    pub server: Endpoint,
    /// Whether it is TLS.
    pub is_tls: bool,
    /// The exchange.
    pub exchange: String,
    /// The queue; none when the topology is the operator's.
    pub queue: Option<String>,
    /// Certificates of a private authority, PEM.
    pub ca: Option<PathBuf>,
    /// How many messages may be on their way without a confirm.
    pub window: usize,
}

/// Reads the section.
pub(super) fn read(raw: &RawPublish, reader: &mut Reader<'_>) -> PublishConfig {
    let section = KeyPath::of("publish");
    match raw.to {
        PublishTo::Jsonl => jsonl(&raw.jsonl, &section.key("jsonl"), reader),
        PublishTo::Amqp => PublishConfig::Amqp(amqp(&raw.amqp, &section.key("amqp"), reader)),
    }
}

/// How many events may wait.
pub(super) fn max_pending(raw: &RawPublish) -> Option<i64> {
    (raw.max_pending > 0).then_some(i64::from(raw.max_pending))
}

fn jsonl(raw: &RawJsonl, section: &KeyPath, reader: &mut Reader<'_>) -> PublishConfig {
    match raw.path.as_str() {
        "-" => PublishConfig::Stdout,
        "" => {
            reader.problem(&section.key("path"), "must name a file, or be `-` for standard output");
            PublishConfig::Stdout
        }
        file => PublishConfig::File(reader.path(file)),
    }
}

fn amqp(raw: &RawAmqp, section: &KeyPath, reader: &mut Reader<'_>) -> AmqpConfig {
    let path = section.key("url");
    let url = reader.secret(&path, &raw.url);
    let is_tls = url.expose_secret().starts_with("amqps://");
    let server = if is_tls || url.expose_secret().starts_with("amqp://") {
        Endpoint::of_url(url.expose_secret(), if is_tls { 5671 } else { 5672 })
    } else {
        None
    };
    if server.is_none() {
        reader.problem(&path, "must be `amqp://USER:PASSWORD@HOST:PORT/VHOST` or the same with `amqps://`");
    }
    let server = server.unwrap_or(Endpoint { host: String::new(), port: 0 });
    if !is_tls && !server.host.is_empty() && !server.is_loopback() {
        reader.warn(&path, "carries patient data over the network in the clear", "use `amqps://`");
    }
    for (key, name) in [("exchange", &raw.exchange), ("queue", &raw.queue)] {
        if (key == "exchange" || !name.is_empty()) && (is_blank_or_padded(name) || name.len() > 255) {
            reader.problem(&section.key(key), "must be a name of 1 to 255 bytes without blanks around it");
        }
    }
    AmqpConfig {
        url,
        server,
        is_tls,
        exchange: raw.exchange.clone(),
        queue: (!raw.queue.is_empty()).then(|| raw.queue.clone()),
        ca: (!raw.ca.is_empty()).then(|| reader.readable_file(&section.key("ca"), &raw.ca)),
        window: usize::try_from(raw.window).unwrap_or(1),
    }
}
