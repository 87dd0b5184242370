//! A Parquet file is refused, or converted to a file that can be read.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (_folder, path) = drcorl_fuzz::file("input.parquet", bytes);
    drcorl_fuzz::converted(&path, true);
});
