//! JSON Schemas (2020-12) from types, and as short as they can be: clients hand them to a model with every request.
//!
//! Left out is what says nothing to a model (`$schema`, titles, number formats, null or false as a default, 0 as the least of
//! an unsigned number); definitions are inlined; an `Option` has its plain type and is not required. An output schema gives
//! names and types only.

use schemars::JsonSchema;
use schemars::generate::{Contract, SchemaSettings};
use serde_json::{Map, Value};

/// The schema as schemars derives it, number formats included. Arguments are checked against this one.
pub(crate) fn raw<T: JsonSchema>(contract: Contract) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.meta_schema = None;
        settings.inline_subschemas = true;
        settings.contract = contract;
    });
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

/// The schema of a tool's arguments.
pub(crate) fn input<T: JsonSchema>() -> Value {
    let mut schema = raw::<T>(Contract::Deserialize);
    // What the struct is, is said by the tool's description.
    remove(&mut schema, "description");
    shorten(&mut schema, Side::Input);
    schema
}

/// The schema of a tool's data. None for types that do not serialize to an object.
pub(crate) fn output<T: JsonSchema>() -> Option<Value> {
    let mut schema = raw::<T>(Contract::Serialize);
    shorten(&mut schema, Side::Output);
    (schema.get("type").and_then(Value::as_str) == Some("object")).then_some(schema)
}

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Input,
    Output,
}

/// What an output schema leaves out: it gives names and types only.
const OUTPUT_NOISE: [&str; 8] =
    ["description", "default", "minimum", "maximum", "minItems", "maxItems", "required", "additionalProperties"];

fn shorten(schema: &mut Value, side: Side) {
    let Value::Object(keywords) = schema else { return };
    unwrap_option(keywords);
    names_as_enum(keywords);
    for noise in ["$schema", "title", "format"] {
        keywords.remove(noise);
    }
    if keywords.get("default").is_some_and(|default| matches!(default, Value::Null | Value::Bool(false))) {
        keywords.remove("default");
    }
    if keywords.get("minimum").and_then(Value::as_u64) == Some(0) {
        keywords.remove("minimum");
    }
    if side == Side::Output {
        for noise in OUTPUT_NOISE {
            // A schema for the members of a map is no noise.
            if !keywords.get(noise).is_some_and(Value::is_object) {
                keywords.remove(noise);
            }
        }
    } else if keywords.get("type").and_then(Value::as_str) == Some("object") {
        keywords.entry("additionalProperties").or_insert(Value::Bool(false));
    }
    if let Some(Value::String(description)) = keywords.get_mut("description") {
        // The line breaks are those of the source.
        *description = description.split_whitespace().collect::<Vec<_>>().join(" ");
    }
    for (keyword, value) in keywords.iter_mut() {
        match (keyword.as_str(), value) {
            ("properties" | "patternProperties" | "$defs", Value::Object(members)) => {
                members.values_mut().for_each(|member| shorten(member, side));
            }
            ("items" | "additionalProperties" | "not", inner) => shorten(inner, side),
            ("anyOf" | "oneOf" | "allOf" | "prefixItems", Value::Array(inner)) => {
                inner.iter_mut().for_each(|inner| shorten(inner, side));
            }
            _ => {}
        }
    }
}

/// `["string", "null"]` and `anyOf: [X, null]` become what they are when they are there.
fn unwrap_option(keywords: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = keywords.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            keywords.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(choices)) = keywords.get_mut("anyOf") {
        choices.retain(|choice| choice.get("type").and_then(Value::as_str) != Some("null"));
        if choices.len() == 1
            && let Some(Value::Object(only)) = choices.pop()
        {
            keywords.remove("anyOf");
            for (keyword, value) in only {
                // What is said about the field is more to the point than what is said about its type.
                keywords.entry(keyword).or_insert(value);
            }
        }
    }
    if let Some(Value::Array(names)) = keywords.get_mut("enum") {
        names.retain(|name| !name.is_null());
    }
}

/// An enum with a description per name is `oneOf` constants: only the names are kept.
fn names_as_enum(keywords: &mut Map<String, Value>) {
    let names: Option<Vec<Value>> = match keywords.get("oneOf") {
        Some(Value::Array(choices)) => choices.iter().map(names_of).collect::<Option<Vec<_>>>().map(|all| all.concat()),
        _ => None,
    };
    if let Some(names) = names {
        keywords.remove("oneOf");
        keywords.insert("type".to_owned(), Value::from("string"));
        keywords.insert("enum".to_owned(), Value::Array(names));
    }
}

fn names_of(choice: &Value) -> Option<Vec<Value>> {
    match (choice.get("const"), choice.get("enum")) {
        (Some(name), None) if name.is_string() => Some(vec![name.clone()]),
        (None, Some(Value::Array(names))) if names.iter().all(Value::is_string) => Some(names.clone()),
        _ => None,
    }
}

fn remove(schema: &mut Value, keyword: &str) {
    if let Value::Object(keywords) = schema {
        keywords.remove(keyword);
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};
    use serde_json::json;

    use super::*;

    /// Said by the tool.
    #[derive(Serialize, Deserialize, JsonSchema)]
    struct Sample {
        /// The server's
        /// alias.
        alias: String,
        /// How many.
        #[serde(default = "five")]
        #[schemars(range(min = 1, max = 20))]
        top: u32,
        title: Option<String>,
        order: Option<Order>,
        inner: Vec<Inner>,
    }

    fn five() -> u32 {
        5
    }

    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(rename_all = "lowercase")]
    enum Order {
        /// The greatest first.
        Cpu,
        Memory,
    }

    /// A part.
    #[derive(Serialize, Deserialize, JsonSchema)]
    struct Inner {
        size_bytes: Option<u64>,
    }

    #[test]
    fn an_input_schema_is_short_and_closed() {
        let expected = json!({
            "type": "object",
            "properties": {
                "alias": {"type": "string", "description": "The server's alias."},
                "top": {"type": "integer", "description": "How many.", "default": 5, "minimum": 1, "maximum": 20},
                "title": {"type": "string"},
                "order": {"type": "string", "enum": ["memory", "cpu"]},
                "inner": {"type": "array", "items": {
                    "type": "object",
                    "description": "A part.",
                    "properties": {"size_bytes": {"type": "integer"}},
                    "additionalProperties": false,
                }},
            },
            "required": ["alias", "inner"],
            "additionalProperties": false,
        });
        assert_eq!(input::<Sample>(), expected);
    }

    #[test]
    fn an_output_schema_gives_names_and_types() {
        let expected = json!({
            "type": "object",
            "properties": {
                "alias": {"type": "string"},
                "top": {"type": "integer"},
                "title": {"type": "string"},
                "order": {"type": "string", "enum": ["memory", "cpu"]},
                "inner": {"type": "array", "items": {"type": "object", "properties": {"size_bytes": {"type": "integer"}}}},
            },
        });
        assert_eq!(output::<Sample>(), Some(expected));
    }

    #[test]
    fn what_is_no_object_has_no_output_schema() {
        assert_eq!(output::<()>(), None);
        assert_eq!(output::<Vec<u8>>(), None);
        assert_eq!(output::<Value>(), None);
    }
}
