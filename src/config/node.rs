//! What every format is parsed into, and how much of it there may be.

use serde_json::Value;

/// Most bytes of one file.
pub(super) const MAX_BYTES: usize = 1 << 20;
/// Most containers inside each other.
pub(super) const MAX_DEPTH: usize = 64;
/// Most values and keys in one file.
pub(super) const MAX_NODES: usize = 20_000;

/// Why a text is no document: the message never repeats the text.
#[derive(Debug)]
pub(super) struct SyntaxError {
    pub(super) line: Option<u32>,
    pub(super) message: String,
}

impl SyntaxError {
    pub(super) fn new(line: Option<u32>, message: impl Into<String>) -> Self {
        SyntaxError { line, message: message.into() }
    }
}

/// A value with the line on which it, or its key, stands.
pub(super) enum Node {
    Scalar(Value),
    List(Vec<(u32, Node)>),
    Map(Vec<(String, u32, Node)>),
}
