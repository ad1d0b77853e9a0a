//! The TLS files of a listener: a feed's or the admin endpoint's.

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::config::reader::Reader;
use crate::config::tree::KeyPath;
use crate::mllp::tls::ServerTlsFiles;

/// TLS for a listener.
#[derive(Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Tls")]
pub(super) struct RawTls {
    /// A PEM file: the server's certificate and those between it and the root.
    certificate: String,
    /// A PEM file: the private key of the certificate.
    key: String,
    /// A PEM file: the certificates of who may issue client certificates. When set, client certificates are required.
    #[serde(skip_serializing_if = "String::is_empty")]
    client_ca: String,
}

/// Reads the table.
pub(super) fn read(raw: &RawTls, section: &KeyPath, reader: &mut Reader<'_>) -> ServerTlsFiles {
    ServerTlsFiles {
        certificate: reader.readable_file(&section.key("certificate"), &raw.certificate),
        key: reader.readable_file(&section.key("key"), &raw.key),
        client_ca: (!raw.client_ca.is_empty()).then(|| reader.readable_file(&section.key("client_ca"), &raw.client_ca)),
    }
}
