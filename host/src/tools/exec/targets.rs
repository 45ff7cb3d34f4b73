//! The argument `alias` of a tool that works on several servers: one word or a list of words. What a word means is
//! resolved elsewhere.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use crate::capability::is_selector;

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged, expecting = "expected a string or a list of strings")]
pub enum Targets {
    Word(String),
    List(Vec<String>),
}

impl Targets {
    /// The one server that is meant, where that can be told without looking.
    pub fn single(&self) -> Option<&str> {
        let word = match self {
            Targets::Word(word) => word,
            Targets::List(words) => match words.as_slice() {
                [word] => word,
                _ => return None,
            },
        };
        (!is_selector(word)).then_some(word)
    }

    pub fn words(&self) -> Vec<String> {
        match self {
            Targets::Word(word) => vec![word.clone()],
            Targets::List(words) => words.clone(),
        }
    }
}

/// Written as one type with two names instead of a choice: shorter, and read by more clients.
impl JsonSchema for Targets {
    fn schema_name() -> Cow<'static, str> {
        "Targets".into()
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

    fn check(value: Value, single: Option<&str>, words: &[&str]) {
        let targets: Targets = serde_json::from_value(value).unwrap();
        assert_eq!(targets.single(), single);
        assert_eq!(targets.words(), words);
    }

    #[test]
    fn one_word_or_a_list_is_read() {
        check(json!("web"), Some("web"), &["web"]);
        check(json!(["web"]), Some("web"), &["web"]);
        check(json!(["web", "db"]), None, &["web", "db"]);
        check(json!("all"), None, &["all"]);
        check(json!(["tag:x"]), None, &["tag:x"]);
        check(json!([]), None, &[]);
        let error = serde_json::from_value::<Targets>(json!(7)).unwrap_err();
        assert_eq!(error.to_string(), "expected a string or a list of strings");
    }
}
