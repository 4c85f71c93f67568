//! JSON Schema in few words.

use serde_json::{Map, Value, json};

/// An object with these properties, of which these must be there. Answers may grow, arguments may not.
pub(super) fn arguments(properties: &[(&str, Value)], required: &[&str]) -> Value {
    let mut schema = answer(properties, required);
    schema["additionalProperties"] = false.into();
    schema
}

/// As [`arguments`], of an answer.
pub(super) fn answer(properties: &[(&str, Value)], required: &[&str]) -> Value {
    let properties: Map<String, Value> =
        properties.iter().map(|(name, schema)| ((*name).to_owned(), schema.clone())).collect();
    json!({ "type": "object", "properties": properties, "required": required })
}

pub(super) fn text(description: &str) -> Value {
    json!({ "type": "string", "description": description })
}

pub(super) fn number(description: &str, least: u64, most: u64) -> Value {
    json!({ "type": "integer", "minimum": least, "maximum": most, "description": description })
}

pub(super) fn count(description: &str) -> Value {
    json!({ "type": "integer", "minimum": 0, "description": description })
}

pub(super) fn yes_no(description: &str) -> Value {
    json!({ "type": "boolean", "description": description })
}

pub(super) fn list(items: Value, description: &str) -> Value {
    json!({ "type": "array", "items": items, "description": description })
}

/// Whatever the kind is, or nothing. Not as a list of types, which clients with one type for each thing cannot read.
pub(super) fn maybe(kind: &str, description: &str) -> Value {
    json!({ "anyOf": [{ "type": kind }, { "type": "null" }], "description": description })
}

/// An object that is described elsewhere.
pub(super) fn some_object(description: &str) -> Value {
    json!({ "type": "object", "description": description })
}
