//! A tensor's values as JSON: read from the text into raw contents, and written from them.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use serde::de::{DeserializeSeed, Error, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::{Datatype, Invalid, elements, shape};

/// The raw contents that a list of values, flat or nested, stands for.
pub(super) fn read(datatype: Datatype, expected: usize, text: &RawValue) -> Result<Bytes, Invalid> {
    if matches!(datatype, Datatype::Fp16 | Datatype::Bf16) {
        return Err(Invalid::new(format!("{} as JSON values, expected as a binary tensor", datatype.name())));
    }
    let mut values = Values { datatype, expected, found: 0, content: BytesMut::new() };
    let mut json = serde_json::Deserializer::from_str(text.get());
    (&mut values).deserialize(&mut json).map_err(|error| Invalid::new(format!("data: {error}")))?;
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

/// The values of raw contents as a flat list.
pub(super) fn write(datatype: Datatype, dimensions: &[i64], content: &Bytes) -> Result<Value, Invalid> {
    let count = shape::elements(dimensions)?;
    if let Some(size) = datatype.size()
        && count.checked_mul(size) != Some(content.len())
    {
        return Err(Invalid::new(format!("{} bytes do not fill shape {dimensions:?}", content.len())));
    }
    macro_rules! list {
        ($type:ty) => {
            content
                .chunks_exact(size_of::<$type>())
                .map(|chunk| Value::from(<$type>::from_le_bytes(chunk.try_into().unwrap_or_default())))
                .collect()
        };
    }
    let values: Vec<Value> = match datatype {
        Datatype::Bool => content.iter().map(|&value| Value::from(value != 0)).collect(),
        Datatype::Uint8 => list!(u8),
        Datatype::Uint16 => list!(u16),
        Datatype::Uint32 => list!(u32),
        Datatype::Uint64 => list!(u64),
        Datatype::Int8 => list!(i8),
        Datatype::Int16 => list!(i16),
        Datatype::Int32 => list!(i32),
        Datatype::Int64 => list!(i64),
        Datatype::Fp32 => list!(f32),
        Datatype::Fp64 => list!(f64),
        Datatype::Fp16 | Datatype::Bf16 => {
            return Err(Invalid::new(format!("{} as JSON values: ask for it as a binary tensor", datatype.name())));
        }
        Datatype::Bytes => elements::split(content.clone(), count)?
            .iter()
            .map(|element| std::str::from_utf8(element).map(Value::from))
            .collect::<Result<_, _>>()
            .map_err(|_| Invalid::new("an element is no UTF-8 text: ask for it as a binary tensor"))?,
    };
    // JSON has no word for them, and null is none of a float's values.
    if values.iter().any(Value::is_null) {
        return Err(Invalid::new("a value is not finite: ask for it as a binary tensor"));
    }
    Ok(values.into())
}
