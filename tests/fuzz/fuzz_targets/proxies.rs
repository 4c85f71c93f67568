#![no_main]

#[path = "../src/ingress.rs"]
#[allow(dead_code, reason = "each target has one of its functions")]
mod ingress;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    ingress::proxies(data);
});
