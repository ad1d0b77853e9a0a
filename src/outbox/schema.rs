//! The schemas of what is published: JSON Schemas of events and rooms, and the `AsyncAPI` document, generated from the types that are serialised.
//!
//! The files under `schemas/` are what these functions return; a test fails when one is stale. Additive changes only within version 1. Nothing here
//! reads or writes a file.

use std::fmt::Write as _;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value;
use serde_json::json;

use crate::care::change::EventType;
use crate::outbox::amqp;
use crate::outbox::envelope::CONTENT_TYPE;
use crate::outbox::envelope::DATA_SCHEMA;
use crate::outbox::envelope::RoomEvent;
use crate::outbox::form::RoomForm;

/// The schemas of this module by name; other parts have such lists of their own.
const SCHEMAS: &[(&str, fn() -> Value)] =
    &[("room-event", || json_schema::<RoomEvent<'static>>(DATA_SCHEMA)), ("room", || json_schema::<RoomForm<'static>>("urn:wardroom:schema:room:1"))];

/// The names of the schemas.
pub fn names() -> impl Iterator<Item = &'static str> {
    SCHEMAS.iter().map(|(name, _)| *name)
}

/// The schema of this name.
pub fn schema(name: &str) -> Option<Value> {
    SCHEMAS.iter().find(|(known, _)| *known == name).map(|(_, make)| make())
}

/// The JSON Schema (2020-12) of what a type serialises as, under this `$id`.
pub fn json_schema<T: JsonSchema>(id: &str) -> Value {
    let mut schema = SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<T>();
    schema.insert("$id".to_owned(), id.into());
    schema.into()
}

/// The `AsyncAPI` 3.0 document, as YAML.
pub fn asyncapi() -> String {
    let keys: Vec<&str> = EventType::ALL.iter().filter_map(|event_type| event_type.as_str().strip_prefix("room.")).collect();
    let document = json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "wardroom events",
            "version": "1",
            "description": "Each change of a patient-centred care-team room, with the whole room after the change. Delivery is at least once and per room \
                            in order; a repeated event has the same id and the same bytes. A consumer that applies `room` when (epoch, version) is greater \
                            than what it has is right, whatever it missed.",
            "license": { "name": "Apache-2.0" },
        },
        "defaultContentType": CONTENT_TYPE,
        "servers": {
            "broker": { "host": "127.0.0.1:5672", "protocol": "amqp", "protocolVersion": "0.9.1", "description": "`publish.amqp.url`" },
        },
        "channels": {
            "rooms": {
                "address": "room.{change}",
                "description": "The routing key is the type of the event and nothing else: it names no patient, no unit and no room.",
                "parameters": { "change": { "enum": keys, "description": "The type of the event without `room.`" } },
                "messages": { "roomEvent": { "$ref": "#/components/messages/roomEvent" } },
                "bindings": { "amqp": {
                    "is": "routingKey",
                    "exchange": { "name": amqp::DEFAULT_EXCHANGE, "type": "topic", "durable": true, "autoDelete": false },
                    "bindingVersion": "0.3.0",
                } },
            },
            "backend": {
                "address": amqp::DEFAULT_QUEUE,
                "description": "The queue that wardroom declares when `publish.amqp.queue` is not empty: a quorum queue, bound with `#`.",
                "messages": { "roomEvent": { "$ref": "#/components/messages/roomEvent" } },
                "bindings": { "amqp": {
                    "is": "queue",
                    "queue": { "name": amqp::DEFAULT_QUEUE, "durable": true, "exclusive": false, "autoDelete": false },
                    "bindingVersion": "0.3.0",
                } },
            },
        },
        "operations": {
            "publish": {
                "action": "send",
                "channel": { "$ref": "#/channels/rooms" },
                "messages": [{ "$ref": "#/channels/rooms/messages/roomEvent" }],
                "bindings": { "amqp": { "deliveryMode": 2, "mandatory": true, "timestamp": true, "bindingVersion": "0.3.0" } },
            },
        },
        "components": { "messages": { "roomEvent": {
            "name": "RoomEvent",
            "title": "A change of a care room",
            "contentType": CONTENT_TYPE,
            "description": "Properties: `message_id` is the event's `id`, `type` its `type`, `app_id` is `wardroom`, `timestamp` its `time` in seconds.",
            "headers": {
                "type": "object",
                "required": [amqp::HEADER_ROOM_ID, amqp::HEADER_ROOM_VERSION, amqp::HEADER_FACILITY],
                "properties": {
                    amqp::HEADER_ROOM_ID: { "type": "string", "format": "uuid" },
                    amqp::HEADER_ROOM_VERSION: { "type": "integer", "minimum": 1 },
                    amqp::HEADER_FACILITY: { "type": "string", "description": "May be empty." },
                    amqp::HEADER_TRACEPARENT: { "type": "string", "description": "W3C trace context, where there is one." },
                },
            },
            "payload": {
                "schemaFormat": "application/schema+json;version=draft-2020-12",
                "schema": { "$ref": "./room-event.json" },
            },
            "bindings": { "amqp": { "messageType": "room event", "bindingVersion": "0.3.0" } },
        } } },
    });
    let mut out = String::from("# Generated from the types that are serialised. Do not edit.\n");
    yaml(&document, 0, &mut out);
    out
}

/// Writes a mapping or a sequence as block YAML; scalars are JSON, which YAML 1.2 reads.
fn yaml(value: &Value, depth: usize, out: &mut String) {
    let entries: Vec<(String, &Value)> = match value {
        Value::Object(map) => map.iter().map(|(key, value)| (format!("{}:", yaml_key(key)), value)).collect(),
        Value::Array(items) => items.iter().map(|item| ("-".to_owned(), item)).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    };
    for (lead, value) in entries {
        let nested = value.as_object().is_some_and(|map| !map.is_empty()) || value.as_array().is_some_and(|items| !items.is_empty());
        let indent = "  ".repeat(depth);
        // Writing to a string cannot fail.
        let _infallible = if nested { writeln!(out, "{indent}{lead}") } else { writeln!(out, "{indent}{lead} {value}") };
        if nested {
            yaml(value, depth + 1, out);
        }
    }
}

fn yaml_key(key: &str) -> String {
    if key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') { key.to_owned() } else { Value::from(key).to_string() }
}
