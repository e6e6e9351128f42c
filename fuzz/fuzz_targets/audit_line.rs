#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| visage_fuzz::targets::audit_line(data));
