//! Random sequences against naive models, and against the books.
//!
//! The environment variable `PROPTEST_CASES` sets how many sequences each test tries.

mod deadlines;
mod dedup;
mod everything;
mod keyed;
mod lanes;
mod queue;
mod routing;

use proptest::prelude::ProptestConfig;

/// `few` sequences, unless the environment says how many.
fn cases(few: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok());
    ProptestConfig::with_cases(asked.unwrap_or(few))
}
