//! Compressions that h5py and hdf5plugin write beside gzip.

use std::io::Read;

use hdf5_reader::error::Error as H5Error;
use hdf5_reader::filters::FilterRegistry;

/// h5py's own, and those of hdf5plugin:
/// <https://github.com/HDFGroup/hdf5_plugins/blob/master/docs/RegisteredFilterPlugins.md>.
const LZF: u16 = 32000;
const ZSTD: u16 = 32015;
const NAMES: [(u16, &str); 9] = [
    (307, "bzip2"),
    (LZF, "lzf"),
    (32001, "blosc"),
    (32004, "lz4"),
    (32008, "bitshuffle"),
    (32013, "zfp"),
    (ZSTD, "zstd"),
    (32017, "sz"),
    (32026, "blosc2"),
];

pub(super) const REMEDY: &str =
    "write the file with gzip, lzf or zstd: h5repack -f GZIP=4 IN OUT, or h5py's create_dataset(.., compression=\"gzip\")";

/// The decoder's own filters, lzf and zstd. `limit` bounds what one chunk may become.
pub(super) fn registry(limit: usize) -> FilterRegistry {
    let mut registry = FilterRegistry::new();
    registry.register(LZF, Box::new(move |_, data, _| lzf(data, limit)));
    registry.register(ZSTD, Box::new(move |_, data, _| zstd(data, limit)));
    registry
}

/// What the decoder calls "filter id N", by its name.
pub(super) fn unsupported(text: &str) -> String {
    let id = text.trim_start_matches("filter id ").parse::<u16>().ok();
    match NAMES.iter().find(|(known, _)| Some(*known) == id) {
        Some((id, name)) => format!("is compressed with {name} (HDF5 filter {id}), which is not read"),
        None => format!("is compressed in a way that is not read ({text})"),
    }
}

fn damaged(text: &str) -> H5Error {
    H5Error::DecompressionError(text.to_owned())
}

fn zstd(data: &[u8], limit: usize) -> Result<Vec<u8>, H5Error> {
    let failed = |e: std::io::Error| damaged(&format!("zstd: {e}"));
    let decoder = zstd::stream::read::Decoder::new(data).map_err(failed)?;
    let mut bytes = Vec::new();
    decoder.take(limit as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > limit {
        return Err(H5Error::ResourceLimit(format!("zstd: more than {limit} bytes")));
    }
    Ok(bytes)
}

/// LibLZF's format: a byte below 32 begins a run of that many literals and one; any other holds a length (three bits, 7
/// is continued in the next byte) and the high bits of a distance back.
fn lzf(data: &[u8], limit: usize) -> Result<Vec<u8>, H5Error> {
    let short = || damaged("lzf: the chunk ends too early");
    let mut bytes: Vec<u8> = Vec::with_capacity(data.len().saturating_mul(2).min(limit));
    let mut rest = data;
    let mut next = |n: usize| -> Option<&[u8]> {
        let (taken, left) = rest.split_at_checked(n)?;
        rest = left;
        Some(taken)
    };
    while let Some(&[control]) = next(1) {
        if control < 32 {
            bytes.extend_from_slice(next(usize::from(control) + 1).ok_or_else(short)?);
        } else {
            let mut length = usize::from(control >> 5) + 2;
            if length == 9 {
                length += usize::from(next(1).ok_or_else(short)?[0]);
            }
            let distance = usize::from(control & 31) << 8 | usize::from(next(1).ok_or_else(short)?[0]);
            let start = bytes.len().checked_sub(distance + 1).ok_or_else(|| damaged("lzf: points before its start"))?;
            // The source may overlap what is being written: one byte repeated is a distance of 1.
            for at in start..start + length {
                bytes.push(bytes[at]);
            }
        }
        if bytes.len() > limit {
            return Err(H5Error::ResourceLimit(format!("lzf: more than {limit} bytes")));
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lzf_repeats_and_refuses_what_is_cut() {
        // Two literals, then three and ten bytes from the start on.
        let packed = [1, b'a', b'b', 0x20, 1, 0xe0, 1, 4];
        assert_eq!(lzf(&packed, 100).unwrap(), b"ababaababaababa");
        assert!(matches!(lzf(&packed, 10), Err(H5Error::ResourceLimit(_))));
        for len in [1, 2, 4, 6, 7] {
            assert!(lzf(&packed[..len], 100).is_err(), "{len}");
        }
        assert!(lzf(&[0x20, 0], 100).is_err());
    }

    #[test]
    fn unread_filters_have_names() {
        assert_eq!(unsupported("filter id 32001"), "is compressed with blosc (HDF5 filter 32001), which is not read");
        assert!(unsupported("filter id 5000").contains("5000"));
    }
}
