//! The core without Python: `cargo bench`, or `cargo bench -- routing` for one group.
//!
//! What users see is measured by `benches/python`; these tell which part of it a change moved.

mod encoding;
mod filters;
mod mailbox;
mod routing;
mod support;

use criterion::{criterion_group, criterion_main};

criterion_group!(core, mailbox::bench, routing::bench, filters::bench, encoding::bench);
criterion_main!(core);
