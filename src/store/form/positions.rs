//! How documents are written: `MessagePack`, each field by its position in its type instead of by its name.
//!
//! A struct is a map as it is with names (`{"stamp": …}` becomes `{1: …}`), and what is left out stays left out. Derived types read both, so whoever
//! reads names reads this too. A position counts all fields of a type as they are declared, whether written or not: new ones come last, and none is ever
//! moved or taken away. Variants of enumerations keep their names. It writes no sequence of unknown length, and nothing whose type is told by one of its
//! fields (`serde(tag)`, `serde(flatten)`): that would not be read again.

use std::fmt;

use rmp::encode::ByteBuf;
use rmp::encode::ValueWriteError;
use rmp::encode::write_array_len;
use rmp::encode::write_bin;
use rmp::encode::write_bool;
use rmp::encode::write_f32;
use rmp::encode::write_f64;
use rmp::encode::write_map_len;
use rmp::encode::write_nil;
use rmp::encode::write_sint;
use rmp::encode::write_str;
use rmp::encode::write_uint;
use serde::Serialize;
use serde::Serializer;
use serde::ser::SerializeMap;
use serde::ser::SerializeSeq;
use serde::ser::SerializeStruct;
use serde::ser::SerializeStructVariant;
use serde::ser::SerializeTuple;
use serde::ser::SerializeTupleStruct;
use serde::ser::SerializeTupleVariant;

/// A value's bytes; memory for so many is taken at first.
///
/// # Errors
/// When the value has something that this form cannot say.
pub(super) fn write<T: Serialize + ?Sized>(value: &T, usual_bytes: usize) -> Result<Vec<u8>, Unsayable> {
    let mut bytes = ByteBuf::with_capacity(usual_bytes);
    value.serialize(Writer(&mut bytes))?;
    Ok(bytes.into_vec())
}

/// A value has something that no document says.
#[derive(Debug, thiserror::Error)]
#[error("a document can't say this")]
pub(super) struct Unsayable;

impl serde::ser::Error for Unsayable {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

impl<E: rmp::encode::RmpWriteErr> From<ValueWriteError<E>> for Unsayable {
    fn from(_: ValueWriteError<E>) -> Self {
        Self
    }
}

impl From<std::convert::Infallible> for Unsayable {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

fn length(n: usize) -> Result<u32, Unsayable> {
    u32::try_from(n).map_err(|_| Unsayable)
}

/// What writes a value, and the elements of a list.
struct Writer<'a>(&'a mut ByteBuf);

impl Writer<'_> {
    fn array(self, n: usize) -> Result<Self, Unsayable> {
        write_array_len(self.0, length(n)?)?;
        Ok(self)
    }

    fn map(self, n: usize) -> Result<Self, Unsayable> {
        write_map_len(self.0, length(n)?)?;
        Ok(self)
    }

    /// A variant with something in it: a map of one entry.
    fn variant(self, name: &str) -> Result<Self, Unsayable> {
        let writer = self.map(1)?;
        write_str(writer.0, name)?;
        Ok(writer)
    }

    fn next<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unsayable> {
        value.serialize(Writer(self.0))
    }
}

/// The fields of a struct.
struct Fields<'a> {
    writer: Writer<'a>,
    of: &'static str,
    at: u64,
}

impl Fields<'_> {
    fn pass(&mut self, name: &'static str) {
        note(self.of, self.at, name);
        self.at += 1;
    }

    fn field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Unsayable> {
        write_uint(self.writer.0, self.at)?;
        self.pass(name);
        self.writer.next(value)
    }
}

impl<'a> Writer<'a> {
    fn fields(self, n: usize, of: &'static str) -> Result<Fields<'a>, Unsayable> {
        Ok(Fields { writer: self.map(n)?, of, at: 0 })
    }
}

/// A kind of value that a function of `rmp` writes.
macro_rules! plain {
    ($($name:ident($type:ty) $write:ident,)*) => {
        $(fn $name(self, value: $type) -> Result<(), Unsayable> {
            $write(self.0, value.into())?;
            Ok(())
        })*
    };
}

impl<'a> Serializer for Writer<'a> {
    type Ok = ();
    type Error = Unsayable;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Fields<'a>;
    type SerializeStructVariant = Fields<'a>;

    plain! {
        serialize_bool(bool) write_bool,
        serialize_i8(i8) write_sint,
        serialize_i16(i16) write_sint,
        serialize_i32(i32) write_sint,
        serialize_i64(i64) write_sint,
        serialize_u8(u8) write_uint,
        serialize_u16(u16) write_uint,
        serialize_u32(u32) write_uint,
        serialize_u64(u64) write_uint,
        serialize_f32(f32) write_f32,
        serialize_f64(f64) write_f64,
        serialize_str(&str) write_str,
        serialize_bytes(&[u8]) write_bin,
    }

    fn serialize_char(self, value: char) -> Result<(), Unsayable> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_unit(self) -> Result<(), Unsayable> {
        Ok(write_nil(self.0)?)
    }

    fn serialize_none(self) -> Result<(), Unsayable> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Unsayable> {
        value.serialize(self)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Unsayable> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), Unsayable> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), Unsayable> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(self, _: &'static str, _: u32, variant: &'static str, value: &T) -> Result<(), Unsayable> {
        value.serialize(self.variant(variant)?)
    }

    fn serialize_seq(self, n: Option<usize>) -> Result<Self, Unsayable> {
        self.array(n.ok_or(Unsayable)?)
    }

    fn serialize_tuple(self, n: usize) -> Result<Self, Unsayable> {
        self.array(n)
    }

    fn serialize_tuple_struct(self, _: &'static str, n: usize) -> Result<Self, Unsayable> {
        self.array(n)
    }

    fn serialize_tuple_variant(self, _: &'static str, _: u32, variant: &'static str, n: usize) -> Result<Self, Unsayable> {
        self.variant(variant)?.array(n)
    }

    fn serialize_map(self, n: Option<usize>) -> Result<Self, Unsayable> {
        self.map(n.ok_or(Unsayable)?)
    }

    fn serialize_struct(self, of: &'static str, n: usize) -> Result<Fields<'a>, Unsayable> {
        self.fields(n, of)
    }

    fn serialize_struct_variant(self, _: &'static str, _: u32, variant: &'static str, n: usize) -> Result<Fields<'a>, Unsayable> {
        self.variant(variant)?.fields(n, variant)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// The lists, which differ in nothing but their names.
macro_rules! list {
    ($($trait:ident $element:ident,)*) => {
        $(impl $trait for Writer<'_> {
            type Ok = ();
            type Error = Unsayable;

            fn $element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unsayable> {
                self.next(value)
            }

            fn end(self) -> Result<(), Unsayable> {
                Ok(())
            }
        })*
    };
}

list! {
    SerializeSeq serialize_element,
    SerializeTuple serialize_element,
    SerializeTupleStruct serialize_field,
    SerializeTupleVariant serialize_field,
}

impl SerializeMap for Writer<'_> {
    type Ok = ();
    type Error = Unsayable;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Unsayable> {
        self.next(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unsayable> {
        self.next(value)
    }

    fn end(self) -> Result<(), Unsayable> {
        Ok(())
    }
}

/// What has fields, which differ in nothing but their names.
macro_rules! fields {
    ($($trait:ident,)*) => {
        $(impl $trait for Fields<'_> {
            type Ok = ();
            type Error = Unsayable;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Unsayable> {
                self.field(name, value)
            }

            fn skip_field(&mut self, name: &'static str) -> Result<(), Unsayable> {
                self.pass(name);
                Ok(())
            }

            fn end(self) -> Result<(), Unsayable> {
                Ok(())
            }
        })*
    };
}

fields! { SerializeStruct, SerializeStructVariant, }

/// Where a field of a type stands, for the tests.
#[cfg(not(test))]
const fn note(_: &str, _: u64, _: &str) {}
#[cfg(test)]
use tests::note;

#[cfg(test)]
mod tests;
