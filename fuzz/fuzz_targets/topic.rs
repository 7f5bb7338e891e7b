#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../checks/topic.rs"]
mod check;

fuzz_target!(|data: &[u8]| check::check(data));
