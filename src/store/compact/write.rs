//! Writing the compact form.

use serde::Serialize;
use serde::ser::SerializeMap;
use serde::ser::SerializeSeq;
use serde::ser::SerializeStruct;
use serde::ser::SerializeStructVariant;
use serde::ser::SerializeTuple;
use serde::ser::SerializeTupleStruct;
use serde::ser::SerializeTupleVariant;
use serde::ser::Serializer;

use super::AGAIN;
use super::FULL;
use super::LARGE;
use super::NotCompact;
use super::PLAIN;
use super::REMEMBERED;
use super::zigzag;

/// A document that is being written.
#[derive(Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
    /// Where in the bytes each text said so far stands.
    texts: Vec<(usize, usize)>,
    numbers: Vec<u64>,
}

impl Writer {
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    #[expect(clippy::cast_possible_truncation, reason = "seven bits at a time are taken")]
    fn raw(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.bytes.push(n as u8 | 0x80);
            n >>= 7;
        }
        self.bytes.push(n as u8);
    }

    fn number(&mut self, n: u64) {
        if n < LARGE {
            self.raw(n << 2 | PLAIN);
        } else if let Some(place) = self.numbers.iter().position(|known| *known == n) {
            self.raw((place as u64) << 2 | AGAIN);
        } else {
            if self.numbers.len() < REMEMBERED {
                self.numbers.push(n);
            }
            self.raw(FULL);
            self.raw(n);
        }
    }

    fn text(&mut self, text: &str) {
        let is_text = |(from, to): &(usize, usize)| to - from == text.len() && self.bytes.get(*from..*to) == Some(text.as_bytes());
        if text.len() > 1
            && let Some(place) = self.texts.iter().position(is_text)
        {
            self.raw((place as u64) << 1 | AGAIN);
            return;
        }
        self.raw((text.len() as u64) << 1);
        let from = self.bytes.len();
        self.bytes.extend_from_slice(text.as_bytes());
        if text.len() > 1 && self.texts.len() < REMEMBERED {
            self.texts.push((from, self.bytes.len()));
        }
    }

    /// A struct whose fields are numbered as they come.
    const fn fields(&mut self) -> Fields<'_> {
        Fields { writer: self, next: 0 }
    }
}

/// The fields of a struct, of which some may be left out.
pub(super) struct Fields<'w> {
    writer: &'w mut Writer,
    next: u64,
}

impl Fields<'_> {
    fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NotCompact> {
        self.next += 1;
        self.writer.raw(self.next);
        value.serialize(&mut *self.writer)
    }

    fn finish(self) {
        self.writer.raw(0);
    }
}

impl SerializeStruct for Fields<'_> {
    type Error = NotCompact;
    type Ok = ();

    fn serialize_field<T: Serialize + ?Sized>(&mut self, _: &'static str, value: &T) -> Result<(), NotCompact> {
        self.value(value)
    }

    fn skip_field(&mut self, _: &'static str) -> Result<(), NotCompact> {
        self.next += 1;
        Ok(())
    }

    fn end(self) -> Result<(), NotCompact> {
        self.finish();
        Ok(())
    }
}

impl SerializeStructVariant for Fields<'_> {
    type Error = NotCompact;
    type Ok = ();

    fn serialize_field<T: Serialize + ?Sized>(&mut self, _: &'static str, value: &T) -> Result<(), NotCompact> {
        self.value(value)
    }

    fn skip_field(&mut self, _: &'static str) -> Result<(), NotCompact> {
        self.next += 1;
        Ok(())
    }

    fn end(self) -> Result<(), NotCompact> {
        self.finish();
        Ok(())
    }
}

/// Values one behind another.
macro_rules! values {
    ($($of:ident $each:ident),+) => {$(
        impl $of for &mut Writer {
            type Error = NotCompact;
            type Ok = ();

            fn $each<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NotCompact> {
                value.serialize(&mut **self)
            }

            fn end(self) -> Result<(), NotCompact> {
                Ok(())
            }
        }
    )+};
}
values!(SerializeSeq serialize_element, SerializeTuple serialize_element, SerializeTupleStruct serialize_field, SerializeTupleVariant serialize_field);

impl SerializeMap for &mut Writer {
    type Error = NotCompact;
    type Ok = ();

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), NotCompact> {
        key.serialize(&mut **self)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NotCompact> {
        value.serialize(&mut **self)
    }

    fn end(self) -> Result<(), NotCompact> {
        Ok(())
    }
}

/// Integers, all of them as one of two.
macro_rules! integers {
    ($($method:ident $type:ty, $as:ident);+) => {$(
        fn $method(self, n: $type) -> Result<(), NotCompact> {
            self.$as(n.into());
            Ok(())
        }
    )+};
}

impl Writer {
    fn signed(&mut self, n: i64) {
        self.number(zigzag(n));
    }
}

impl<'w> Serializer for &'w mut Writer {
    type Error = NotCompact;
    type Ok = ();
    type SerializeMap = Self;
    type SerializeSeq = Self;
    type SerializeStruct = Fields<'w>;
    type SerializeStructVariant = Fields<'w>;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;

    integers!(
        serialize_i8 i8, signed; serialize_i16 i16, signed; serialize_i32 i32, signed; serialize_i64 i64, signed;
        serialize_u8 u8, number; serialize_u16 u16, number; serialize_u32 u32, number; serialize_u64 u64, number
    );

    fn is_human_readable(&self) -> bool {
        false
    }

    fn serialize_bool(self, value: bool) -> Result<(), NotCompact> {
        self.bytes.push(value.into());
        Ok(())
    }

    fn serialize_f32(self, _: f32) -> Result<(), NotCompact> {
        Err(NotCompact)
    }

    fn serialize_f64(self, _: f64) -> Result<(), NotCompact> {
        Err(NotCompact)
    }

    fn serialize_char(self, _: char) -> Result<(), NotCompact> {
        Err(NotCompact)
    }

    fn serialize_str(self, text: &str) -> Result<(), NotCompact> {
        self.text(text);
        Ok(())
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<(), NotCompact> {
        self.raw(bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn serialize_none(self) -> Result<(), NotCompact> {
        self.bytes.push(0);
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), NotCompact> {
        self.bytes.push(1);
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), NotCompact> {
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), NotCompact> {
        Ok(())
    }

    fn serialize_unit_variant(self, _: &'static str, index: u32, _: &'static str) -> Result<(), NotCompact> {
        self.raw(index.into());
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), NotCompact> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(self, _: &'static str, index: u32, _: &'static str, value: &T) -> Result<(), NotCompact> {
        self.raw(index.into());
        value.serialize(self)
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Self, NotCompact> {
        self.raw(len.ok_or(NotCompact)? as u64);
        Ok(self)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self, NotCompact> {
        Ok(self)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, NotCompact> {
        Ok(self)
    }

    fn serialize_tuple_variant(self, _: &'static str, index: u32, _: &'static str, _: usize) -> Result<Self, NotCompact> {
        self.raw(index.into());
        Ok(self)
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Self, NotCompact> {
        self.raw(len.ok_or(NotCompact)? as u64);
        Ok(self)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Fields<'w>, NotCompact> {
        Ok(self.fields())
    }

    fn serialize_struct_variant(self, _: &'static str, index: u32, _: &'static str, _: usize) -> Result<Fields<'w>, NotCompact> {
        self.raw(index.into());
        Ok(self.fields())
    }
}
