//! A tensor's values as JSON: read from the text into raw contents, and written from them.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use serde::de::{DeserializeSeed, Error, SeqAccess, Visitor};
use serde::ser::{Error as _, Serialize, SerializeSeq, Serializer};
use serde_json::value::RawValue;

use super::json_error;
use crate::{Datatype, Invalid, elements, quoted, shape};

/// The raw contents that a list of values, flat or nested, stands for.
pub(super) fn read(datatype: Datatype, expected: usize, text: &RawValue) -> Result<Bytes, Invalid> {
    if matches!(datatype, Datatype::Fp16 | Datatype::Bf16) {
        return Err(Invalid::new(format!("{} as JSON values, expected as a binary tensor", datatype.name())));
    }
    // As many as are expected, but no more than the text has room for: each takes a character, and a comma or bracket.
    let room = datatype.size().map_or(0, |size| expected.min(text.get().len() / 2) * size);
    let mut values = Values { datatype, expected, found: 0, content: BytesMut::with_capacity(room) };
    let mut json = serde_json::Deserializer::from_str(text.get());
    (&mut values).deserialize(&mut json).map_err(|error| Invalid::new(format!("data: {}", json_error(&error))))?;
    if values.found < expected {
        return Err(Invalid::new(format!("data: {} value(s), expected {expected}", values.found)));
    }
    Ok(values.content.freeze())
}

struct Values {
    datatype: Datatype,
    expected: usize,
    found: usize,
    content: BytesMut,
}

impl Values {
    fn whole<E: Error>(&mut self, value: i128) -> Result<(), E> {
        macro_rules! put {
            ($type:ty) => {
                <$type>::try_from(value).map(|value| self.content.put_slice(&value.to_le_bytes())).map_err(|_| ())
            };
        }
        let put = match self.datatype {
            Datatype::Uint8 => put!(u8),
            Datatype::Uint16 => put!(u16),
            Datatype::Uint32 => put!(u32),
            Datatype::Uint64 => put!(u64),
            Datatype::Int8 => put!(i8),
            Datatype::Int16 => put!(i16),
            Datatype::Int32 => put!(i32),
            Datatype::Int64 => put!(i64),
            Datatype::Bool => match value {
                0 | 1 => {
                    self.content.put_u8(u8::from(value == 1));
                    Ok(())
                }
                _ => Err(()),
            },
            _ => return self.broken(value as f64),
        };
        put.map_err(|()| E::custom(format!("{value}, expected a value of {}", self.datatype.name())))
    }

    fn broken<E: Error>(&mut self, value: f64) -> Result<(), E> {
        match self.datatype {
            Datatype::Fp32 => self.content.put_f32_le(value as f32),
            Datatype::Fp64 => self.content.put_f64_le(value),
            _ => return Err(E::custom(format!("{value}, expected a value of {}", self.datatype.name()))),
        }
        Ok(())
    }

    fn count<E: Error>(&mut self) -> Result<(), E> {
        if self.found == self.expected {
            return Err(E::custom(format!("more than {} value(s)", self.expected)));
        }
        self.found += 1;
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for &mut Values {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &mut Values {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "values of {}, or lists of them", self.datatype.name())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(&mut *self)?.is_some() {}
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.count()?;
        if self.datatype != Datatype::Bool {
            return Err(E::custom(format!("{value}, expected a value of {}", self.datatype.name())));
        }
        self.content.put_u8(u8::from(value));
        Ok(())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.count()?;
        self.whole(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.count()?;
        self.whole(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.count()?;
        self.broken(value)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.count()?;
        if self.datatype != Datatype::Bytes {
            return Err(E::custom(format!("a text, expected a value of {}", self.datatype.name())));
        }
        let length = u32::try_from(value.len()).map_err(|_| E::custom("a text of 4 GiB or more"))?;
        self.content.put_u32_le(length);
        self.content.put_slice(value.as_bytes());
        Ok(())
    }
}

/// The most characters of JSON that a byte of raw contents comes to.
#[must_use]
pub const fn text_per_byte(datatype: Datatype) -> usize {
    match datatype {
        // `-2147483648,` and the like.
        Datatype::Uint16 | Datatype::Uint32 | Datatype::Uint64 | Datatype::Int32 | Datatype::Int64 => 3,
        // `255,`, `-32768,`, and 24 characters for a double.
        Datatype::Uint8 | Datatype::Int16 | Datatype::Fp64 => 4,
        // `-128,`, and 16 characters for a float.
        Datatype::Int8 | Datatype::Fp32 => 5,
        // `false,`, and `\u0000` in a text.
        Datatype::Bool | Datatype::Bytes => 6,
        // They are not written.
        Datatype::Fp16 | Datatype::Bf16 => 0,
    }
}

/// The values of raw contents, written as a flat list one after the other: beside the text nothing is built.
pub(super) struct Written<'a> {
    /// Of the tensor, for messages.
    name: &'a str,
    datatype: Datatype,
    count: usize,
    content: &'a Bytes,
}

impl<'a> Written<'a> {
    pub(super) fn new(
        name: &'a str,
        datatype: Datatype,
        dimensions: &[i64],
        content: &'a Bytes,
    ) -> Result<Self, Invalid> {
        let count = shape::elements(dimensions)?;
        if let Some(size) = datatype.size()
            && count.checked_mul(size) != Some(content.len())
        {
            return Err(Invalid::new(format!("{} bytes do not fill shape {dimensions:?}", content.len())));
        }
        if matches!(datatype, Datatype::Fp16 | Datatype::Bf16) {
            return Err(Invalid::new(format!("{} as JSON values: ask for it as a binary tensor", datatype.name())));
        }
        Ok(Self { name, datatype, count, content })
    }

    /// Characters that it takes at most.
    pub(super) fn text_max(&self) -> usize {
        self.content.len() * text_per_byte(self.datatype) + "[]".len()
    }

    fn unfit<E: serde::ser::Error>(&self, what: &str) -> E {
        E::custom(format!("output {}: {what}: ask for it as a binary tensor", quoted(self.name)))
    }
}

impl Serialize for Written<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.count))?;
        macro_rules! write {
            ($type:ty) => {
                write!($type, |_| true)
            };
            ($type:ty, $fits:expr) => {
                for chunk in self.content.chunks_exact(size_of::<$type>()) {
                    let value = <$type>::from_le_bytes(chunk.try_into().map_err(S::Error::custom)?);
                    let fits: fn($type) -> bool = $fits;
                    if !fits(value) {
                        // JSON has no word for them, and null is none of a float's values.
                        return Err(self.unfit("a value is not finite"));
                    }
                    list.serialize_element(&value)?;
                }
            };
        }
        match self.datatype {
            Datatype::Bool => {
                for &value in self.content {
                    list.serialize_element(&(value != 0))?;
                }
            }
            Datatype::Uint8 => write!(u8),
            Datatype::Uint16 => write!(u16),
            Datatype::Uint32 => write!(u32),
            Datatype::Uint64 => write!(u64),
            Datatype::Int8 => write!(i8),
            Datatype::Int16 => write!(i16),
            Datatype::Int32 => write!(i32),
            Datatype::Int64 => write!(i64),
            Datatype::Fp32 => write!(f32, f32::is_finite),
            Datatype::Fp64 => write!(f64, f64::is_finite),
            // Refused when it was made.
            Datatype::Fp16 | Datatype::Bf16 => {}
            Datatype::Bytes => {
                for element in elements::split(self.content.clone(), self.count).map_err(S::Error::custom)? {
                    let text = std::str::from_utf8(&element).map_err(|_| self.unfit("an element is no UTF-8 text"))?;
                    list.serialize_element(text)?;
                }
            }
        }
        list.end()
    }
}
