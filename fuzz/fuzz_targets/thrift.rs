#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| callosum_thrift::fuzzing::message(data));
