//! What `task_exec_interactive` is asked for; the answers are read here and never kept with the job.

use std::borrow::Cow;

use regex::RegexBuilder;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::Error as _;
use serde_json::{Map, Value};

use super::NAME;
use super::dialogue::{Pattern, Rule};
use super::prompt::names_a_secret;
use crate::config::Settings;
use crate::error::Problem;
use crate::secrets::{Reference, Secret};
use crate::tools::typed::JobArguments;

/// What stands in a job's record in place of an answer.
const NOT_KEPT: &str = "[not kept]";
/// Answers that are no secrets, so that a job with them can be retried.
const HARMLESS: [&str; 5] = ["", "y", "yes", "n", "no"];
/// More patterns than anybody writes.
const MOST: usize = 100;

#[derive(Deserialize, JsonSchema)]
pub struct InteractiveArguments {
    /// As in server_list.
    pub alias: String,
    /// For the login shell.
    pub cmd: String,
    /// {prompt: answer} or, in order, a list of such. Prompt: text or /regex/. Secrets: env:NAME, file:/path.
    pub responses: Option<Responses>,
    /// Say yes to usual yes/no questions. Default true.
    #[serde(rename = "autoRespond")]
    pub auto_respond: Option<bool>,
    /// false: answer nothing.
    pub interactive: Option<bool>,
    /// Seconds; 0 = no limit. Default 120.
    pub timeout: Option<u64>,
    /// Seconds until a reminder.
    pub rappel: Option<u64>,
}

/// Patterns and their answers.
#[derive(Clone, PartialEq, Eq)]
pub struct Responses {
    /// They were given as a list. The members of a JSON object have no order (RFC 8259, 4).
    pub ordered: bool,
    pub pairs: Vec<(String, String)>,
}

// An answer may be a secret.
impl std::fmt::Debug for Responses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.pairs.iter().map(|(pattern, _)| pattern)).finish()
    }
}

impl<'de> Deserialize<'de> for Responses {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The error must not quote the value, which may be a secret.
        let wrong = || D::Error::custom("expected {prompt: answer} or a list of such, with texts for both");
        let pairs = |map: Map<String, Value>| {
            map.into_iter().map(|(pattern, answer)| match answer {
                Value::String(answer) => Ok((pattern, answer)),
                Value::Number(answer) => Ok((pattern, answer.to_string())),
                _ => Err(wrong()),
            })
        };
        match Value::deserialize(deserializer)? {
            Value::Object(map) => Ok(Responses { ordered: false, pairs: pairs(map).collect::<Result<_, _>>()? }),
            Value::Array(maps) => {
                let mut all = Vec::new();
                for map in maps {
                    let Value::Object(map) = map else { return Err(wrong()) };
                    all.extend(pairs(map).collect::<Result<Vec<_>, _>>()?);
                }
                Ok(Responses { ordered: true, pairs: all })
            }
            _ => Err(wrong()),
        }
    }
}

impl JsonSchema for Responses {
    fn schema_name() -> Cow<'static, str> {
        "Responses".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [{"type": "object"}, {"type": "array", "items": {"type": "object"}}]})
    }
}

impl InteractiveArguments {
    /// The rules, with the secrets that they refer to.
    pub async fn rules(&self, settings: &Settings) -> Result<Vec<Rule>, Problem> {
        let mut rules = Vec::new();
        for (text, answer) in self.responses.iter().flat_map(|responses| &responses.pairs) {
            let (answer, referred) = match reference(text, answer)? {
                Some(reference) => {
                    allow(text, &reference, settings).await?;
                    (reference.resolve().await?, true)
                }
                None => (Secret::new(answer.as_str()), false),
            };
            rules.push(Rule { pattern: pattern(text)?, answer, hidden: referred || names_a_secret(text) });
        }
        Ok(rules)
    }
}

/// The pattern that a text means.
fn pattern(text: &str) -> Result<Pattern, Problem> {
    let regex = text.strip_prefix('/').and_then(|rest| rest.rsplit_once('/'));
    let Some((regex, flags)) =
        regex.filter(|(regex, flags)| !regex.is_empty() && flags.chars().all(|flag| flag == 'i'))
    else {
        return Ok(Pattern::Text(text.to_owned()));
    };
    let built = RegexBuilder::new(regex).case_insensitive(!flags.is_empty()).size_limit(1 << 20).build();
    built.map(Pattern::Regex).map_err(|error| {
        Problem::invalid(format!("{NAME}: argument \"responses\": {text:?} is no regular expression: {error}"))
            .detail("argument", "responses")
    })
}

/// The reference that an answer is. A command is refused: a prompt on a server is no reason to run one on this machine.
fn reference(text: &str, answer: &str) -> Result<Option<Reference>, Problem> {
    if !Reference::looks_like_one(answer) {
        return Ok(None);
    }
    if answer.starts_with("cmd:") {
        let message =
            format!("{NAME}: argument \"responses\": the answer to {text:?} is a command, which is not run here");
        return Err(Problem::invalid(message)
            .detail("argument", "responses")
            .hint("Refer to a secret by env:NAME or file:/path."));
    }
    Reference::parse(answer).map(Some).map_err(|error| {
        Problem::invalid(format!("{NAME}: argument \"responses\": the answer to {text:?}: {error}"))
            .detail("argument", "responses")
    })
}

/// What is typed on a server can be read there, so our own keys are not for it, nor files out of the allowed folders.
async fn allow(text: &str, reference: &Reference, settings: &Settings) -> Result<(), Problem> {
    let refused = |what: &str| {
        let message = format!("{NAME}: argument \"responses\": the answer to {text:?} refers to {what}");
        Err(Problem::invalid(message).detail("argument", "responses"))
    };
    match reference {
        Reference::Env(name) if name.starts_with("MCP_") => refused("a setting of the orchestrator"),
        Reference::File(path) => {
            // A link is judged by where it leads; one that leads nowhere is told when it is read.
            let path = tokio::fs::canonicalize(path).await.unwrap_or_else(|_| path.clone());
            let data = tokio::fs::canonicalize(&settings.data_dir).await.unwrap_or_else(|_| settings.data_dir.clone());
            let roots = &settings.allowed_roots;
            if path.starts_with(data) {
                return refused("the orchestrator's own data");
            }
            if !roots.is_empty() && !roots.iter().any(|root| path.starts_with(root)) {
                return refused("a file outside of MCP_ALLOWED_ROOTS");
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

impl JobArguments for InteractiveArguments {
    fn check(&self) -> Result<(), Problem> {
        let wrong = |argument: &str, text: String| Err(Problem::invalid(text).detail("argument", argument));
        if self.cmd.trim().is_empty() {
            return wrong("cmd", format!("{NAME}: argument \"cmd\" is empty"));
        }
        if self.cmd.contains('\0') {
            return wrong("cmd", format!("{NAME}: argument \"cmd\" holds a NUL character, which no shell can read"));
        }
        let Some(responses) = &self.responses else { return Ok(()) };
        if responses.pairs.len() > MOST {
            return wrong("responses", format!("{NAME}: argument \"responses\" has more than {MOST} patterns"));
        }
        for (text, answer) in &responses.pairs {
            if text.trim().is_empty() {
                return wrong(
                    "responses",
                    format!("{NAME}: argument \"responses\" has an empty prompt, which fits all"),
                );
            }
            if answer == NOT_KEPT {
                let problem = Problem::invalid(format!(
                    "the answer to {text:?} was not kept with the job, since answers may be secrets"
                ));
                return Err(problem.detail("argument", "responses").hint(format!(
                    "Call {NAME} again with the answer; one given as env:NAME or file:/path can be retried."
                )));
            }
            pattern(text)?;
            reference(text, answer)?;
        }
        Ok(())
    }

    fn recorded(mut arguments: Map<String, Value>) -> Map<String, Value> {
        match arguments.get_mut("responses") {
            Some(Value::Object(map)) => forget(map),
            Some(Value::Array(maps)) => maps.iter_mut().filter_map(Value::as_object_mut).for_each(forget),
            _ => {}
        }
        arguments
    }

    fn server(&self) -> Option<String> {
        Some(self.alias.clone())
    }

    fn rappel(&self) -> Option<u64> {
        self.rappel
    }

    fn idempotency_key(&self) -> Option<String> {
        None
    }
}

fn forget(map: &mut Map<String, Value>) {
    for answer in map.values_mut() {
        let kept = answer.as_str().is_some_and(|text| {
            HARMLESS.contains(&text.to_lowercase().as_str()) || text.starts_with("env:") || text.starts_with("file:")
        });
        if !kept {
            *answer = Value::from(NOT_KEPT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(responses: Value) -> Result<InteractiveArguments, String> {
        let arguments = json!({"alias": "a", "cmd": "x", "responses": responses});
        let read = serde_json::from_value::<InteractiveArguments>(arguments).map_err(|error| error.to_string())?;
        read.check().map_err(|problem| problem.message)?;
        Ok(read)
    }

    #[test]
    fn an_object_has_no_order_and_a_list_has() {
        let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(pattern, answer)| ((*pattern).to_owned(), (*answer).to_owned())).collect()
        };
        let object = read(json!({"b": "1", "a": 2})).unwrap().responses.unwrap();
        assert_eq!((object.ordered, object.pairs.len()), (false, 2));
        let list = read(json!([{"b": "1"}, {"a": "2"}])).unwrap().responses.unwrap();
        assert_eq!((list.ordered, list.pairs), (true, pairs(&[("b", "1"), ("a", "2")])));
    }

    #[test]
    fn what_is_wrong_is_said_without_the_answer() {
        for (responses, expected) in [
            (json!({"a": ["hunter2"]}), "expected {prompt: answer}"),
            (json!("hunter2"), "expected {prompt: answer}"),
            (json!([["a", "hunter2"]]), "expected {prompt: answer}"),
            (json!({" ": "hunter2"}), "empty prompt"),
            (json!({"/(/": "hunter2"}), "no regular expression"),
            (json!({"a": "env:not a name hunter2"}), "env:"),
            (json!({"a": NOT_KEPT}), "was not kept"),
            (json!({"a": "cmd:echo hunter2"}), "is a command"),
        ] {
            let said = read(responses.clone()).err().unwrap();
            assert!(said.contains(expected) && !said.contains("hunter2"), "{responses}: {said}");
        }
    }

    #[test]
    fn a_record_keeps_prompts_and_references_and_no_answers() {
        let arguments = json!({"alias": "a", "cmd": "x", "responses": {
            "Password": "hunter2", "again": "Yes", "key": "env:KEY", "file": "file:/x", "n": 5, "cmd": "cmd:echo hunter2",
        }});
        let recorded = InteractiveArguments::recorded(arguments.as_object().unwrap().clone());
        assert_eq!(
            Value::Object(recorded),
            json!({"alias": "a", "cmd": "x", "responses": {
                "Password": NOT_KEPT, "again": "Yes", "key": "env:KEY", "file": "file:/x", "n": NOT_KEPT, "cmd": NOT_KEPT,
            }})
        );
        let list = json!({"responses": [{"a": "hunter2"}, {"b": "y"}]});
        let recorded = InteractiveArguments::recorded(list.as_object().unwrap().clone());
        assert_eq!(Value::Object(recorded), json!({"responses": [{"a": NOT_KEPT}, {"b": "y"}]}));
    }

    #[test]
    fn slashes_make_a_regular_expression() {
        for (text, regex) in [("/a+/", true), ("/a/i", true), ("/etc/passwd", false), ("a/b/", false), ("//", false)] {
            assert_eq!(matches!(pattern(text).unwrap(), Pattern::Regex(_)), regex, "{text}");
        }
        let Pattern::Regex(regex) = pattern("/NAME/i").unwrap() else { panic!("no regex") };
        assert!(regex.is_match("name"));
    }

    #[tokio::test]
    async fn our_own_secrets_are_not_typed_on_a_server() {
        let folder = tempfile::tempdir().unwrap();
        let text = folder.path().display().to_string();
        let env = std::collections::BTreeMap::from([("MCP_DATA_DIR".to_owned(), text.clone())]);
        let settings = Settings::from_sources(&env, &Default::default(), None).unwrap();
        std::fs::write(folder.path().join("secret.key"), "x").unwrap();
        for answer in [
            "env:MCP_MASTER_KEY".to_owned(),
            format!("file:{text}/secret.key"),
            format!("file:{text}/../{}/secret.key", folder.path().file_name().unwrap().display()),
        ] {
            let arguments = read(json!({"a": answer})).unwrap();
            let problem = arguments.rules(&settings).await.unwrap_err();
            assert!(problem.message.contains("orchestrator"), "{answer}: {}", problem.message);
        }
    }
}
