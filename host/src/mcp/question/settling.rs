//! Settling with the person behind a client what stands in the way of one call, so that the call can be made once more.
//!
//! Nothing was run on a server whose key is not known or whose login asks, so nobody notices the repetition.

use std::sync::Arc;

use rmcp::RoleServer;
use rmcp::model::{CallToolResponse, InputResponses};
use rmcp::service::RequestContext;
use tokio_util::sync::CancellationToken;

use super::{HostKey, Login, Mode, Question, Way};
use crate::error::Problem;
use crate::failpoint::failpoint;
use crate::mcp::session::Session;
use crate::ssh::Standing;
use crate::tools::Registry;

/// A server and those on the way to it.
const MAX_QUESTIONS: usize = 10;
/// Of those, pages: the rounds of questions that a login has, and one that another login has used up.
const MAX_PAGES: usize = 4;

/// What becomes of a call that failed.
pub enum Next {
    /// It is made once more.
    Again,
    /// The client is to repeat it with a person's answer.
    Required(Box<CallToolResponse>),
    /// It has failed.
    Over(Problem),
}

/// One call and the person behind it.
pub struct Settling<'a> {
    pub registry: &'a Arc<Registry>,
    pub session: &'a Arc<Session>,
    pub context: &'a RequestContext<RoleServer>,
    pub caller: &'a str,
    /// Fires when the call is no longer wanted.
    pub cancel: &'a CancellationToken,
    /// What was agreed to, by its subject, and what was not.
    settled: Vec<String>,
    refused: Vec<String>,
    pages: usize,
}

impl<'a> Settling<'a> {
    pub fn new(
        registry: &'a Arc<Registry>,
        session: &'a Arc<Session>,
        context: &'a RequestContext<RoleServer>,
        caller: &'a str,
        cancel: &'a CancellationToken,
    ) -> Self {
        let (settled, refused) = (Vec::new(), Vec::new());
        Settling { registry, session, context, caller, cancel, settled, refused, pages: 0 }
    }

    /// Takes the answers that came with a repeated call. What was not asked by us on this connection is no answer, however it
    /// is called.
    pub async fn take(&mut self, responses: &InputResponses) {
        for (name, response) in responses {
            if let Some(question) = self.session.answered(name) {
                let agreed = self.unless_over(question.agrees(response)).await;
                self.conclude(&question, agreed).await;
            }
        }
    }

    /// Asks about what the call failed with, if a person can settle it and the client can ask.
    pub async fn settle(&mut self, problem: Problem) -> Next {
        let question = match HostKey::about(&problem) {
            Some(key) => self.pose(key.line.clone(), Mode::Form, || Some(Question::HostKey(key))),
            None => match Login::about(&problem, self.registry) {
                None => Posed::No,
                // While this call failed, another one got the answer; a job that had failed before is found again by its key.
                Some((id, Standing::Answered)) if !self.has_met(id) => {
                    self.settled.push(id.to_owned());
                    return Next::Again;
                }
                Some((id, Standing::Answered)) => self.pose(id.to_owned(), Mode::Url, || None),
                Some((id, Standing::Open(asked))) => {
                    let is_enough = self.pages == MAX_PAGES;
                    self.pages += 1;
                    failpoint("question-seen");
                    let open = || Login::open(asked, self.registry, self.session, self.caller).map(Question::Login);
                    self.pose(id.to_owned(), Mode::Url, || if is_enough { None } else { open() })
                }
            },
        };
        let (question, way) = match question {
            Posed::No => return Next::Over(problem),
            Posed::Settled => {
                return Next::Over(
                    problem
                        .hint("This is settled by now: call again, with another idempotencyKey if the call had one."),
                );
            }
            Posed::Yes(question, way) => (question, way),
        };
        // Between the look at the question and that for its page another call got the answer, and its page was closed: a
        // page of this call's own would be one that nobody needs.
        if let Question::Login(login) = &question
            && login.is_late(self.registry)
        {
            self.settled.push(question.subject().to_owned());
            return Next::Again;
        }
        if way == Way::Repeat {
            let name = self.session.wonder(question.clone());
            return question.required(name).map_or(Next::Over(problem), |answer| Next::Required(Box::new(answer)));
        }
        let agreed = self.unless_over(question.ask(&self.context.peer)).await;
        match self.conclude(&question, agreed).await {
            true => Next::Again,
            false => Next::Over(problem),
        }
    }

    /// The question about this subject, if it is still one for this call and this client.
    fn pose(&self, subject: String, mode: Mode, make: impl FnOnce() -> Option<Question>) -> Posed {
        if self.settled.contains(&subject) {
            return Posed::Settled;
        }
        match Way::of(self.context, mode) {
            Some(way) if !self.has_met(&subject) && self.settled.len() < MAX_QUESTIONS => {
                make().map_or(Posed::No, |question| Posed::Yes(question, way))
            }
            _ => Posed::No,
        }
    }

    /// Whether this call had to do with it before, with whatever result.
    fn has_met(&self, subject: &str) -> bool {
        self.settled.iter().chain(&self.refused).any(|known| known == subject)
    }

    /// A person's answer, unless it is no longer wanted before it is there.
    async fn unless_over(&self, agreed: impl Future<Output = bool>) -> bool {
        tokio::select! {
            agreed = agreed => agreed,
            () = self.cancel.cancelled() => false,
            () = self.session.over() => false,
        }
    }

    async fn conclude(&mut self, question: &Question, agreed: bool) -> bool {
        let settled = agreed && question.act(self.registry, self.caller).await;
        let list = if settled { &mut self.settled } else { &mut self.refused };
        list.push(question.subject().to_owned());
        settled
    }
}

/// Whether there is something to ask.
enum Posed {
    No,
    /// It was asked and answered, and did not help this call.
    Settled,
    Yes(Question, Way),
}
