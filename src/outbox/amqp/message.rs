//! What stands around an event on the wire: properties and headers.
//!
//! They are in the broker's logs and in its management pages, so that they hold exactly what is listed here and never anything of a patient.

use lapin::BasicProperties;
use lapin::types::AMQPValue;
use lapin::types::FieldTable;

use crate::outbox::OutboxRow;
use crate::outbox::amqp::HEADER_FACILITY;
use crate::outbox::amqp::HEADER_ROOM_ID;
use crate::outbox::amqp::HEADER_ROOM_VERSION;
use crate::outbox::amqp::HEADER_TRACEPARENT;
use crate::outbox::envelope::CONTENT_TYPE;

/// Delivery mode: the broker writes it to disk.
const PERSISTENT: u8 = 2;

/// The properties and headers of an event.
pub(super) fn properties(row: &OutboxRow) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert(HEADER_ROOM_ID.into(), AMQPValue::LongString(row.room_id.to_string().into()));
    headers.insert(HEADER_ROOM_VERSION.into(), AMQPValue::LongLongInt(i64::try_from(row.room_version).unwrap_or(i64::MAX)));
    headers.insert(HEADER_FACILITY.into(), AMQPValue::LongString(row.facility.as_str().into()));
    if let Some(traceparent) = &row.traceparent {
        headers.insert(HEADER_TRACEPARENT.into(), AMQPValue::LongString(traceparent.as_str().into()));
    }
    BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_content_type(CONTENT_TYPE.into())
        .with_message_id(row.event_id.to_string().into())
        .with_type(row.event_type.as_str().into())
        .with_timestamp(u64::try_from(row.time.as_micros() / 1_000_000).unwrap_or(0))
        .with_app_id("wardroom".into())
        .with_headers(headers)
}

#[cfg(test)]
mod tests {
    use super::properties;
    use crate::outbox::OutboxRow;
    use crate::outbox::tests::row;

    #[test]
    fn headers_are_these_and_no_others() {
        let names = |row: &OutboxRow| -> Vec<String> {
            properties(row).headers().iter().flat_map(|headers| headers.inner().keys()).map(|name| name.as_str().to_owned()).collect()
        };
        let mut row = row(1, 1, 1);
        assert_eq!(names(&row), ["facility", "room_id", "room_version"]);
        row.traceparent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned());
        assert_eq!(names(&row), ["facility", "room_id", "room_version", "traceparent"]);
    }

    #[test]
    fn properties_are_those_of_the_event() {
        let row = row(1, 1, 1);
        let properties = properties(&row);
        assert_eq!(properties.message_id().as_ref().map(|id| id.as_str().to_owned()), Some(row.event_id.to_string()));
        assert_eq!(properties.kind().as_ref().map(|kind| kind.as_str().to_owned()), Some("room.updated".to_owned()));
        assert_eq!(*properties.delivery_mode(), Some(2));
        assert_eq!(*properties.timestamp(), Some(1_790_000_000));
        assert_eq!(*properties.expiration(), None);
        assert_eq!(*properties.reply_to(), None);
    }
}
