#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../checks/event.rs"]
mod check;

fuzz_target!(|data: &[u8]| check::check(data));
