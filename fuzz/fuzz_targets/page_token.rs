#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| visage_fuzz::targets::page_token(data));
