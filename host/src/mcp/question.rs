//! Asking the person behind a client whether an unknown host key is to be trusted (MCP elicitation): in the middle of the call
//! up to 2025-11-25, and by having the call repeated with the answer from 2026-07-28 on.
//!
//! Only this is asked. A one-time code or a password is not: the protocol forbids forms for secrets, since they pass through
//! the client and often through the model.

use std::time::Duration;

use rmcp::model::{
    BooleanSchema, CallToolResponse, ClientResult, ElicitRequest, ElicitRequestParams, ElicitResult, ElicitationAction,
    ElicitationSchema, InputRequest, InputRequiredResult, ProtocolVersion, ServerRequest,
};
use rmcp::service::RequestContext;
use rmcp::{Peer, RoleServer};
use serde_json::Value;

use crate::error::{Code, Problem};

/// How long a person may take.
const PATIENCE: Duration = Duration::from_secs(300);
/// The one field of the form.
const FIELD: &str = "trust";

/// A host key that nobody has vouched for.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// What would be written down: see [`crate::ssh::HostKeys::vouch`], which takes no line that no server has shown.
    pub line: String,
    text: String,
}

/// How a client can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// With a request of ours, during the call.
    Request,
    /// With an answer that asks for the call to be repeated.
    Repeat,
}

impl Way {
    /// `None`: this client cannot show a form.
    pub fn of(context: &RequestContext<RoleServer>) -> Option<Way> {
        let can = context.client_capabilities()?.elicitation?;
        // A client that names no mode means forms.
        if can.form.is_none() && can.url.is_some() {
            return None;
        }
        match context.protocol_version()? {
            version if version < ProtocolVersion::V_2025_06_18 => None,
            version if version < ProtocolVersion::V_2026_07_28 => Some(Way::Request),
            _ => Some(Way::Repeat),
        }
    }
}

impl Question {
    /// The question behind an error, if it is one that a person can settle. What is shown is taken from the line itself.
    pub fn about(problem: &Problem) -> Option<Question> {
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
        Some(Question { line: line.to_owned(), text })
    }

    fn params(&self) -> Option<ElicitRequestParams> {
        let field = BooleanSchema::new().title("Trust this key").with_default(false);
        let schema = ElicitationSchema::builder().required_bool_with(FIELD, |_| field).build().ok()?;
        Some(ElicitRequestParams::FormElicitationParams {
            meta: None,
            message: self.text.clone(),
            requested_schema: schema,
        })
    }

    /// Asks, and waits for the answer.
    pub async fn ask(&self, peer: &Peer<RoleServer>) -> bool {
        let Some(params) = self.params() else { return false };
        let asked = peer.send_request(ServerRequest::ElicitRequest(ElicitRequest::new(params)));
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(ClientResult::ElicitResult(result))) => is_yes(&result),
            other => {
                tracing::info!(answered = other.is_ok(), "the question about a host key got no answer");
                false
            }
        }
    }

    /// An answer to a call that asks for the call to be repeated with what the person says, under `name`.
    pub fn required(&self, name: String) -> Option<CallToolResponse> {
        let request = InputRequest::Elicitation(ElicitRequest::new(self.params()?));
        Some(InputRequiredResult::from_input_requests([(name, request)].into()).into())
    }
}

/// Whether an answer that came with a repeated call says yes.
pub fn agrees(response: &Value) -> bool {
    serde_json::from_value(response.clone()).is_ok_and(|result: ElicitResult| is_yes(&result))
}

/// A form that was sent off with its field left as it is, is no yes.
fn is_yes(result: &ElicitResult) -> bool {
    let said = result.content.as_ref().and_then(|content| content.get(FIELD)).and_then(Value::as_bool);
    matches!(result.action, ElicitationAction::Accept) && said == Some(true)
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
        let question = Question::about(&problem).unwrap();
        assert!(question.text.contains("[192.0.2.7]:2222") && question.text.contains("ssh-ed25519 SHA256:"));
        assert!(!question.text.contains("another") && !question.text.contains("bank"));
        assert!(question.params().is_some());
    }

    #[test]
    fn other_errors_are_no_question() {
        let about = |code, line: &str| Question::about(&Problem::new(code, "").detail("known_hosts_line", line));
        assert_eq!(about(Code::HostKeyChanged, LINE), None);
        assert_eq!(about(Code::HostKeyUnknown, "web nonsense"), None);
        assert_eq!(about(Code::HostKeyUnknown, &format!("{LINE}\nevil {}", &LINE[17..])), None);
    }

    #[test]
    fn only_a_clear_yes_is_one() {
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
