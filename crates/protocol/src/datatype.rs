//! The protocol's element types: their names in messages, their names in model configurations, their sizes.

use crate::wire::DataType;

/// Type of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Datatype {
    Bool,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Int8,
    Int16,
    Int32,
    Int64,
    Fp16,
    Bf16,
    Fp32,
    Fp64,
    /// Each element has a length of its own ([`crate::elements`]).
    Bytes,
}

/// Name in messages, name in configurations, bytes of an element.
const TABLE: [(Datatype, &str, DataType, Option<usize>); 14] = [
    (Datatype::Bool, "BOOL", DataType::TypeBool, Some(1)),
    (Datatype::Uint8, "UINT8", DataType::TypeUint8, Some(1)),
    (Datatype::Uint16, "UINT16", DataType::TypeUint16, Some(2)),
    (Datatype::Uint32, "UINT32", DataType::TypeUint32, Some(4)),
    (Datatype::Uint64, "UINT64", DataType::TypeUint64, Some(8)),
    (Datatype::Int8, "INT8", DataType::TypeInt8, Some(1)),
    (Datatype::Int16, "INT16", DataType::TypeInt16, Some(2)),
    (Datatype::Int32, "INT32", DataType::TypeInt32, Some(4)),
    (Datatype::Int64, "INT64", DataType::TypeInt64, Some(8)),
    (Datatype::Fp16, "FP16", DataType::TypeFp16, Some(2)),
    (Datatype::Bf16, "BF16", DataType::TypeBf16, Some(2)),
    (Datatype::Fp32, "FP32", DataType::TypeFp32, Some(4)),
    (Datatype::Fp64, "FP64", DataType::TypeFp64, Some(8)),
    (Datatype::Bytes, "BYTES", DataType::TypeString, None),
];

impl Datatype {
    fn row(self) -> &'static (Self, &'static str, DataType, Option<usize>) {
        // In the order of the variants, which a test holds.
        &TABLE[self as usize]
    }

    /// As messages spell it.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// By the name that messages use; `None` if there is no such type.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// As model configurations number it.
    #[must_use]
    pub fn config(self) -> DataType {
        self.row().2
    }

    /// By the number in a model configuration.
    #[must_use]
    pub fn of_config(number: i32) -> Option<Self> {
        TABLE.iter().find(|row| row.2 as i32 == number).map(|row| row.0)
    }

    /// Bytes of one element; `None` where each has its own length.
    #[must_use]
    pub fn size(self) -> Option<usize> {
        self.row().3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_found_by_both_of_its_names() {
        for (at, &(datatype, name, config, size)) in TABLE.iter().enumerate() {
            assert_eq!(datatype as usize, at, "the table stands in the order of the variants");
            assert_eq!(datatype.size(), size);
            assert_eq!(Datatype::parse(name), Some(datatype));
            assert_eq!(datatype.name(), name);
            assert_eq!(Datatype::of_config(config as i32), Some(datatype));
            assert_eq!(datatype.config(), config);
        }
        assert_eq!(Datatype::parse("fp32"), None);
        assert_eq!(Datatype::parse("TYPE_FP32"), None);
        for unknown in [-1, 0, 15, i32::MAX] {
            assert_eq!(Datatype::of_config(unknown), None);
        }
    }
}
