//! Arguments as the model gave them, checked against the tool's schema before they become its struct.
//!
//! serde would reject the same arguments, but it does not always say which one was wrong and what would be right.

use schemars::JsonSchema;
use schemars::generate::Contract;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{Problem, schema};

/// The typed arguments, or `INVALID_ARGUMENT` that names the argument and says what is accepted.
pub(crate) fn read<T: DeserializeOwned + JsonSchema>(mut value: Value) -> Result<T, Problem> {
    let schema = schema::raw::<T>(Contract::Deserialize);
    if let (Value::Object(given), Some(required)) = (&mut value, Some(required(&schema))) {
        // Models say null for what they leave out.
        given.retain(|name, value| !value.is_null() || required.contains(&name.as_str()));
    }
    check(&schema, &value, "")?;
    serde_json::from_value(value).map_err(|error| Problem::invalid(format!("the arguments are not accepted: {error}")))
}

fn check(schema: &Value, value: &Value, path: &str) -> Result<(), Problem> {
    let fits = choices(schema).iter().any(|choice| fits(choice, value));
    if !fits {
        return Err(wrong(path, format!("must be {}, not {}", accepted(schema), shown(value))));
    }
    let parts = choices(schema);
    // More than one structured choice is left to serde: which one was meant is unknown.
    let [only] = parts.iter().filter(|choice| fits_kind(choice, value)).collect::<Vec<_>>()[..] else { return Ok(()) };
    match value {
        Value::Object(members) => check_members(only, members, path),
        Value::Array(elements) => match only.get("items") {
            Some(items) => elements
                .iter()
                .enumerate()
                .try_for_each(|(index, element)| check(items, element, &format!("{path}[{index}]"))),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

fn check_members(schema: &Value, members: &Map<String, Value>, path: &str) -> Result<(), Problem> {
    let empty = Map::new();
    let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
    let at = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    for (name, value) in members {
        match (properties.get(name), schema.get("additionalProperties")) {
            (Some(property), _) => check(property, value, &at(name))?,
            (None, Some(Value::Bool(false)) | None) => {
                let known: Vec<String> = properties.keys().map(|known| format!("`{known}`")).collect();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                return Err(wrong(&at(name), format!("is unknown; accepted are: {known}")));
            }
            (None, Some(others)) => check(others, value, &at(name))?,
        }
    }
    match required(schema).into_iter().find(|name| !members.contains_key(*name)) {
        None => Ok(()),
        Some(name) => {
            let property = properties.get(name).unwrap_or(&Value::Null);
            let about = property.get("description").and_then(Value::as_str).unwrap_or_default();
            let about: Vec<&str> = about.split_whitespace().collect();
            let message = format!("is missing; it is {}. {}", accepted(property), about.join(" "));
            Err(wrong(&at(name), message.trim_end().to_owned()))
        }
    }
}

fn wrong(path: &str, what: String) -> Problem {
    if path.is_empty() {
        Problem::invalid(format!("the arguments {what}"))
    } else {
        Problem::invalid(format!("the argument `{path}` {what}")).detail("argument", path)
    }
}

fn required(schema: &Value) -> Vec<&str> {
    let names = schema.get("required").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    names.iter().filter_map(Value::as_str).collect()
}

/// The schema itself, or its alternatives.
fn choices(schema: &Value) -> Vec<&Value> {
    match schema.get("anyOf").or_else(|| schema.get("oneOf")) {
        Some(Value::Array(choices)) => choices.iter().flat_map(choices_of).collect(),
        _ => vec![schema],
    }
}

fn choices_of(schema: &Value) -> Vec<&Value> {
    choices(schema)
}

fn types(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// Whether the value is of a type that the schema allows.
fn fits_kind(schema: &Value, value: &Value) -> bool {
    let types = types(schema);
    types.is_empty()
        || types.iter().any(|name| match *name {
            "string" => value.is_string(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "boolean" => value.is_boolean(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            _ => value.is_null(),
        })
}

/// Whether the value is of such a type and, if it is plain, within the schema's bounds.
fn fits(schema: &Value, value: &Value) -> bool {
    if !fits_kind(schema, value) {
        return false;
    }
    if let Some(Value::Array(names)) = schema.get("enum")
        && !names.contains(value)
    {
        return false;
    }
    if let Some(name) = schema.get("const")
        && name != value
    {
        return false;
    }
    if let Some(number) = value.as_f64() {
        let (least, most) = bounds(schema);
        return least.is_none_or(|least| number >= least) && most.is_none_or(|most| number <= most);
    }
    true
}

/// The least and the greatest number, from the schema's keywords and the size of the integer.
fn bounds(schema: &Value) -> (Option<f64>, Option<f64>) {
    let (least, most) = match schema.get("format").and_then(Value::as_str) {
        Some("uint8") => (Some(0.0), Some(f64::from(u8::MAX))),
        Some("uint16") => (Some(0.0), Some(f64::from(u16::MAX))),
        Some("uint32") => (Some(0.0), Some(f64::from(u32::MAX))),
        Some("uint64" | "uint") => (Some(0.0), None),
        Some("int8") => (Some(f64::from(i8::MIN)), Some(f64::from(i8::MAX))),
        Some("int16") => (Some(f64::from(i16::MIN)), Some(f64::from(i16::MAX))),
        Some("int32") => (Some(f64::from(i32::MIN)), Some(f64::from(i32::MAX))),
        _ => (None, None),
    };
    let said = |keyword: &str| schema.get(keyword).and_then(Value::as_f64);
    (said("minimum").or(least), said("maximum").or(most))
}

/// What the schema accepts, in words.
fn accepted(schema: &Value) -> String {
    let mut words: Vec<String> = Vec::new();
    for choice in choices(schema) {
        if let Some(Value::Array(names)) = choice.get("enum") {
            let names: Vec<String> = names.iter().filter(|name| !name.is_null()).map(Value::to_string).collect();
            words.push(format!("one of {}", names.join(", ")));
        } else if let Some(name) = choice.get("const") {
            words.push(name.to_string());
        } else {
            words.extend(types(choice).into_iter().filter(|name| *name != "null").map(|name| kind(name, choice)));
        }
    }
    if words.is_empty() { "a value".to_owned() } else { words.join(" or ") }
}

fn kind(name: &str, schema: &Value) -> String {
    match name {
        "string" => "a string".to_owned(),
        "integer" | "number" => {
            let name = if name == "integer" { "an integer" } else { "a number" };
            match bounds(schema) {
                (Some(least), Some(most)) => format!("{name} from {least} to {most}"),
                (Some(least), None) => format!("{name} of at least {least}"),
                (None, Some(most)) => format!("{name} of at most {most}"),
                (None, None) => name.to_owned(),
            }
        }
        "boolean" => "true or false".to_owned(),
        "array" => match schema.get("items") {
            Some(items) => format!("a list, each element {}", accepted(items)),
            None => "a list".to_owned(),
        },
        _ => "an object".to_owned(),
    }
}

/// A wrong value, short enough for a message.
fn shown(value: &Value) -> String {
    match value {
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        plain => {
            let text = plain.to_string();
            if text.chars().count() > 40 { text.chars().take(40).chain(['…']).collect() } else { text }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize, JsonSchema)]
    struct Sample {
        /// The server's alias.
        alias: String,
        #[serde(default)]
        #[schemars(range(min = 1, max = 20))]
        top: u32,
        lines: Option<u32>,
        order: Option<Order>,
        #[serde(default)]
        files: Vec<File>,
    }

    #[derive(Debug, PartialEq, Deserialize, JsonSchema)]
    #[serde(rename_all = "lowercase")]
    enum Order {
        Cpu,
        Memory,
    }

    #[derive(Debug, PartialEq, Deserialize, JsonSchema)]
    struct File {
        path: String,
        sizes: Vec<u8>,
    }

    fn check(given: Value, expected: &str) {
        assert_eq!(read::<Sample>(given).unwrap_err().message, expected);
    }

    #[test]
    fn a_wrong_argument_is_named_with_what_is_accepted() {
        check(json!({}), "the argument `alias` is missing; it is a string. The server's alias.");
        check(json!({"alias": null}), "the argument `alias` must be a string, not null");
        check(json!({"alias": 7}), "the argument `alias` must be a string, not 7");
        check(json!({"alias": "a", "top": "many"}), "the argument `top` must be an integer from 1 to 20, not \"many\"");
        check(json!({"alias": "a", "top": 0}), "the argument `top` must be an integer from 1 to 20, not 0");
        check(json!({"alias": "a", "top": 2.5}), "the argument `top` must be an integer from 1 to 20, not 2.5");
        check(
            json!({"alias": "a", "lines": 5e9}),
            "the argument `lines` must be an integer from 0 to 4294967295, not 5000000000.0",
        );
        check(
            json!({"alias": "a", "lines": 5_000_000_000_u64}),
            "the argument `lines` must be an integer from 0 to 4294967295, not 5000000000",
        );
        check(
            json!({"alias": "a", "order": "disk"}),
            "the argument `order` must be one of \"cpu\", \"memory\", not \"disk\"",
        );
        check(json!([]), "the arguments must be an object, not a list");
    }

    #[test]
    fn an_unknown_argument_is_named_with_those_that_are_known() {
        check(
            json!({"alias": "a", "Top": 3}),
            "the argument `Top` is unknown; accepted are: `alias`, `files`, `lines`, `order`, `top`",
        );
    }

    #[test]
    fn a_wrong_argument_is_found_inside_of_others() {
        check(
            json!({"alias": "a", "files": "x"}),
            "the argument `files` must be a list, each element an object, not \"x\"",
        );
        check(
            json!({"alias": "a", "files": [{"path": "p"}]}),
            "the argument `files[0].sizes` is missing; it is a list, each element an integer from 0 to 255.",
        );
        check(
            json!({"alias": "a", "files": [{"path": "p", "sizes": [1, 256]}]}),
            "the argument `files[0].sizes[1]` must be an integer from 0 to 255, not 256",
        );
        let problem = read::<Sample>(json!({"alias": "a", "files": [{"path": "p", "sizes": [], "x": 1}]})).unwrap_err();
        assert_eq!(problem.code, "INVALID_ARGUMENT");
        assert_eq!(problem.details.get("argument"), Some(&json!("files[0].x")));
    }

    #[test]
    fn null_is_the_same_as_an_optional_argument_left_out() {
        let read: Sample = read(json!({"alias": "a", "top": null, "lines": null, "order": null})).unwrap();
        assert_eq!(read, Sample { alias: "a".to_owned(), ..Sample::default() });
    }
}
