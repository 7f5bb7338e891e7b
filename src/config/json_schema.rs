//! JSON Schema for a component's own section.

use jsonschema::PatternOptions;
use serde_json::Value;

/// Everything in `value` that breaks `schema`, as (JSON pointer, message); empty if it is valid.
///
/// A schema that cannot be used is itself one entry with an empty pointer. References to other
/// documents are refused, no matter where they lead; patterns run in linear time. Messages
/// never repeat the value.
pub fn validate_schema(schema: &Value, value: &Value) -> Vec<(String, String)> {
    let validator =
        jsonschema::options().offline().with_pattern_options(PatternOptions::regex()).build(schema);
    match validator {
        Err(error) => vec![(String::new(), format!("the schema cannot be used: {error}"))],
        Ok(validator) => validator
            .iter_errors(value)
            .map(|error| (error.instance_path().to_string(), error.masked().to_string()))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_violation_has_its_pointer_and_no_value() {
        let schema = json!({
            "type": "object",
            "properties": {"window": {"type": "integer", "minimum": 2}, "name": {"type": "string"}},
            "required": ["window", "mode"],
            "additionalProperties": false,
        });
        let found = validate_schema(&schema, &json!({"window": 1, "name": 77}));
        let pointers: Vec<_> = found.iter().map(|(pointer, _)| pointer.as_str()).collect();
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(pointers.contains(&"/window") && pointers.contains(&"/name"));
        assert!(found.iter().all(|(_, message)| !message.contains("77")), "{found:?}");
        assert!(validate_schema(&schema, &json!({"window": 3, "mode": 1})).len() == 1);
        assert!(validate_schema(&json!({"type": "object"}), &json!({})).is_empty());
    }

    #[test]
    fn references_to_other_documents_are_refused() {
        for reference in ["http://127.0.0.1:9/x.json", "file:///etc/passwd"] {
            let found = validate_schema(&json!({"$ref": reference}), &json!(1));
            assert!(found[0].1.contains("cannot be used"), "{found:?}");
        }
    }

    #[test]
    fn a_malicious_pattern_takes_no_time_and_an_invalid_schema_is_said() {
        let schema = json!({"pattern": "^(a+)+$"});
        let text = format!("{}!", "a".repeat(50_000));
        assert_eq!(validate_schema(&schema, &json!(text)).len(), 1);
        let found = validate_schema(&json!({"type": "no such type"}), &json!(1));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].0, "");
    }
}
