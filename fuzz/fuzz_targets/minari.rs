//! A dataset of Minari in HDF5 is refused, or converted to a file that can be read.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (_folder, path) = drcorl_fuzz::file("input.hdf5", bytes);
    drcorl_fuzz::converted(&path, false);
});
