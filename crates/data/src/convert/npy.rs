//! The header of NumPy's .npy arrays and their numbers.
//!
//! Of our own, because the crates that read it bring a parser of Python and big integers: 111 kB of code for one line.
//! The format is at <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.

use std::io::{Error, Read, Result};

use half::f16;

/// NumPy itself writes 118 bytes for arrays of numbers.
const MOST_HEADER: usize = 1 << 16;

/// What stands in front of an array.
#[derive(Debug, PartialEq)]
pub(super) struct Header {
    /// `<f4`; empty for a structured array.
    pub kind: String,
    /// Stored column by column.
    pub fortran: bool,
    pub shape: Vec<u64>,
}

impl Header {
    pub fn read(from: &mut impl Read) -> Result<Header> {
        let mut start = [0; 8];
        from.read_exact(&mut start)?;
        if !start.starts_with(b"\x93NUMPY") {
            return Err(Error::other("it is no .npy array"));
        }
        let mut length = [0; 4];
        let digits = match start[6] {
            1 => 2,
            2 | 3 => 4,
            version => return Err(Error::other(format!("version {version} of .npy is unknown"))),
        };
        from.read_exact(&mut length[..digits])?;
        let length = u32::from_le_bytes(length) as usize;
        if length > MOST_HEADER {
            return Err(Error::other(format!("its header has {length} bytes")));
        }
        let mut text = vec![0; length];
        from.read_exact(&mut text)?;
        let text = std::str::from_utf8(&text).map_err(Error::other)?;
        parse(text).ok_or_else(|| Error::other("its header is damaged"))
    }

    /// Bytes of a value, none for a kind that is no number.
    pub fn size(&self) -> Option<usize> {
        match self.kind.as_bytes() {
            [b'<' | b'>' | b'=' | b'|', b'f', size @ (b'2' | b'4' | b'8')]
            | [b'<' | b'>' | b'=' | b'|', b'i' | b'u', size @ (b'1' | b'2' | b'4' | b'8')] => {
                Some((size - b'0').into())
            }
            [b'<' | b'>' | b'=' | b'|', b'b', b'1'] => Some(1),
            _ => None,
        }
    }

    /// The number in that many bytes; none for a truth value that is neither.
    pub fn value(&self, bytes: &[u8]) -> Option<f64> {
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        if self.kind.starts_with('>') {
            word[..bytes.len()].reverse();
        }
        let bits = u64::from_le_bytes(word);
        let unused = 64 - 8 * bytes.len() as u32;
        match (self.kind.as_bytes().get(1)?, bytes.len()) {
            (b'f', 2) => Some(f16::from_bits(bits as u16).to_f64()),
            (b'f', 4) => Some(f32::from_bits(bits as u32).into()),
            (b'f', _) => Some(f64::from_bits(bits)),
            (b'i', _) => Some(((bits << unused) as i64 >> unused) as f64),
            (b'b', _) => (bits < 2).then_some(bits as f64),
            _ => Some(bits as f64),
        }
    }
}

/// `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`
fn parse(text: &str) -> Option<Header> {
    let mut rest = text.trim().strip_prefix('{')?;
    let (mut kind, mut fortran, mut shape) = (None, None, None);
    while let Some((key, after)) = quoted(rest) {
        let value = after.trim_start().strip_prefix(':')?.trim_start();
        rest = match key {
            "descr" if value.starts_with('[') => {
                // Fields of a structure: no number is made of it, so the rest is not looked for in it.
                kind = Some(String::new());
                &value[value.rfind(']')? + 1..]
            }
            "descr" => {
                let (found, rest) = quoted(value)?;
                kind = Some(found.to_owned());
                rest
            }
            "fortran_order" => {
                fortran = Some(value.starts_with("True"));
                value.strip_prefix("True").or_else(|| value.strip_prefix("False"))?
            }
            "shape" => {
                let (inside, rest) = value.strip_prefix('(')?.split_once(')')?;
                let sizes = inside.split(',').map(str::trim).filter(|size| !size.is_empty());
                shape = Some(sizes.map(|size| size.parse().ok()).collect::<Option<Vec<u64>>>()?);
                rest
            }
            _ => return None,
        };
        rest = rest.trim_start();
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    (rest.trim() == "}").then_some(Header { kind: kind?, fortran: fortran?, shape: shape? })
}

/// A text in quotes, and what follows.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start();
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    text[1..].split_once(quote)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(kind: &str, fortran: bool, shape: &[u64]) -> Header {
        Header { kind: kind.to_owned(), fortran, shape: shape.to_vec() }
    }

    #[test]
    fn headers_are_read_as_python_writes_them() {
        for (text, expected) in [
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }   \n", header("<f4", false, &[3, 4])),
            ("{\"shape\":(7,),\"fortran_order\":True,\"descr\":\"|b1\"}", header("|b1", true, &[7])),
            ("{'descr': '<i8', 'fortran_order': False, 'shape': (), }", header("<i8", false, &[])),
            (
                "{'descr': [('a', '<f4'), ('b', '<i2')], 'fortran_order': False, 'shape': (2,), }",
                header("", false, &[2]),
            ),
        ] {
            assert_eq!(parse(text), Some(expected), "{text}");
        }
        for text in [
            "",
            "{}",
            "{'descr': '<f4', 'fortran_order': False}",
            "{'descr': '<f4', 'fortran_order': maybe, 'shape': (3,)}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (-3,)}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), 'x': 1}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (3,)",
            "{'descr': '<f4",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn values_of_every_kind() {
        for (kind, bytes, value) in [
            ("<f2", &[0, 0x3c][..], 1.0),
            (">f2", &[0x3c, 0], 1.0),
            ("<f4", &1.5_f32.to_le_bytes(), 1.5),
            (">f8", &(-2.5_f64).to_be_bytes(), -2.5),
            ("|i1", &[0xff], -1.0),
            ("<i2", &[0xfe, 0xff], -2.0),
            (">i8", &(-3_i64).to_be_bytes(), -3.0),
            ("|u1", &[0xff], 255.0),
            ("<u8", &7_u64.to_le_bytes(), 7.0),
            ("|b1", &[1], 1.0),
        ] {
            let header = header(kind, false, &[1]);
            assert_eq!((header.size(), header.value(bytes)), (Some(bytes.len()), Some(value)), "{kind}");
        }
        assert_eq!(header("|b1", false, &[1]).value(&[2]), None);
        for kind in ["<U3", "|S1", "<c8", "|O", "<f16", "<M8[s]", ""] {
            assert_eq!(header(kind, false, &[1]).size(), None, "{kind}");
        }
    }
}
