//! What logins of the pool asked a person, and handing them what was answered.
//!
//! Not where the answers are kept (`answers`).

use tokio::time::sleep;
use zeroize::Zeroizing;

use super::Pool;
use crate::ssh::answers::{LIFE, Standing};
use crate::ssh::question::Question;

impl Pool {
    /// What a login asked a person lately.
    pub fn question(&self, id: &str) -> Option<Standing> {
        self.0.answers.question(id)
    }

    /// Keeps a person's answer, a text per prompt, for the next login that asks this; for two minutes. `false`: it is not
    /// asked any more, or the answer does not fit.
    pub fn answer(&self, question: &Question, texts: Vec<Zeroizing<String>>) -> bool {
        let kept = self.0.answers.give(&question.id, texts);
        if kept {
            // Somebody has just taken the trouble, however often it failed before.
            self.forgive(&question.at.alias);
            let (answers, closed) = (self.0.answers.clone(), self.0.closed.clone());
            self.0.tracker.spawn(async move {
                tokio::select! {
                    () = sleep(LIFE) => answers.forget_old(),
                    () = closed.cancelled() => {}
                }
            });
        }
        kept
    }
}
