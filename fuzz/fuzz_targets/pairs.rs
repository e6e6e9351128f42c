#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| visage_fuzz::targets::pairs_file(data));
