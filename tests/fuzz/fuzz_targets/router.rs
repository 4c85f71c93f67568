#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = mytunnel_node::fuzz_router(data);
});
