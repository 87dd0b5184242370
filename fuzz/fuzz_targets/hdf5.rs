//! A file of DSRL's layout is refused, or has finite columns of one length.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (_folder, path) = drcorl_fuzz::file("data.hdf5", bytes);
    drcorl_fuzz::read(&path);
});
