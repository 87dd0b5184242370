//! A checkpoint is refused, or holds what its digest covers.
#![no_main]

use drcorl_nn::checkpoint::State;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (_folder, path) = drcorl_fuzz::file("checkpoint.safetensors", bytes);
    if let Ok((state, _)) = State::read(&path) {
        assert!(state.restoring());
    }
});
