//! Whether an unknown host key is to be trusted, as a form of one field.

use rmcp::model::{BooleanSchema, ElicitRequestParams, ElicitResult, ElicitationSchema};
use serde_json::Value;

use super::has_accepted;
use crate::error::{Code, Problem};

/// The one field of the form.
const FIELD: &str = "trust";

/// A host key that nobody has vouched for.
#[derive(Clone, Debug, PartialEq)]
pub struct HostKey {
    /// What would be written down: see [`crate::ssh::HostKeys::vouch`], which takes no line that no server has shown.
    pub line: String,
    text: String,
}

impl HostKey {
    /// The question behind an error, if it is one that a person can settle. What is shown is taken from the line itself.
    pub fn about(problem: &Problem) -> Option<HostKey> {
        if problem.code != Code::HostKeyUnknown {
            return None;
        }
        let line = problem.details.get("known_hosts_line").and_then(Value::as_str)?;
        let (place, fingerprint, key_type) = crate::ssh::describe_line(line)?;
        let text = format!(
            "The server {place} shows a host key that is not known here:\n{key_type} {fingerprint}\n\
             Trust it only if somebody who knows the server has confirmed this fingerprint (on the server: ssh-keygen -lf \
             /etc/ssh/ssh_host_ed25519_key.pub). It is then written to known_hosts of the orchestrator."
        );
        Some(HostKey { line: line.to_owned(), text })
    }

    pub fn params(&self) -> Option<ElicitRequestParams> {
        let field = BooleanSchema::new().title("Trust this key").with_default(false);
        let schema = ElicitationSchema::builder().required_bool_with(FIELD, |_| field).build().ok()?;
        Some(ElicitRequestParams::FormElicitationParams {
            meta: None,
            message: self.text.clone(),
            requested_schema: schema,
        })
    }
}

/// A form that was sent off with its field left as it is, is no yes.
pub fn is_yes(result: &ElicitResult) -> bool {
    let said = result.content.as_ref().and_then(|content| content.get(FIELD)).and_then(Value::as_bool);
    has_accepted(result) && said == Some(true)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const LINE: &str =
        "[192.0.2.7]:2222 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

    #[test]
    fn the_question_names_the_server_and_the_key_of_the_line_and_nothing_else() {
        let problem = Problem::new(Code::HostKeyUnknown, "unknown")
            .detail("known_hosts_line", LINE)
            .detail("fingerprint", "SHA256:another")
            .detail("alias", "bank");
        let question = HostKey::about(&problem).unwrap();
        assert!(question.text.contains("[192.0.2.7]:2222") && question.text.contains("ssh-ed25519 SHA256:"));
        assert!(!question.text.contains("another") && !question.text.contains("bank"));
        assert!(question.params().is_some());
    }

    #[test]
    fn other_errors_are_no_question() {
        let about = |code, line: &str| HostKey::about(&Problem::new(code, "").detail("known_hosts_line", line));
        assert_eq!(about(Code::HostKeyChanged, LINE), None);
        assert_eq!(about(Code::HostKeyUnknown, "web nonsense"), None);
        assert_eq!(about(Code::HostKeyUnknown, &format!("{LINE}\nevil {}", &LINE[17..])), None);
    }

    #[test]
    fn only_a_clear_yes_is_one() {
        let agrees = |said: &Value| serde_json::from_value(said.clone()).is_ok_and(|result| is_yes(&result));
        assert!(agrees(&json!({"action": "accept", "content": {"trust": true}})));
        for other in [
            json!({"action": "accept", "content": {"trust": false}}),
            json!({"action": "accept"}),
            json!({"action": "accept", "content": {"trust": "true"}}),
            json!({"action": "decline", "content": {"trust": true}}),
            json!({"action": "cancel"}),
            json!(null),
        ] {
            assert!(!agrees(&other), "{other}");
        }
    }
}
