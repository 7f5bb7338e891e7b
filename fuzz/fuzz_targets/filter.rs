#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../checks/filter.rs"]
mod check;

fuzz_target!(|data: &[u8]| check::check(data));
