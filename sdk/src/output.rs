//! What a tool answers: a few lines for the model and the full data for a program.

use serde::Serialize;
use serde_json::Value;

use crate::{Problem, json};

/// The answer of a tool, its data still typed.
#[derive(Clone, Debug, PartialEq)]
pub struct Output<T> {
    /// For the model: a few lines or a table, what is wrong first. Not a dump of `data`.
    pub text: String,
    /// The full data. It becomes the structured answer when it serializes to a JSON object; members that are null are left
    /// out, at every depth. `()` is an answer without data.
    pub data: T,
    /// The work was done and its answer is bad news that the client should treat as an error.
    pub is_error: bool,
}

impl<T> Output<T> {
    pub fn new(text: impl Into<String>, data: T) -> Self {
        Output { text: text.into(), data, is_error: false }
    }

    /// Says whether the answer is bad news.
    pub fn error(mut self, is_error: bool) -> Self {
        self.is_error = is_error;
        self
    }
}

impl Output<()> {
    /// An answer without data.
    pub fn text(text: impl Into<String>) -> Self {
        Output::new(text, ())
    }
}

/// The answer of a tool as it goes to the host.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub text: String,
    /// A JSON object, if there is one.
    pub structured: Option<Value>,
    pub is_error: bool,
}

/// The same with the data as JSON text, which is what the contract wants. The output schema gives an `Option` its plain type, so
/// what is absent must be absent and not null.
pub(crate) struct Written {
    pub text: String,
    pub structured: Option<String>,
    pub is_error: bool,
}

impl<T: Serialize> Output<T> {
    pub(crate) fn write(self) -> Result<Written, Problem> {
        let structured = json::write(&self.data).map_err(unwritable)?;
        let structured = structured.starts_with('{').then_some(structured);
        Ok(Written { text: self.text, structured, is_error: self.is_error })
    }
}

impl Written {
    pub(crate) fn read(self) -> Result<Answer, Problem> {
        let structured = self.structured.map(|text| serde_json::from_str(&text)).transpose().map_err(unwritable)?;
        Ok(Answer { text: self.text, structured, is_error: self.is_error })
    }
}

fn unwritable(error: serde_json::Error) -> Problem {
    Problem::new("INTERNAL", format!("the answer does not serialize: {error}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_member_that_is_null_is_left_out_and_an_element_is_not() {
        let answer =
            Output::new("", json!({"a": null, "b": [null, {"c": null, "d": 0}]})).write().unwrap().read().unwrap();
        assert_eq!(answer.structured, Some(json!({"b": [null, {"d": 0}]})));
    }

    #[test]
    fn only_an_object_becomes_the_structured_answer() {
        assert_eq!(Output::text("done").write().unwrap().read().unwrap().structured, None);
        assert_eq!(Output::new("", vec![1, 2]).write().unwrap().read().unwrap().structured, None);
    }
}
