#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    mytunnel_relay::fuzz::messages(data);
});
