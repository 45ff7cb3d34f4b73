//! Asking the person behind a client what stands in the way of a call (MCP elicitation): in the middle of the call up to
//! 2025-11-25, and by having the call repeated with the answer from 2026-07-28 on.
//!
//! Whether a host key is to be trusted is asked with a form that the client shows. What a server asks during a login never
//! is: the protocol forbids forms for secrets, since they pass through the client and often through the model. For that the
//! person is shown to a page of ours (URL mode), and the client learns no more than that it was opened.

mod host_key;
mod login;
mod settling;

use std::sync::Arc;
use std::time::Duration;

use rmcp::model::{
    CallToolResponse, ClientResult, ElicitRequest, ElicitRequestParams, ElicitResult, ElicitationAction, InputRequest,
    InputRequiredResult, ProtocolVersion, ServerRequest,
};
use rmcp::service::RequestContext;
use rmcp::{Peer, RoleServer};
use serde_json::Value;

use crate::tools::Registry;

pub use host_key::HostKey;
pub use login::Login;
pub use settling::{Next, Settling};

/// How long a person may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// What a person is asked.
#[derive(Clone, Debug)]
pub enum Question {
    HostKey(HostKey),
    Login(Login),
}

/// With what a client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Form,
    Url,
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
    /// `None`: this client cannot ask like this.
    pub fn of(context: &RequestContext<RoleServer>, mode: Mode) -> Option<Way> {
        let can = context.client_capabilities()?.elicitation?;
        let (able, since) = match mode {
            // A client that names no mode means forms.
            Mode::Form => (can.form.is_some() || can.url.is_none(), ProtocolVersion::V_2025_06_18),
            Mode::Url => (can.url.is_some(), ProtocolVersion::V_2025_11_25),
        };
        match context.protocol_version()? {
            version if !able || version < since => None,
            version if version < ProtocolVersion::V_2026_07_28 => Some(Way::Request),
            _ => Some(Way::Repeat),
        }
    }
}

impl Question {
    /// What the call and its repetition have in common.
    pub fn subject(&self) -> &str {
        match self {
            Question::HostKey(key) => &key.line,
            Question::Login(login) => &login.question.id,
        }
    }

    /// For the name that the question gets where its answer comes with another call.
    pub fn kind(&self) -> &'static str {
        match self {
            Question::HostKey(_) => "host_key",
            Question::Login(_) => "login",
        }
    }

    fn params(&self, way: Way) -> Option<ElicitRequestParams> {
        match self {
            Question::HostKey(key) => key.params(),
            Question::Login(login) => Some(login.params(way)),
        }
    }

    /// Asks, and waits for the answer: whether the person has agreed.
    pub async fn ask(&self, peer: &Peer<RoleServer>) -> bool {
        match self {
            Question::HostKey(_) => self.request(peer).await.is_some_and(|result| host_key::is_yes(&result)),
            Question::Login(login) => login.ask(peer, self.request(peer)).await,
        }
    }

    /// What the client answers to a request of ours.
    async fn request(&self, peer: &Peer<RoleServer>) -> Option<ElicitResult> {
        let asked = peer.send_request(ServerRequest::ElicitRequest(ElicitRequest::new(self.params(Way::Request)?)));
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(ClientResult::ElicitResult(result))) => Some(result),
            other => {
                tracing::info!(answered = other.is_ok(), kind = self.kind(), "a question got no answer");
                None
            }
        }
    }

    /// An answer to a call that asks for the call to be repeated with what the person says, under `name`.
    pub fn required(&self, name: String) -> Option<CallToolResponse> {
        let request = InputRequest::Elicitation(ElicitRequest::new(self.params(Way::Repeat)?));
        Some(InputRequiredResult::from_input_requests([(name, request)].into()).into())
    }

    /// Whether an answer that came with a repeated call says yes; for a page, once it was answered.
    pub async fn agrees(&self, response: &Value) -> bool {
        let Ok(result) = serde_json::from_value::<ElicitResult>(response.clone()) else { return false };
        match self {
            Question::HostKey(_) => host_key::is_yes(&result),
            Question::Login(login) => login.is_answered(has_accepted(&result)).await,
        }
    }

    /// Does what the person has agreed to. `false`: it could not be done.
    pub async fn act(&self, registry: &Arc<Registry>, caller: &str) -> bool {
        match self {
            Question::HostKey(key) => registry.vouch(caller, &key.line).await,
            // The page has handed over the answer by itself.
            Question::Login(_) => true,
        }
    }
}

fn has_accepted(result: &ElicitResult) -> bool {
    matches!(result.action, ElicitationAction::Accept)
}
