use std::cmp::Ordering;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Filter, Literal, MAX_LENGTH, MAX_LIST, MAX_NESTING};
use crate::error::{Error, Kind};
use crate::event::Event;

fn event_with(payload: &Value) -> Event {
    let json = json!({
        "event_id": "evt_0190f2f39e5b7c3e8a1b2c3d4e5f6071", "event_type": "market_data.price",
        "timestamp": 1000, "producer": "feed", "version": 2, "payload": payload,
        "metadata": {
            "priority": "high", "correlation_id": "corr_1", "retry_count": 3, "key": "BTC",
            "deadline": 2000, "tenant": {"id": 7, "name": "t1"},
        },
    });
    Event::from_json(&json.to_string()).expect("valid")
}

fn event() -> Event {
    event_with(&json!({
        "symbol": "BTC", "price": 5, "rate": 2.5, "big": u64::MAX, "deep": {"ok": true, "a b": 1},
        "nothing": null, "list": [1, 2], "edge": 9_007_199_254_740_993_i64, "5m": "x",
        "order-id": "o", "text": "it's \"so\" \\ ü",
    }))
}

fn accepts(text: &str) -> bool {
    Filter::parse(text).unwrap_or_else(|error| panic!("{error}")).accepts(&event())
}

fn refused(text: &str) -> Error {
    let error = Filter::parse(text).expect_err(text);
    assert_eq!(error.kind(), Kind::Configuration);
    error
}

#[test]
fn conditions_read_payload_and_envelope() {
    for (path, value, passes) in [
        ("payload.symbol", Literal::Str("BTC".into()), true),
        ("payload.symbol", Literal::Str("ETH".into()), false),
        ("payload.price", Literal::Number(5.0), true),
        ("payload.price", Literal::Int(5), true),
        ("payload.price", Literal::Uint(5), true),
        ("payload.price", Literal::Str("5".into()), false),
        ("payload.big", Literal::Uint(u64::MAX), true),
        ("payload.big", Literal::Number(u64::MAX as f64), false),
        ("payload.deep.ok", Literal::Bool(true), true),
        ("payload.deep.a b", Literal::Int(1), true),
        ("payload.absent", Literal::Null, true),
        ("metadata.priority", Literal::Str("high".into()), true),
        ("metadata.key", Literal::Str("BTC".into()), true),
        ("metadata.tenant.name", Literal::Str("t1".into()), true),
        ("metadata.tenant", Literal::Null, false),
        ("producer", Literal::Str("feed".into()), true),
        ("event_type", Literal::Str("market_data.price".into()), true),
    ] {
        let filter = Filter::default().and_equals(path, value).expect(path);
        assert_eq!(filter.accepts(&event()), passes, "{path}");
    }
}

#[test]
fn a_path_that_leads_nowhere_is_refused() {
    for path in ["symbol", "payload", "payload..x", "", "producer.name", "metadata.key.x"] {
        assert!(Filter::default().and_equals(path, Literal::Null).is_err(), "{path}");
    }
}

#[test]
fn the_dict_form_refuses_what_can_never_match() {
    let refuse = |path: &str, value| {
        Filter::default().and_equals(path, value).expect_err(path).message().to_owned()
    };
    let says = refuse("metadata.priority", Literal::Str("hihg".into()));
    assert!(says.contains("did you mean `high`?"), "{says}");
    let says = refuse("payload.x", Literal::Number(f64::NAN));
    assert!(says.contains("not finite"), "{says}");
}

#[test]
fn both_forms_build_the_same_filter() {
    let dict = Filter::default()
        .and_equals("payload.symbol", Literal::Str("BTC".into()))
        .and_then(|filter| filter.and_equals("metadata.key", Literal::Null))
        .expect("valid");
    let text = Filter::parse("payload.symbol == 'BTC' and metadata.key == None").expect("valid");
    assert_eq!(dict, text);

    let either = Filter::parse("payload.a == 1 or payload.symbol == 'BTC'").expect("valid");
    let both = either.and_equals("payload.price", Literal::Int(6)).expect("valid");
    assert!(!both.accepts(&event()), "a condition is added to the whole, not to its last part");
    assert!(Filter::default().is_empty() && !both.is_empty());
    assert!(Filter::default().accepts(&event()));
}

#[test]
fn expressions_hold() {
    for text in [
        "payload.symbol == \"BTC\"",
        "payload.symbol=='BTC'",
        "'BTC' == payload.symbol",
        "payload.symbol != 'ETH'",
        "payload.price >= 5 and payload.price <= 5.0",
        "payload.price > -1.5e2",
        "payload.rate < 2.75",
        "payload.symbol < 'BTD'",
        "payload.deep.ok == true and payload.deep.ok == True",
        "payload.deep.ok != false and payload.deep.ok != False",
        "payload.nothing == null and payload.nothing == None",
        "payload.5m == 'x' and payload.order-id == 'o'",
        "payload.deep.'a b' == 1",
        r#"payload.text == "it's \"so\" \\ \u00fc""#,
        r#"payload.text == 'it\'s "so" \\ ü'"#,
        "payload.symbol in ['ETH', 'BTC',]",
        "payload.symbol not in ['ETH', 1, null]",
        "payload.price in [1, 5.0]",
        "payload.absent in [null]",
        "not payload.absent in []",
        "payload.price == payload.price",
        "version == 2 and timestamp > 999 and timestamp < 1001",
        "producer == 'feed' and event_type == 'market_data.price'",
        "event_id == 'evt_0190f2f39e5b7c3e8a1b2c3d4e5f6071'",
        "metadata.correlation_id == 'corr_1' and metadata.causation_id == null",
        "metadata.correlation_id in ['corr_0', 'corr_1']",
        "metadata.retry_count == 3 and metadata.deadline == 2000",
        "metadata.reply_to == null and metadata.traceparent == null",
        "metadata.tenant.id == 7 and metadata.tenant.absent == null",
        "metadata.priority in ['high', 'critical']",
        "\n  (payload.symbol == 'BTC')\n  and\tnot (payload.price == 6)\n",
    ] {
        assert!(accepts(text), "{text}");
    }
}

#[test]
fn and_binds_closer_than_or_and_not_closest() {
    let (yes, no) = ("version == 2", "version == 3");
    for (text, holds) in [
        (format!("{yes} or {yes} and {no}"), true),
        (format!("({yes} or {yes}) and {no}"), false),
        (format!("not {no} and {no}"), false),
        (format!("not ({no} and {no})"), true),
        (format!("not {yes} or {yes}"), true),
        (format!("not not {yes}"), true),
    ] {
        assert_eq!(accepts(&text), holds, "{text}");
    }
}

#[test]
fn what_is_missing_is_null() {
    for (text, holds) in [
        ("payload.absent == null", true),
        ("payload.absent != null", false),
        ("payload.absent == 1", false),
        ("payload.absent != 1", true),
        ("payload.absent != false", true),
        ("payload.absent < 1", false),
        ("payload.absent >= 1", false),
        ("payload.absent <= null", false),
        ("payload.absent == payload.nothing", true),
        ("payload.symbol.deeper == null", true),
        ("metadata.absent == null", true),
    ] {
        assert_eq!(accepts(text), holds, "{text}");
    }
}

#[test]
fn unlike_types_have_no_order_and_are_not_equal() {
    for op in ["<", "<=", ">", ">=", "=="] {
        for text in [
            format!("payload.symbol {op} 5"),
            format!("payload.price {op} '5'"),
            format!("payload.deep.ok {op} 1"),
            format!("payload.list {op} payload.list"),
            format!("payload.deep {op} 'x'"),
            format!("payload.list {op} null"),
        ] {
            assert!(!accepts(&text), "{text}");
        }
    }
    assert!(!accepts("payload.deep.ok >= true"), "booleans have no order");
    assert!(accepts("payload.list != null"), "a list is not missing");
}

#[test]
fn numbers_compare_without_rounding() {
    for (text, holds) in [
        ("payload.edge == 9007199254740993", true),
        ("payload.edge == 9007199254740992.0", false),
        ("payload.edge > 9007199254740992.0", true),
        ("payload.big == 18446744073709551615", true),
        ("payload.big == 18446744073709551616.0", false),
        ("payload.big < 18446744073709551616.0", true),
        ("payload.big > 9223372036854775807", true),
        ("payload.big > -9223372036854775808", true),
        ("payload.big in [18446744073709551614, 18446744073709551615]", true),
        ("payload.big in [18446744073709551616.0]", false),
        ("payload.price > 4.999", true),
        ("payload.price < 5.001", true),
        ("-5 < -4.5", true),
        ("-4 > -4.5", true),
        ("0 == -0.0", true),
        ("1e300 > 18446744073709551615", true),
        ("-1e300 < -9223372036854775808", true),
    ] {
        assert_eq!(accepts(text), holds, "{text}");
    }
}

#[test]
fn priorities_are_ordered_by_urgency() {
    for (text, holds) in [
        ("metadata.priority == 'high'", true),
        ("metadata.priority > 'normal'", true),
        ("metadata.priority < 'critical'", true),
        ("'low' < metadata.priority", true),
        ("metadata.priority >= payload.symbol", false),
        ("metadata.priority == metadata.priority", true),
        ("metadata.priority == null", false),
    ] {
        assert_eq!(accepts(text), holds, "{text}");
    }
}

#[test]
fn mistakes_are_pointed_at() {
    let error = refused("payload.symbol = 'BTC'");
    assert_eq!(
        error.message(),
        "cannot read the filter at column 16: `=` does not compare\n    \
         payload.symbol = 'BTC'\n                   ^ use `==`"
    );
    assert_eq!(error.get("position"), Some("15"));
    assert_eq!(error.get("suggestion"), Some("use `==`"));

    let error = refused("payload.a == 1\nand 'ü' == ?");
    assert_eq!(
        error.message(),
        "cannot read the filter at line 2, column 12: '?' means nothing here\n    \
         and 'ü' == ?\n               ^"
    );

    let long = format!("payload.a in [{}] or ?{}", "1, ".repeat(100), " ".repeat(100));
    let error = refused(&long);
    let lines: Vec<&str> = error.message().lines().collect();
    let caret = lines[2].find('^').expect("a caret");
    assert_eq!(lines[1].chars().nth(caret), Some('?'), "{error}");
    assert!(lines[1].chars().count() < 100, "{error}");
}

#[test]
fn mistakes_come_with_a_suggestion() {
    for (text, says) in [
        ("paylod.symbol == 'BTC'", "did you mean `payload.symbol`?"),
        ("Payload.symbol == 'BTC'", "did you mean `payload.symbol`?"),
        ("symbol == 'BTC'", "did you mean `payload.symbol`?"),
        ("priority == 'high'", "did you mean `metadata.priority`?"),
        ("event_typ == 'a.b'", "did you mean `event_type`?"),
        ("meta.x == 1", "did you mean `payload.meta.x`?"),
        ("payload == 1", "name a field in it, as in `payload.symbol`"),
        ("producer.name == 'x'", "`producer` has no fields"),
        ("payload.symbol == BTC", "text stands in quotes: `\"BTC\"`"),
        ("payload.symbol in [BTC]", "text stands in quotes: `\"BTC\"`"),
        ("payload.symbol in ('BTC')", "a list is written"),
        ("payload.symbol in 'BTC'", "a list is written"),
        ("payload.symbol == ['BTC']", "lists follow `in`"),
        ("payload.a == 1 && payload.b == 1", "use `and`"),
        ("payload.a == 1 AND payload.b == 1", "use `and`"),
        ("payload.a == 1 || payload.b == 1", "use `or`"),
        ("!(payload.a == 1)", "use `not`"),
        ("NOT payload.a == 1", "use `not`"),
        ("payload.a === 1", "use `==`"),
        ("payload.a <> 1", "use `!=`"),
        ("payload.a => 1", "use `>=`"),
        ("payload.a is None", "use `==`"),
        ("payload.a == TRUE", "use `true`"),
        ("payload.active", "compare it, for instance with `== true`"),
        ("not payload.active and payload.b == 1", "compare it"),
        ("1 < payload.a < 5", "join two of them with `and`"),
        ("payload.a[0] == 1", "not into lists"),
        ("payload.a. == 1", "after the dot"),
        ("payload.a + 1 == 2", "no arithmetic"),
        ("payload.a == 1_000", "leave the underscores out"),
        ("payload.a == 5m", "no number"),
        ("payload.a == -", "a digit is missing"),
        ("payload.a == 1.", "no number"),
        ("payload.a == 1e999", "beyond what an event can hold"),
        ("payload.a == 18446744073709551616", "beyond what an event can hold"),
        ("payload.a == 'x", "close it with `'`"),
        (r"payload.a == '\d'", "a backslash itself is written twice"),
        (r"payload.a == '\ud83d'", "surrogate"),
        (r"payload.a == '\u12'", "four hexadecimal digits"),
        ("(payload.a == 1", "this parenthesis is never closed"),
        ("payload.a == 1)", "this parenthesis was never opened"),
        ("payload.a in [1, 2", "this list is never closed"),
        ("payload.a in [1 2]", "expected `,` or `]`"),
        ("payload.a not 5", "expected `in` after `not`"),
        ("payload.a ==", "found the end"),
        ("payload.a == 1 payload.b == 1", "expected `and`, `or` or the end"),
        ("metadata.priority == 'hihg'", "did you mean `high`?"),
        ("metadata.priority in ['high', 'urgent']", "is no priority"),
        ("", "it is empty"),
        (" \n ", "it is empty"),
    ] {
        let error = refused(text);
        assert!(error.message().contains(says), "{text}\n{error}");
    }
    assert!(Filter::parse(r"payload.a == '\ud83d\ude00'").is_ok());
}

#[test]
fn expressions_are_bounded() {
    let fits = |length: usize| format!("payload.a == '{}'", "x".repeat(length - 15));
    assert!(Filter::parse(&fits(MAX_LENGTH)).is_ok());
    assert!(refused(&fits(MAX_LENGTH + 1)).message().contains("4096 are the most"));

    let nested = |depth: usize| format!("{}version == 2{}", "(".repeat(depth), ")".repeat(depth));
    assert!(accepts(&nested(MAX_NESTING)));
    assert!(refused(&nested(MAX_NESTING + 1)).message().contains("32 deep"));
    let negated = |depth: usize| format!("{}version == 2", "not ".repeat(depth));
    assert!(accepts(&negated(MAX_NESTING)));
    assert!(refused(&negated(MAX_NESTING + 1)).message().contains("32 deep"));
    assert!(accepts(&vec!["(version == 2)"; 100].join(" and ")), "a chain does not nest");

    let list = |count: usize| format!("payload.price in [{}]", vec!["5"; count].join(","));
    assert!(accepts(&list(MAX_LIST)));
    assert!(refused(&list(MAX_LIST + 1)).message().contains("at most 1000"));
}

/// A condition as the naive evaluator sees it.
#[derive(Clone, Debug)]
enum Model {
    Compare(Term, &'static str, Term),
    In(Term, bool, Vec<Value>),
    Not(Box<Model>),
    And(Vec<Model>),
    Or(Vec<Model>),
}

#[derive(Clone, Debug)]
enum Term {
    Path(Vec<&'static str>),
    Literal(Value),
}

impl Term {
    fn text(&self) -> String {
        match self {
            Term::Path(path) => path.join("."),
            Term::Literal(value) => value.to_string(),
        }
    }

    fn read(&self, event: &Value) -> Value {
        match self {
            Term::Literal(value) => value.clone(),
            Term::Path(path) => path
                .iter()
                .try_fold(event, |value, name| value.get(name))
                .cloned()
                .unwrap_or(Value::Null),
        }
    }
}

impl Model {
    /// As text, with no parentheses but those it needs.
    fn text(&self, binding: u8) -> String {
        let join = |parts: &[Model], word: &str, own: u8| {
            let parts: Vec<String> = parts.iter().map(|part| part.text(own + 1)).collect();
            (parts.join(word), own)
        };
        let (text, own) = match self {
            Model::Or(parts) => join(parts, " or ", 0),
            Model::And(parts) => join(parts, " and ", 1),
            Model::Not(inner) => (format!("not {}", inner.text(2)), 2),
            Model::Compare(left, op, right) => {
                (format!("{} {op} {}", left.text(), right.text()), 3)
            }
            Model::In(term, negated, items) => {
                let items: Vec<String> = items.iter().map(Value::to_string).collect();
                let word = if *negated { "not in" } else { "in" };
                (format!("{} {word} [{}]", term.text(), items.join(", ")), 3)
            }
        };
        if own < binding { format!("({text})") } else { text }
    }

    fn holds(&self, event: &Value) -> bool {
        match self {
            Model::Or(parts) => parts.iter().any(|part| part.holds(event)),
            Model::And(parts) => parts.iter().all(|part| part.holds(event)),
            Model::Not(inner) => !inner.holds(event),
            Model::In(term, negated, items) => {
                let value = term.read(event);
                items.iter().any(|item| naive_equals(&value, item)) != *negated
            }
            Model::Compare(left, op, right) => {
                let (a, b) = (left.read(event), right.read(event));
                let order = naive_order(&a, &b);
                match *op {
                    "==" => naive_equals(&a, &b),
                    "!=" => !naive_equals(&a, &b),
                    "<" => order == Some(Ordering::Less),
                    ">" => order == Some(Ordering::Greater),
                    "<=" => matches!(order, Some(Ordering::Less | Ordering::Equal)),
                    _ => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
                }
            }
        }
    }
}

fn naive_equals(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        _ => naive_order(a, b) == Some(Ordering::Equal),
    }
}

fn naive_order(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Number(a), Value::Number(b)) => Some(halves(a).cmp(&halves(b))),
        _ => None,
    }
}

/// The tested floats are whole or end in .5, so that twice their value is an exact integer.
fn halves(number: &serde_json::Number) -> i128 {
    match (number.as_i64(), number.as_u64(), number.as_f64()) {
        (Some(int), ..) => i128::from(int) * 2,
        (_, Some(int), _) => i128::from(int) * 2,
        (.., float) => (float.expect("a number") * 2.0) as i128,
    }
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
        // Few of them, so that equal ones meet.
        3 => (-1i64..2).prop_map(Value::from),
        2 => (-2i32..3).prop_map(|half| Value::from(f64::from(half) / 2.0)),
        1 => prop::sample::select(vec![
            json!(i64::MIN),
            json!(i64::MAX),
            json!(u64::MAX),
            json!(u64::MAX - 1),
            json!(9_007_199_254_740_993_i64),
            json!(9_007_199_254_740_992.0),
            json!(9_223_372_036_854_775_808.0),
            json!(-9_223_372_036_854_775_808.0),
            json!(18_446_744_073_709_551_616.0),
            json!(1e30),
        ]),
        3 => prop::sample::select(vec!["a", "b", "\u{e9}", "it's \"\\\n\u{1}"]).prop_map(Value::from),
        1 => ".{0,4}".prop_map(Value::from),
    ]
}

fn payload() -> impl Strategy<Value = Value> {
    let field = || {
        prop_oneof![
            4 => scalar().prop_map(Some),
            1 => Just(None),
            1 => prop::collection::vec(scalar(), 0..3).prop_map(|items| Some(Value::from(items))),
        ]
    };
    (field(), field(), field()).prop_map(|(a, b, c)| {
        let mut payload = serde_json::Map::new();
        let mut nested = serde_json::Map::new();
        payload.extend(a.map(|a| ("a".to_owned(), a)));
        nested.extend(b.map(|b| ("b".to_owned(), b)));
        payload.insert("n".to_owned(), Value::Object(nested));
        payload.extend(c.map(|c| ("c".to_owned(), c)));
        Value::Object(payload)
    })
}

fn term() -> impl Strategy<Value = Term> {
    let paths: Vec<Vec<&str>> = vec![
        vec!["payload", "a"],
        vec!["payload", "n", "b"],
        vec!["payload", "n"],
        vec!["payload", "c"],
        vec!["payload", "absent"],
        vec!["payload", "a", "deeper"],
        vec!["metadata", "key"],
        vec!["metadata", "tenant", "id"],
        vec!["metadata", "correlation_id"],
        vec!["metadata", "retry_count"],
        vec!["event_id"],
        vec!["producer"],
        vec!["version"],
        vec!["timestamp"],
    ];
    prop_oneof![
        3 => prop::sample::select(paths).prop_map(Term::Path),
        1 => scalar().prop_map(Term::Literal),
    ]
}

fn comparison() -> impl Strategy<Value = Model> {
    let op = prop::sample::select(vec!["==", "!=", "<", "<=", ">", ">="]);
    prop_oneof![
        (term(), op, prop_oneof![term(), scalar().prop_map(Term::Literal)])
            .prop_map(|(left, op, right)| Model::Compare(left, op, right)),
        (term(), any::<bool>(), prop::collection::vec(scalar(), 0..6))
            .prop_map(|(term, negated, items)| Model::In(term, negated, items)),
    ]
}

fn model() -> impl Strategy<Value = Model> {
    comparison().prop_recursive(4, 16, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|inner| Model::Not(Box::new(inner))),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Model::And),
            prop::collection::vec(inner, 2..4).prop_map(Model::Or),
        ]
    })
}

/// Pieces that make texts which are nearly expressions.
fn soup() -> impl Strategy<Value = String> {
    let pieces = vec![
        "payload.a",
        "payload",
        "metadata.priority",
        "symbol",
        "payload.'a",
        ".",
        "\"x\"",
        "'",
        "\\u12",
        "12",
        "-",
        "1e",
        "1.5",
        "true",
        "None",
        "==",
        "=",
        "!=",
        "!",
        "<",
        ">=",
        "in",
        "not",
        "and",
        "or",
        "(",
        ")",
        "[",
        "]",
        ",",
        " ",
        "\n",
        "é",
        "\u{0}",
        "is",
        "😀",
    ];
    prop::collection::vec(prop::sample::select(pieces), 0..20).prop_map(|pieces| pieces.concat())
}

/// Whatever the text, a refusal has its caret under the line it shows.
fn check_refusal(text: &str) -> Result<(), TestCaseError> {
    if let Err(error) = Filter::parse(text) {
        let at: usize = error.get("position").and_then(|at| at.parse().ok()).expect("a position");
        prop_assert!(text.is_char_boundary(at));
        let caret = error.message().rsplit('\n').next().expect("a line");
        prop_assert!(caret.trim_start().starts_with('^'), "{error}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn no_text_makes_the_parser_panic(text in any::<String>(), pieces in soup()) {
        check_refusal(&text)?;
        check_refusal(&pieces)?;
    }

    #[test]
    fn evaluation_agrees_with_a_naive_one(
        alone in comparison(), nested in model(), payload in payload()
    ) {
        let event = event_with(&payload);
        let json = serde_json::to_value(&event).expect("an event is JSON");
        for model in [alone, nested] {
            let text = model.text(0);
            prop_assume!(text.len() <= MAX_LENGTH);
            let filter = Filter::parse(&text);
            let filter = filter.map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert_eq!(filter.accepts(&event), model.holds(&json), "{}", text);
        }
    }
}
