#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| taal_fuzz::run_named("gguf", input));
