//! The number types that columns may be stored in.

use half::f16;
use hdf5_reader::error::ByteOrder;
use hdf5_reader::Datatype;

/// A number type of 1, 2, 4 or 8 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Number {
    class: Class,
    size: usize,
    order: ByteOrder,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Float,
    Signed,
    Unsigned,
}

impl Number {
    /// None for what is no number, or one of an unusual size.
    pub fn of(datatype: &Datatype) -> Option<Number> {
        let (class, size, order) = match datatype {
            Datatype::FloatingPoint { size, byte_order } => (Class::Float, *size, *byte_order),
            Datatype::FixedPoint { size, signed: true, byte_order } => (Class::Signed, *size, *byte_order),
            Datatype::FixedPoint { size, byte_order, .. } | Datatype::Bitfield { size, byte_order } => {
                (Class::Unsigned, *size, *byte_order)
            }
            // h5py stores NumPy's bool as an enumeration over int8.
            Datatype::Enum { base, .. } => return Number::of(base),
            _ => return None,
        };
        let known: &[u8] = match class {
            Class::Float => &[2, 4, 8],
            _ => &[1, 2, 4, 8],
        };
        known.contains(&size).then_some(Number { class, size: size.into(), order })
    }

    /// Bytes of one value.
    pub fn size(self) -> usize {
        self.size
    }

    /// True for floats of any size.
    pub fn is_float(self) -> bool {
        self.class == Class::Float
    }

    /// True for float32.
    pub fn is_f32(self) -> bool {
        self.class == Class::Float && self.size == 4
    }

    /// True if the bytes are in this machine's order.
    pub fn is_native(self) -> bool {
        matches!(self.order, ByteOrder::LittleEndian) == cfg!(target_endian = "little")
    }

    /// The value of `size` bytes, as near as a float64 is (exact up to 2^53).
    pub fn widen(self, bytes: &[u8]) -> f64 {
        let push = |value: u64, &byte: &u8| value << 8 | u64::from(byte);
        let bits = match self.order {
            ByteOrder::BigEndian => bytes.iter().fold(0, push),
            ByteOrder::LittleEndian => bytes.iter().rev().fold(0, push),
        };
        match self.class {
            Class::Float if self.size == 2 => f16::from_bits(bits as u16).into(),
            Class::Float if self.size == 4 => f32::from_bits(bits as u32).into(),
            Class::Float => f64::from_bits(bits),
            Class::Signed => {
                let unused = 64 - 8 * self.size as u32;
                ((bits << unused) as i64 >> unused) as f64
            }
            Class::Unsigned => bits as f64,
        }
    }
}

/// A type in words, for error messages.
pub(crate) fn type_name(datatype: &Datatype) -> String {
    match datatype {
        Datatype::FixedPoint { size, .. } => format!("{}-bit integer", u32::from(*size) * 8),
        Datatype::FloatingPoint { size, .. } => format!("float{}", u32::from(*size) * 8),
        Datatype::String { .. } => "string".to_owned(),
        Datatype::Compound { .. } => "compound".to_owned(),
        Datatype::Array { .. } => "array".to_owned(),
        Datatype::Enum { base, .. } => format!("enumeration of {}", type_name(base)),
        Datatype::VarLen { .. } => "variable-length".to_owned(),
        Datatype::Opaque { .. } => "opaque".to_owned(),
        Datatype::Reference { .. } => "reference".to_owned(),
        Datatype::Bitfield { size, .. } => format!("{}-bit field", u32::from(*size) * 8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn widen(class: Class, order: ByteOrder, bytes: &[u8]) -> f64 {
        let size = bytes.len();
        Number { class, size, order }.widen(bytes)
    }

    #[test]
    fn widens_every_class_in_both_orders() {
        use ByteOrder::{BigEndian, LittleEndian};
        assert_eq!(widen(Class::Signed, LittleEndian, &[0xfe]), -2.0);
        assert_eq!(widen(Class::Unsigned, LittleEndian, &[0xfe]), 254.0);
        assert_eq!(widen(Class::Signed, LittleEndian, &(-300i16).to_le_bytes()), -300.0);
        assert_eq!(widen(Class::Signed, BigEndian, &(-70_000i32).to_be_bytes()), -70_000.0);
        assert_eq!(widen(Class::Signed, BigEndian, &i64::MIN.to_be_bytes()), -(2f64.powi(63)));
        assert_eq!(widen(Class::Unsigned, LittleEndian, &u64::MAX.to_le_bytes()), 2f64.powi(64));
        assert_eq!(widen(Class::Float, BigEndian, &1.5f32.to_be_bytes()), 1.5);
        assert_eq!(widen(Class::Float, BigEndian, &[0x3e, 0x00]), 1.5);
        assert_eq!(widen(Class::Float, LittleEndian, &(-1e300f64).to_le_bytes()), -1e300);
    }

    #[test]
    fn refuses_odd_sizes() {
        let byte_order = ByteOrder::LittleEndian;
        assert_eq!(Number::of(&Datatype::FloatingPoint { size: 3, byte_order }), None);
        let signed = false;
        assert_eq!(Number::of(&Datatype::FixedPoint { size: 3, signed, byte_order }), None);
    }
}
