//! A person's answers to what servers ask during a login, kept in memory for the login that they are for and no other.
//!
//! An answer is good for one login and for two minutes, and then it is gone. It is never written down or logged.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use zeroize::Zeroizing;

use super::error::Endpoint;
use super::question::Question;

/// How long an answer is good: longer than a one-time code is, so that it is the server who refuses an old one.
pub const LIFE: Duration = Duration::from_secs(120);
/// How long somebody may think before a question has to be asked anew.
const OPEN: Duration = Duration::from_secs(600);
/// Of questions that are open, and of answers that wait. The oldest goes when there are too many.
const MAX: usize = 64;

/// What is asked, and what was answered. Clones share it. A plain lock, held for a look-up.
#[derive(Clone, Default)]
pub struct Answers(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    open: VecDeque<(Instant, Arc<Question>)>,
    given: VecDeque<Given>,
    /// The ids of questions that were answered lately.
    answered: VecDeque<(Instant, String)>,
}

/// What has become of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nobody has answered yet.
    Open(Arc<Question>),
    /// Somebody just has.
    Answered,
}

/// What a person answered, a text per prompt. Overwritten when it is dropped.
pub struct Given {
    question: Arc<Question>,
    texts: Vec<Zeroizing<String>>,
    until: Instant,
}

impl Given {
    /// As the library wants them.
    pub fn texts(&self) -> Vec<String> {
        self.texts.iter().map(|text| text.as_str().to_owned()).collect()
    }
}

impl Answers {
    fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        state.open.retain(|(since, _)| now < *since + OPEN);
        state.given.retain(|given| now < given.until);
        state.answered.retain(|(since, _)| now < *since + LIFE);
        state
    }

    /// Notes that a login waits for these answers. Who comes with the same question while it is open gets the same one, so
    /// that a person is asked once.
    pub fn ask(&self, question: Question) -> Arc<Question> {
        let mut state = self.lock();
        let known = state.open.iter().position(|(_, known)| known.is_same(&question));
        let question =
            known.and_then(|at| state.open.remove(at)).map_or_else(|| Arc::new(question), |(_, known)| known);
        if state.open.len() >= MAX {
            state.open.pop_front();
        }
        state.open.push_back((Instant::now(), Arc::clone(&question)));
        question
    }

    /// The question of that id. `None`: there was none, or not lately.
    pub fn question(&self, id: &str) -> Option<Standing> {
        let state = self.lock();
        let open = state.open.iter().find(|(_, question)| question.id == id);
        let open = open.map(|(_, question)| Standing::Open(Arc::clone(question)));
        open.or_else(|| state.answered.iter().any(|(_, known)| known == id).then_some(Standing::Answered))
    }

    /// Keeps what a person answered, a text per prompt, for the next login that asks this. `false`: nothing of the kind was
    /// asked lately.
    pub fn give(&self, id: &str, texts: Vec<Zeroizing<String>>) -> bool {
        let mut state = self.lock();
        let Some(at) = state.open.iter().position(|(_, question)| question.id == id) else { return false };
        let Some((_, question)) = state.open.remove(at) else { return false };
        if texts.len() != question.prompts.len() {
            return false;
        }
        state.given.retain(|given| !given.question.is_same(&question));
        let now = Instant::now();
        if state.answered.len() >= MAX {
            state.answered.pop_front();
        }
        state.answered.push_back((now, question.id.clone()));
        let until = now + LIFE;
        state.put(Given { question, texts, until });
        true
    }

    /// The answers to this question, which nobody else gets any more.
    pub fn take(&self, question: &Question) -> Option<Given> {
        let mut state = self.lock();
        let at = state.given.iter().position(|given| given.question.is_same(question))?;
        state.given.remove(at)
    }

    /// Answers that led to a further question, so that the login that goes on to it need not ask for them again. They live no
    /// longer than before.
    pub fn give_back(&self, given: Vec<Given>) {
        let mut state = self.lock();
        given.into_iter().for_each(|given| state.put(given));
    }

    /// Whether there is an answer to anything that this server asks of this user.
    pub fn any(&self, at: &Endpoint, user: &str) -> bool {
        self.lock().given.iter().any(|given| *given.question.at == *at && given.question.user == user)
    }

    /// Drops what is too old, and with it the texts.
    pub fn forget_old(&self) {
        drop(self.lock());
    }
}

impl State {
    fn put(&mut self, given: Given) {
        if self.given.len() >= MAX {
            self.given.pop_front();
        }
        self.given.push_back(given);
    }
}

#[cfg(test)]
mod tests {
    use super::super::question::tests::question;
    use super::*;

    fn text(text: &str) -> Vec<Zeroizing<String>> {
        vec![Zeroizing::new(text.to_owned())]
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_for_exactly_what_was_asked_and_for_one_login() {
        let answers = Answers::default();
        let code = answers.ask(question(&[("Code: ", false)]));
        assert!(answers.give(&code.id, text("123456")));
        assert!(answers.take(&question(&[("Code: ", true)])).is_none());
        assert!(answers.take(&question(&[("Password: ", false)])).is_none());
        let other_port = Arc::new(Endpoint { port: 23, ..Endpoint::clone(&code.at) });
        assert!(answers.take(&Question { at: other_port.clone(), ..question(&[("Code: ", false)]) }).is_none());
        assert!(answers.any(&code.at, "ada") && !answers.any(&code.at, "bob") && !answers.any(&other_port, "ada"));
        assert_eq!(answers.take(&question(&[("Code: ", false)])).unwrap().texts(), ["123456"]);
        assert!(answers.take(&code).is_none() && !answers.any(&code.at, "ada"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_question_is_asked_once_and_answered_once() {
        let answers = Answers::default();
        let first = answers.ask(question(&[("Code: ", false)]));
        assert_eq!(answers.ask(question(&[("Code: ", false)])).id, first.id);
        assert_eq!(answers.question(&first.id), Some(Standing::Open(first.clone())));
        assert!(!answers.give("0123456789abcdef", text("made up")));
        assert!(answers.give(&first.id, text("123456")) && !answers.give(&first.id, text("654321")));
        assert_eq!((answers.question(&first.id), answers.question("made up")), (Some(Standing::Answered), None));
        assert_ne!(answers.ask(question(&[("Code: ", false)])).id, first.id);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_needs_a_text_for_every_prompt() {
        let answers = Answers::default();
        let both = answers.ask(question(&[("Password: ", false), ("Code: ", false)]));
        assert!(!answers.give(&both.id, text("123456")));
        assert!(answers.take(&both).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_forgotten_after_two_minutes_also_one_that_was_given_back() {
        let answers = Answers::default();
        let code = answers.ask(question(&[("Code: ", false)]));
        answers.give(&code.id, text("123456"));
        tokio::time::advance(LIFE - Duration::from_secs(1)).await;
        let taken = answers.take(&code).unwrap();
        answers.give_back(vec![taken]);
        assert!(answers.any(&code.at, "ada"));
        tokio::time::advance(Duration::from_secs(1)).await;
        answers.forget_old();
        assert!(answers.0.lock().unwrap().given.is_empty() && answers.take(&code).is_none());
    }
}
