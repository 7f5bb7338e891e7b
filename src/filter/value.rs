//! Values as filters see them: literals, what paths lead to, and how two of them compare.

use std::cmp::Ordering;

use crate::event::{Id, Node, Priority};

/// A value that a field may be compared with.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    /// JSON's null.
    Null,
    /// A boolean.
    Bool(bool),
    /// A number.
    Number(f64),
    /// An integer, compared exactly.
    Int(i64),
    /// An integer that may lie above `i64`, compared exactly.
    Uint(u64),
    /// Text.
    Str(String),
}

impl Literal {
    pub(super) fn value(&self) -> Value<'_> {
        match self {
            Literal::Null => Value::Null,
            Literal::Bool(value) => Value::Bool(*value),
            Literal::Number(value) => Value::Float(*value),
            Literal::Int(value) => Value::Int(*value),
            Literal::Uint(value) => Value::Uint(*value),
            Literal::Str(value) => Value::Str(value),
        }
    }
}

/// One value of an event or of an expression, borrowed from it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    /// Null, or nothing there.
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    Str(&'a str),
    /// Text whose order is that of urgency.
    Priority(Priority),
    /// Text that is formatted only where it is compared.
    Id(&'a Id),
    /// A list or a map, which compares with nothing.
    Container,
}

impl<'a> From<Option<Node<'a>>> for Value<'a> {
    fn from(node: Option<Node<'a>>) -> Self {
        match node {
            None | Some(Node::Null) => Value::Null,
            Some(Node::Bool(value)) => Value::Bool(value),
            Some(Node::Int(value)) => Value::Int(value),
            Some(Node::Uint(value)) => Value::Uint(value),
            Some(Node::Float(value)) => Value::Float(value),
            Some(Node::Str(value)) => Value::Str(value),
            Some(Node::List(_) | Node::Map(_)) => Value::Container,
        }
    }
}

impl<'a> From<&'a serde_json::Value> for Value<'a> {
    fn from(value: &'a serde_json::Value) -> Self {
        match value {
            serde_json::Value::Null => Value::Null,
            serde_json::Value::Bool(value) => Value::Bool(*value),
            serde_json::Value::String(value) => Value::Str(value),
            serde_json::Value::Number(number) => {
                let int = number.as_i64().map(Value::Int);
                let int = int.or_else(|| number.as_u64().map(Value::Uint));
                int.or_else(|| number.as_f64().map(Value::Float)).unwrap_or(Value::Null)
            }
            serde_json::Value::Array(_) | serde_json::Value::Object(_) => Value::Container,
        }
    }
}

impl Value<'_> {
    /// Whether both are the same value.
    pub fn equals(self, other: Value<'_>) -> bool {
        match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Str(a), Value::Str(b)) => a == b, // unlike `cmp`, looks at the lengths first
            _ => self.compare(other) == Some(Ordering::Equal),
        }
    }

    /// Their order; `None` between values that have none.
    pub fn compare(self, other: Value<'_>) -> Option<Ordering> {
        let mut buffer = [0; Id::TEXT_LEN];
        match (self, other) {
            (Value::Str(a), Value::Str(b)) => Some(a.cmp(b)),
            (Value::Priority(a), Value::Priority(b)) => Some(a.cmp(&b)),
            (Value::Priority(a), Value::Str(b)) => Some(a.cmp(&Priority::parse(b)?)),
            (Value::Str(a), Value::Priority(b)) => Some(Priority::parse(a)?.cmp(&b)),
            (Value::Id(id), other) => Value::Str(id.text(&mut buffer)).compare(other),
            (other, Value::Id(id)) => other.compare(Value::Str(id.text(&mut buffer))),
            (Value::Int(a), Value::Int(b)) => Some(a.cmp(&b)),
            (Value::Float(a), Value::Float(b)) => a.partial_cmp(&b),
            (Value::Float(a), b) => compare_exactly(b.integer()?, a).map(Ordering::reverse),
            (a, Value::Float(b)) => compare_exactly(a.integer()?, b),
            (a, b) => Some(a.integer()?.cmp(&b.integer()?)),
        }
    }

    fn integer(self) -> Option<i128> {
        match self {
            Value::Int(value) => Some(value.into()),
            Value::Uint(value) => Some(value.into()),
            _ => None,
        }
    }
}

/// Compares without rounding the integer, which lies between `i64::MIN` and `u64::MAX`.
fn compare_exactly(integer: i128, float: f64) -> Option<Ordering> {
    if float.is_nan() {
        return None;
    }
    // The cast cuts the fraction off, and saturates far outside the integer's range.
    let whole = float as i128;
    Some(integer.cmp(&whole).then_with(|| 0.0f64.total_cmp(&(float.fract() + 0.0))))
}

/// The literals of an `in` list, sorted so that a long one is searched and not walked.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Set {
    null: bool,
    /// Whether `false` and whether `true` is in it.
    bools: [bool; 2],
    numbers: Vec<Literal>,
    texts: Vec<String>,
}

impl Set {
    pub fn new(items: impl IntoIterator<Item = Literal>) -> Set {
        let mut set = Set::default();
        for item in items {
            match item {
                Literal::Null => set.null = true,
                Literal::Bool(value) => set.bools[usize::from(value)] = true,
                Literal::Str(text) => set.texts.push(text),
                number => set.numbers.push(number),
            }
        }
        set.texts.sort_unstable();
        set.numbers.sort_by(|a, b| a.value().compare(b.value()).unwrap_or(Ordering::Equal));
        set
    }

    pub fn contains(&self, value: Value<'_>) -> bool {
        match value {
            Value::Null => self.null,
            Value::Bool(value) => self.bools[usize::from(value)],
            Value::Str(text) => self.has_text(text),
            Value::Priority(priority) => self.has_text(priority.as_str()),
            Value::Id(id) => self.has_text(id.text(&mut [0; Id::TEXT_LEN])),
            Value::Container => false,
            Value::Int(_) | Value::Uint(_) | Value::Float(_) => self
                .numbers
                .binary_search_by(|n| n.value().compare(value).unwrap_or(Ordering::Less))
                .is_ok(),
        }
    }

    fn has_text(&self, text: &str) -> bool {
        self.texts.binary_search_by(|candidate| candidate.as_str().cmp(text)).is_ok()
    }
}
