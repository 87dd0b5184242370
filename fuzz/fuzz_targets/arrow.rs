//! A dataset of Minari with one file of Arrow's is refused, or converted to a file that can be read.
#![no_main]

const ABOUT: &[u8] = br#"{"total_episodes": 1, "data_format": "arrow"}"#;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("a place for temporary files");
    let data = folder.path().join("data");
    std::fs::create_dir_all(data.join("0")).expect("room for temporary files");
    std::fs::write(data.join("metadata.json"), ABOUT).expect("room for temporary files");
    std::fs::write(data.join("0/part-0.arrow"), bytes).expect("room for temporary files");
    drcorl_fuzz::converted(&data, false);
});
