#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| callosum_testkit::fuzz::session(data, std::time::Instant::now()));
