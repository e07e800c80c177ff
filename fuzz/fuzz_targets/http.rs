//! Any two streams, in any pieces and with any holes, as HTTP: no panic, and after both ends nothing is left open.
#![no_main]

mod streams;

use libfuzzer_sys::fuzz_target;
use masdeepflow::analyze::protocol::http1::HttpPairing;
use masdeepflow::analyze::template;

fuzz_target!(|input: &[u8]| {
    let Some((flags, rest)) = input.split_first() else {
        return;
    };
    let joined = flags & 1 != 0;
    streams::feed(HttpPairing::new(joined), joined, rest, |_| {});
    if let Ok(path) = std::str::from_utf8(input) {
        template::of(path);
    }
});
