//! What belongs to one client and to no other: its number, its calls under way, and whether it is still there.
//!
//! A call ends early in three ways that must not be confused. The client cancels it: then its job is stopped. The program
//! ends: the same. The client goes away: then only the waiting ends, and the job goes on.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rmcp::model::RequestId;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::gate::Gate;
use super::question::Question;
use crate::page::Page;

/// Questions that may be open at a time.
const MAX_OPEN: usize = 64;

/// Each call under way costs memory; a client with more of them than this floods the queue and will look for its jobs later.
const CROWD: usize = 256;

/// One client's session.
#[derive(Debug)]
pub struct Session {
    /// Tells apart the clients of one daemon; they often have the same name.
    number: Option<u64>,
    /// Which of its calls are not on disk yet.
    pub gate: Gate,
    /// Fires when the program ends.
    stop: CancellationToken,
    /// Fires when the client has gone and what was answered in time has been written.
    over: CancellationToken,
    /// The calls under way. A plain mutex, held for a look-up.
    calls: Mutex<HashMap<RequestId, CancellationToken>>,
    /// How many these are, for whoever waits for the last of them.
    count: watch::Sender<usize>,
    /// Questions that were handed out with an answer, by the name that their own answers must have. The oldest goes when there
    /// are too many. A plain mutex, held for a look-up.
    questions: Mutex<VecDeque<(String, Question)>>,
    /// The pages that a person behind this client is asked to answer, by what they ask. They live as long as a call or an open
    /// question needs them. A plain mutex, held for opening one.
    pages: Mutex<Vec<(String, Weak<Page>)>>,
}

/// A call under way; forgotten when it is dropped.
pub struct Asked {
    /// Fires when the client cancels this call, or the program ends.
    pub cancel: CancellationToken,
    session: Arc<Session>,
    id: RequestId,
}

impl Session {
    pub fn new(number: Option<u64>, stop: CancellationToken) -> Arc<Session> {
        let count = watch::Sender::new(0);
        let (over, calls, gate) = (CancellationToken::new(), Mutex::default(), Gate::new());
        let (questions, pages) = (Mutex::default(), Mutex::default());
        Arc::new(Session { number, gate, stop, over, calls, count, questions, pages })
    }

    /// Who is written down as the caller: the client as it calls itself, and which one of that name.
    pub fn caller(&self, client: String) -> String {
        match self.number {
            Some(number) => format!("{client} #{number}"),
            None => client,
        }
    }

    pub fn ask(self: &Arc<Self>, id: RequestId) -> Asked {
        let cancel = self.stop.child_token();
        let mut calls = self.calls();
        calls.insert(id.clone(), cancel.clone());
        self.count.send_replace(calls.len());
        drop(calls);
        Asked { cancel, session: Arc::clone(self), id }
    }

    /// Keeps a question until its answer comes, and returns the name for both.
    pub fn wonder(&self, question: Question) -> String {
        let name = format!("{}_{:016x}", question.kind(), rand::random::<u64>());
        let mut questions = self.questions.lock().unwrap_or_else(PoisonError::into_inner);
        if questions.len() >= MAX_OPEN {
            questions.pop_front();
        }
        questions.push_back((name.clone(), question));
        name
    }

    /// The question of this name, which is answered by that.
    pub fn answered(&self, name: &str) -> Option<Question> {
        let mut questions = self.questions.lock().unwrap_or_else(PoisonError::into_inner);
        let at = questions.iter().position(|(known, _)| known == name)?;
        questions.remove(at).map(|(_, question)| question)
    }

    /// The page that asks this, and whether it was there already: calls that meet the same question at the same time share
    /// one.
    pub fn page(&self, asks: &str, open: impl FnOnce() -> io::Result<Page>) -> io::Result<(Arc<Page>, bool)> {
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        pages.retain(|(_, page)| page.strong_count() > 0);
        let known = pages.iter().find(|(known, _)| known == asks).and_then(|(_, page)| page.upgrade());
        if let Some(page) = known.filter(|page| page.is_open()) {
            return Ok((page, true));
        }
        let page = Arc::new(open()?);
        pages.push((asks.to_owned(), Arc::downgrade(&page)));
        Ok((page, false))
    }

    /// Stops a call of this client's. An id that is not under way is none of ours, or was answered already.
    pub fn cancel(&self, id: &RequestId) {
        if let Some(call) = self.calls().get(id) {
            call.cancel();
        }
    }

    /// Whether more calls are under way than anybody waits for one by one.
    pub fn is_crowded(&self) -> bool {
        *self.count.borrow() > CROWD
    }

    /// Waits until no call is under way.
    pub async fn quiet(&self) {
        // The sender is ours, so this cannot fail.
        let _ = self.count.subscribe().wait_for(|count| *count == 0).await;
    }

    pub fn end(&self) {
        self.over.cancel();
        // Nobody is left to be asked.
        self.questions.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Waits for the session's end.
    pub async fn over(&self) {
        self.over.cancelled().await;
    }

    fn calls(&self) -> MutexGuard<'_, HashMap<RequestId, CancellationToken>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let mut calls = self.session.calls();
        calls.remove(&self.id);
        self.session.count.send_replace(calls.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: i64) -> RequestId {
        RequestId::Number(number)
    }

    #[test]
    fn a_client_cancels_its_own_call_and_nobody_elses() {
        let stop = CancellationToken::new();
        let (one, other) = (Session::new(Some(1), stop.clone()), Session::new(Some(2), stop));
        let (mine, also_mine, theirs) = (one.ask(id(1)), one.ask(id(2)), other.ask(id(1)));
        one.cancel(&id(1));
        one.cancel(&id(9));
        assert!(mine.cancel.is_cancelled());
        assert!(!also_mine.cancel.is_cancelled() && !theirs.cancel.is_cancelled());
        drop(mine);
        assert_eq!(one.calls().len(), 1);
    }

    #[test]
    fn the_end_of_the_session_stops_no_call_and_the_end_of_the_program_stops_all() {
        let stop = CancellationToken::new();
        let session = Session::new(None, stop.clone());
        let call = session.ask(id(1));
        session.end();
        assert!(!call.cancel.is_cancelled());
        stop.cancel();
        assert!(call.cancel.is_cancelled());
    }

    #[test]
    fn callers_of_the_same_name_are_told_apart() {
        let session = |number| Session::new(number, CancellationToken::new());
        assert_eq!(session(Some(3)).caller("claude 1.0".to_owned()), "claude 1.0 #3");
        assert_eq!(session(None).caller("claude 1.0".to_owned()), "claude 1.0");
    }
}
