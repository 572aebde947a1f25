//! One target of the crate, for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| redis_sentinel_fuzz::conversation::run(input));
