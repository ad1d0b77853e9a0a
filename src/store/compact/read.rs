//! Reading the compact form.

use serde::de::DeserializeSeed;
use serde::de::Deserializer;
use serde::de::EnumAccess;
use serde::de::IntoDeserializer;
use serde::de::MapAccess;
use serde::de::SeqAccess;
use serde::de::VariantAccess;
use serde::de::Visitor;

use super::AGAIN;
use super::FULL;
use super::NotCompact;
use super::PLAIN;
use super::REMEMBERED;
use super::unzigzag;

/// A document that is being read.
pub(super) struct Reader<'de> {
    left: &'de [u8],
    texts: Vec<&'de str>,
    numbers: Vec<u64>,
}

impl<'de> Reader<'de> {
    pub(super) const fn new(bytes: &'de [u8]) -> Self {
        Self { left: bytes, texts: Vec::new(), numbers: Vec::new() }
    }

    pub(super) const fn is_at_end(&self) -> bool {
        self.left.is_empty()
    }

    fn byte(&mut self) -> Result<u8, NotCompact> {
        let (first, left) = self.left.split_first().ok_or(NotCompact)?;
        self.left = left;
        Ok(*first)
    }

    fn raw(&mut self) -> Result<u64, NotCompact> {
        let (mut n, mut shift) = (0, 0);
        loop {
            let byte = self.byte()?;
            if shift > 63 {
                return Err(NotCompact);
            }
            n |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(n);
            }
            shift += 7;
        }
    }

    fn length(&mut self) -> Result<usize, NotCompact> {
        usize::try_from(self.raw()?).map_err(|_| NotCompact)
    }

    fn take(&mut self, n_bytes: usize) -> Result<&'de [u8], NotCompact> {
        let (taken, left) = self.left.split_at_checked(n_bytes).ok_or(NotCompact)?;
        self.left = left;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u64, NotCompact> {
        let n = self.raw()?;
        match n & 3 {
            PLAIN => Ok(n >> 2),
            AGAIN => usize::try_from(n >> 2).ok().and_then(|place| self.numbers.get(place)).copied().ok_or(NotCompact),
            FULL => {
                let n = self.raw()?;
                if self.numbers.len() < REMEMBERED {
                    self.numbers.push(n);
                }
                Ok(n)
            }
            _ => Err(NotCompact),
        }
    }

    fn text(&mut self) -> Result<&'de str, NotCompact> {
        let n = self.raw()?;
        let place = usize::try_from(n >> 1).map_err(|_| NotCompact)?;
        if n & 1 == AGAIN {
            return self.texts.get(place).copied().ok_or(NotCompact);
        }
        let text = std::str::from_utf8(self.take(place)?).map_err(|_| NotCompact)?;
        if text.len() > 1 && self.texts.len() < REMEMBERED {
            self.texts.push(text);
        }
        Ok(text)
    }
}

/// Integers, all of them as one of two.
macro_rules! integers {
    (signed $($method:ident)+) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NotCompact> {
            visitor.visit_i64(unzigzag(self.number()?))
        }
    )+};
    (unsigned $($method:ident)+) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NotCompact> {
            visitor.visit_u64(self.number()?)
        }
    )+};
}

/// What the form does not hold.
macro_rules! absent {
    ($($method:ident)+) => {$(
        fn $method<V: Visitor<'de>>(self, _: V) -> Result<V::Value, NotCompact> {
            Err(NotCompact)
        }
    )+};
}

impl<'de> Deserializer<'de> for &mut Reader<'de> {
    type Error = NotCompact;

    integers!(signed deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64);
    integers!(unsigned deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64);
    absent!(deserialize_any deserialize_f32 deserialize_f64 deserialize_char deserialize_ignored_any);

    fn is_human_readable(&self) -> bool {
        false
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NotCompact> {
        match self.byte()? {
            0 => visitor.visit_bool(false),
            1 => visitor.visit_bool(true),
            _ => Err(NotCompact),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NotCompact> {
        visitor.visit_borrowed_str(self.text()?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NotCompact> {
        visitor.visit_borrowed_str(self.text()?)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NotCompact> {
        let n_bytes = self.length()?;
        visitor.visit_borrowed_bytes(self.take(n_bytes)?)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NotCompact> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NotCompact> {
        match self.byte()? {
            0 => visitor.visit_none(),
            1 => visitor.visit_some(self),
            _ => Err(NotCompact),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NotCompact> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, NotCompact> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, NotCompact> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NotCompact> {
        let n_left = self.length()?;
        visitor.visit_seq(Items { reader: self, n_left })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, NotCompact> {
        visitor.visit_seq(Items { reader: self, n_left: len })
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(self, _: &'static str, len: usize, visitor: V) -> Result<V::Value, NotCompact> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NotCompact> {
        let n_left = self.length()?;
        visitor.visit_map(Items { reader: self, n_left })
    }

    fn deserialize_struct<V: Visitor<'de>>(self, _: &'static str, fields: &'static [&'static str], visitor: V) -> Result<V::Value, NotCompact> {
        visitor.visit_map(Fields { reader: self, n_fields: fields.len() as u64 })
    }

    fn deserialize_enum<V: Visitor<'de>>(self, _: &'static str, _: &'static [&'static str], visitor: V) -> Result<V::Value, NotCompact> {
        visitor.visit_enum(self)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NotCompact> {
        visitor.visit_u64(self.raw()?)
    }
}

/// Values one behind another.
struct Items<'r, 'de> {
    reader: &'r mut Reader<'de>,
    n_left: usize,
}

impl<'de> SeqAccess<'de> for Items<'_, 'de> {
    type Error = NotCompact;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, NotCompact> {
        let Some(n_left) = self.n_left.checked_sub(1) else { return Ok(None) };
        self.n_left = n_left;
        seed.deserialize(&mut *self.reader).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        // A damaged length must not make anybody set memory aside for it.
        Some(self.n_left.min(self.reader.left.len()))
    }
}

impl<'de> MapAccess<'de> for Items<'_, 'de> {
    type Error = NotCompact;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, NotCompact> {
        self.next_element_seed(seed)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, NotCompact> {
        seed.deserialize(&mut *self.reader)
    }
}

/// The fields of a struct.
struct Fields<'r, 'de> {
    reader: &'r mut Reader<'de>,
    n_fields: u64,
}

impl<'de> MapAccess<'de> for Fields<'_, 'de> {
    type Error = NotCompact;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, NotCompact> {
        let number = self.reader.raw()?;
        if number > self.n_fields {
            return Err(NotCompact);
        }
        number.checked_sub(1).map(|index| seed.deserialize(index.into_deserializer())).transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, NotCompact> {
        seed.deserialize(&mut *self.reader)
    }
}

impl<'de> EnumAccess<'de> for &mut Reader<'de> {
    type Error = NotCompact;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), NotCompact> {
        let index = self.raw()?;
        Ok((seed.deserialize(IntoDeserializer::<NotCompact>::into_deserializer(index))?, self))
    }
}

impl<'de> VariantAccess<'de> for &mut Reader<'de> {
    type Error = NotCompact;

    fn unit_variant(self) -> Result<(), NotCompact> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, NotCompact> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, NotCompact> {
        self.deserialize_tuple(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, NotCompact> {
        visitor.visit_map(Fields { reader: self, n_fields: fields.len() as u64 })
    }
}
