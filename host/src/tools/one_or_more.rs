//! An argument that is one text or a list of texts. What a text means is the tool's business.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged, expecting = "expected a string or a list of strings")]
pub enum OneOrMore {
    One(String),
    List(Vec<String>),
}

impl OneOrMore {
    /// The only text, however it was written.
    pub fn single(&self) -> Option<&str> {
        match self {
            OneOrMore::One(text) => Some(text),
            OneOrMore::List(texts) => match texts.as_slice() {
                [text] => Some(text),
                _ => None,
            },
        }
    }

    pub fn texts(&self) -> Vec<String> {
        match self {
            OneOrMore::One(text) => vec![text.clone()],
            OneOrMore::List(texts) => texts.clone(),
        }
    }
}

/// Written as a choice and not as one type with two names, which models that take OpenAPI 3.0's dialect refuse.
impl JsonSchema for OneOrMore {
    fn schema_name() -> Cow<'static, str> {
        "OneOrMore".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]})
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(value: Value, single: Option<&str>, texts: &[&str]) {
        let read: OneOrMore = serde_json::from_value(value).unwrap();
        assert_eq!(read.single(), single);
        assert_eq!(read.texts(), texts);
    }

    #[test]
    fn one_text_or_a_list_is_read() {
        check(json!("web"), Some("web"), &["web"]);
        check(json!(["web"]), Some("web"), &["web"]);
        check(json!(["web", "db"]), None, &["web", "db"]);
        check(json!([]), None, &[]);
        let error = serde_json::from_value::<OneOrMore>(json!(7)).unwrap_err();
        assert_eq!(error.to_string(), "expected a string or a list of strings");
    }
}
