//! A one-time code as a second factor (RFC 4256): what the embedded server asks, and when.

use std::sync::{Mutex, PoisonError};

use russh::server::Auth;
use russh::{MethodKind, MethodSet};

/// How the server asks for the code. It looks like a tag, so that what shows it has to know how.
pub const CODE_PROMPT: &str = "Verification <code>: ";
const PASSWORD_PROMPT: &str = "Password: ";

/// With what the code is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// With the password, in one request.
    Together,
    /// After the password, in a request of its own.
    InTurn,
    /// After a key.
    AfterKey,
}

/// A server that asks for a code.
#[derive(Debug)]
pub struct Asks {
    when: When,
    /// Those that are good still; each is good once. A plain lock, held for taking one out.
    codes: Mutex<Vec<String>>,
}

/// How far the login on one connection has come.
#[derive(Default)]
pub(super) struct Progress {
    key: bool,
    /// Whether it was right. It is judged with the code, so that nobody learns which of the two was wrong.
    password: Option<bool>,
}

impl Asks {
    pub fn new(when: When, codes: &[&str]) -> Asks {
        Asks { when, codes: Mutex::new(codes.iter().map(|code| (*code).to_owned()).collect()) }
    }

    pub(super) fn methods(&self) -> MethodSet {
        MethodSet::from(match self.when {
            When::AfterKey => &[MethodKind::PublicKey][..],
            _ => &[MethodKind::KeyboardInteractive][..],
        })
    }

    pub(super) fn takes_keys(&self) -> bool {
        self.when == When::AfterKey
    }

    pub(super) fn after_key(&self, progress: &mut Progress) -> Auth {
        progress.key = true;
        let wanted = MethodSet::from(&[MethodKind::KeyboardInteractive][..]);
        Auth::Reject { proceed_with_methods: Some(wanted), partial_success: true }
    }

    /// What the server says to these answers, or first of all.
    pub(super) fn hear(&self, texts: Option<Vec<String>>, password: Option<&str>, progress: &mut Progress) -> Auth {
        let texts: Vec<&str> = texts.iter().flatten().map(String::as_str).collect();
        let is_password = |text: &str| Some(text) == password;
        let verdict = |right: bool| if right { Auth::Accept } else { Auth::reject() };
        match (self.when, texts.as_slice()) {
            (When::Together, []) => ask(&[PASSWORD_PROMPT, CODE_PROMPT]),
            (When::Together, [text, code]) => verdict(self.is_code(code) & is_password(text)),
            (When::InTurn, []) => ask(&[PASSWORD_PROMPT]),
            (When::InTurn, [code]) if progress.password.is_some() => {
                verdict(self.is_code(code) & (progress.password == Some(true)))
            }
            (When::InTurn, [text]) => {
                progress.password = Some(is_password(text));
                ask(&[CODE_PROMPT])
            }
            (When::AfterKey, []) => ask(&[CODE_PROMPT]),
            (When::AfterKey, [code]) => verdict(self.is_code(code) & progress.key),
            _ => Auth::reject(),
        }
    }

    fn is_code(&self, text: &str) -> bool {
        let mut codes = self.codes.lock().unwrap_or_else(PoisonError::into_inner);
        let known = codes.iter().position(|code| code == text);
        known.map(|at| codes.swap_remove(at)).is_some()
    }
}

fn ask(prompts: &[&'static str]) -> Auth {
    let prompts: Vec<_> = prompts.iter().map(|prompt| ((*prompt).into(), false)).collect();
    Auth::Partial { name: "".into(), instructions: "".into(), prompts: prompts.into() }
}
