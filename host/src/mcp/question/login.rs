//! What a server asks during a login, answered on a page of ours: the client opens it and learns nothing else.

use std::sync::Arc;

use futures::FutureExt;
use rmcp::model::{CustomNotification, ElicitRequestParams, ElicitResult, RequestMetaObject, ServerNotification};
use rmcp::{Peer, RoleServer};
use serde_json::{Value, json};

use super::{PATIENCE, Way, has_accepted};
use crate::error::Problem;
use crate::mcp::session::Session;
use crate::page::{End, Field, Form, Page, Take};
use crate::ssh;
use crate::tools::Registry;

/// What the page asks, for clients that ask in their own way and then answer it: our own verb at a terminal is one.
const FORM: &str = "mcp-orchestrator/form";

/// A question of a server's and the page for it.
#[derive(Clone, Debug)]
pub struct Login {
    pub question: Arc<ssh::Question>,
    form: Form,
    page: Arc<Page>,
    /// Another call opened the page, and its client was asked then.
    is_joined: bool,
}

impl Login {
    /// The id of the question behind an error, and what has become of it, if a login of this process came to it lately. What
    /// the error says itself counts for nothing: it may come from a plugin.
    pub fn about<'a>(problem: &'a Problem, registry: &Registry) -> Option<(&'a str, ssh::Standing)> {
        let id = problem.details.get("question").and_then(Value::as_str)?;
        Some((id, registry.question(id)?))
    }

    /// Opens the page, or joins a call of the same client that has met the same question.
    pub fn open(
        question: Arc<ssh::Question>,
        registry: &Arc<Registry>,
        session: &Session,
        caller: &str,
    ) -> Option<Login> {
        let form = form(&question);
        let (registry, caller, asked) = (Arc::clone(registry), caller.to_owned(), Arc::clone(&question));
        let take: Take = Box::new(move |texts| async move { registry.answer(&caller, &asked, texts).await }.boxed());
        match session.page(&question.id, || Page::open(form.clone(), PATIENCE, take)) {
            Ok((page, is_joined)) => Some(Login { question, form, page, is_joined }),
            Err(error) => {
                tracing::error!("no page could be opened to ask a person: {error}");
                None
            }
        }
    }

    /// Whether the page was opened for a question that has been answered by now.
    pub fn is_late(&self, registry: &Registry) -> bool {
        !self.is_joined && registry.question(&self.question.id) == Some(ssh::Standing::Answered)
    }

    pub fn params(&self, way: Way) -> ElicitRequestParams {
        let ssh::Question { at, user, .. } = &*self.question;
        let mut meta = RequestMetaObject::new();
        meta.0.0.insert(FORM.to_owned(), json!(self.form));
        ElicitRequestParams::UrlElicitationParams {
            meta: Some(meta),
            message: format!(
                "The login of {user} at {at} asks {}. Answer on a page of the orchestrator on this machine (127.0.0.1): what you \
                 type there goes to that server and is kept nowhere.",
                self.question.shown()
            ),
            url: self.page.url(),
            // 2026-07-28 has none: there is nothing that would refer to it.
            elicitation_id: if way == Way::Request { self.question.id.clone() } else { String::new() },
        }
    }

    /// Waits until the page was answered, which it may be before the client says that it was opened. `request` asks the
    /// client.
    pub async fn ask(&self, peer: &Peer<RoleServer>, request: impl Future<Output = Option<ElicitResult>>) -> bool {
        if self.is_joined {
            return self.page.ended().await == End::Answered;
        }
        let end = tokio::select! {
            end = self.page.ended() => end,
            result = request => match result {
                Some(result) if has_accepted(&result) => self.page.ended().await,
                _ => {
                    self.page.close();
                    End::Unanswered
                }
            },
        };
        let done = json!({"elicitationId": self.question.id});
        let told = CustomNotification::new("notifications/elicitation/complete", Some(done));
        // A client that has gone does not need it.
        let _ = peer.send_notification(ServerNotification::CustomNotification(told)).await;
        end == End::Answered
    }

    /// Waits until the page was answered, if the person has agreed to open it.
    pub async fn is_answered(&self, has_agreed: bool) -> bool {
        if !has_agreed {
            self.page.close();
        }
        self.page.ended().await == End::Answered
    }
}

fn form(question: &ssh::Question) -> Form {
    let ssh::Question { at, user, name, instruction, prompts, .. } = question;
    let said = [name, instruction].into_iter().filter(|text| !text.trim().is_empty()).cloned();
    let about = std::iter::once(format!("This is asked during the login of {user} at {at}.")).chain(said);
    let field = |prompt: &ssh::Prompt| Field { label: prompt.text.clone(), hidden: !prompt.echo };
    Form {
        title: format!("{} wants to know", at.alias),
        about: about.collect(),
        fields: prompts.iter().map(field).collect(),
    }
}
