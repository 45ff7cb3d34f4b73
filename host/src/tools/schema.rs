//! JSON Schemas (2020-12) as clients get them: derived from the argument and result types, then stripped of all that a
//! model pays for without learning anything from it.

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Map, Value};

/// The schema of a tool's arguments. Unknown ones are refused when they come (`typed::decode`): saying so in each schema
/// would cost every request thirty bytes a tool.
pub fn input<A: JsonSchema>() -> Map<String, Value> {
    let mut schema = derive::<A>(true);
    schema.entry("properties").or_insert_with(|| Value::Object(Map::new()));
    schema
}

/// The schema of a core tool's structured result: what is always there. The rest shows itself in the result.
pub fn output<O: JsonSchema>() -> Map<String, Value> {
    let mut schema = derive::<O>(false);
    let required = schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.retain(|name, _| required.iter().any(|always| always == name));
    }
    advertised_output(schema)
}

/// The input schema of a plugin's tool as it is advertised. That unknown arguments are refused shows itself when there are
/// any: the plugin checks what it gets.
pub fn advertised_input(mut schema: Map<String, Value>) -> Map<String, Value> {
    if schema.get("additionalProperties") == Some(&Value::Bool(false)) {
        schema.remove("additionalProperties");
    }
    schema
}

/// An output schema as it is advertised: names and types, one level deep. A model pays for schemas with every request, and
/// reads results.
///
/// Nothing is required: the call of a job may come back before the job's end, with the job's id and what there is so far,
/// and clients that check results against the schema must accept that, too.
pub fn advertised_output(mut schema: Map<String, Value>) -> Map<String, Value> {
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        for property in properties.values_mut() {
            if let Value::Object(property) = property {
                property.retain(|keyword, _| keyword == "type");
            }
        }
    }
    schema.retain(|keyword, _| keyword == "type" || keyword == "properties");
    schema
}

fn derive<T: JsonSchema>(describe: bool) -> Map<String, Value> {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let schema = settings.into_generator().into_root_schema_for::<T>();
    let mut value = schema.to_value();
    strip(&mut value, describe, false);
    match value {
        Value::Object(map) => map,
        _ => Map::from_iter([("type".to_owned(), Value::from("object"))]),
    }
}

/// Removes what says nothing to a model: titles that repeat a name, integer widths, nulls that mean "absent".
/// `in_properties` is set where the keys of an object are the names of properties and not keywords.
fn strip(value: &mut Value, describe: bool, in_properties: bool) {
    match value {
        Value::Object(map) if in_properties => {
            for schema in map.values_mut() {
                strip(schema, describe, false);
            }
        }
        Value::Object(map) => {
            map.remove("title");
            map.remove("format");
            if map.get("default") == Some(&Value::Null) {
                map.remove("default");
            }
            if map.get("minimum") == Some(&Value::from(0)) {
                map.remove("minimum");
            }
            if !describe {
                map.remove("description");
            }
            unwrap_nullable(map);
            if let Some(Value::Array(choices)) = map.get_mut("enum") {
                choices.retain(|choice| !choice.is_null());
            }
            for (key, inner) in map.iter_mut() {
                strip(inner, describe, key == "properties");
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| strip(item, describe, false)),
        _ => {}
    }
}

/// Writes `["string", "null"]` and `anyOf: [X, null]` as the plain type: an optional argument is left out, not null.
fn unwrap_nullable(map: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = map.get_mut("type") {
        types.retain(|kind| kind != "null");
        if types.len() == 1
            && let Some(only) = types.pop()
        {
            map.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(choices)) = map.get_mut("anyOf") {
        choices.retain(|choice| choice.get("type") != Some(&Value::from("null")));
        if choices.len() == 1
            && let Some(Value::Object(only)) = choices.pop()
        {
            map.remove("anyOf");
            for (key, inner) in only {
                map.entry(key).or_insert(inner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::json;

    #[derive(Deserialize, JsonSchema)]
    #[allow(dead_code)]
    struct Arguments {
        /// Which server.
        alias: String,
        /// How many.
        lines: Option<u32>,
        /// A property that is called like a keyword.
        title: Option<String>,
    }

    #[test]
    fn a_schema_says_what_a_model_needs_and_no_more() {
        assert_eq!(
            Value::Object(input::<Arguments>()),
            json!({
                "type": "object",
                "properties": {
                    "alias": {"type": "string", "description": "Which server."},
                    "lines": {"type": "integer", "description": "How many."},
                    "title": {"type": "string", "description": "A property that is called like a keyword."},
                },
                "required": ["alias"],
            })
        );
    }

    #[derive(Deserialize, JsonSchema)]
    #[allow(dead_code)]
    struct Nested {
        inner: Vec<Arguments>,
        kind: Option<Kind>,
    }

    #[derive(Deserialize, JsonSchema)]
    #[allow(dead_code)]
    enum Kind {
        A,
        B,
    }

    #[test]
    fn a_result_is_described_by_what_is_always_there_one_level_deep() {
        assert_eq!(
            Value::Object(output::<Nested>()),
            json!({"type": "object", "properties": {"inner": {"type": "array"}}})
        );
    }
}
