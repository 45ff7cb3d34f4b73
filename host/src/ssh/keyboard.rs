//! The dialogue of a keyboard-interactive login (RFC 4256): what is answered with what is known, and what is not.
//!
//! Not when that method is tried (`auth`), and never a person: whom the questions go to is decided far above.

use std::sync::Arc;

use russh::MethodSet;
use russh::client::{Handle, KeyboardInteractiveAuthResponse};

use super::answers::{Answers, Given};
use super::auth::Attempt;
use super::client::Client;
use super::error::Endpoint;
use super::question::Question;

/// More rounds of questions than any honest server asks.
const MAX_ROUNDS: usize = 8;

/// What stands in prompts that want something else than the password, in small letters. The password would be refused there,
/// count as a wrong code, and be told to whom it is not for.
const NO_PASSWORD: [&str; 7] = ["code", "otp", "token", "one-time", "verification", "authenticat", "factor"];

/// How the dialogue ended.
pub enum Ended {
    In,
    /// The server ended it.
    Refused {
        remaining: MethodSet,
        partial: bool,
        /// What was refused; `None` if nothing was asked.
        what: Option<Attempt>,
    },
    /// It was asked what is not known. The library waits for an answer and for nothing else, so the connection is of no more
    /// use.
    Stuck(Attempt),
}

/// Holds it. Answers that a person gave go first; without any the password answers one question with a hidden answer, once,
/// if that asks for no code.
/// Says also whether a person's answers were used.
pub async fn interact(
    handle: &mut Handle<Client>,
    at: &Arc<Endpoint>,
    user: &str,
    mut password: Option<&str>,
    answers: &Answers,
) -> Result<(Ended, bool), russh::Error> {
    let mut reply = handle.authenticate_keyboard_interactive_start(user, None::<String>).await?;
    let mut used: Vec<Given> = Vec::new();
    let mut asked: Vec<Question> = Vec::new();
    for _ in 0..MAX_ROUNDS {
        let (name, instructions, prompts) = match reply {
            KeyboardInteractiveAuthResponse::Success => return Ok((Ended::In, !used.is_empty())),
            KeyboardInteractiveAuthResponse::Failure { remaining_methods: remaining, partial_success: partial } => {
                let what = (!asked.is_empty()).then(|| refused(&used));
                return Ok((Ended::Refused { remaining, partial, what }, !used.is_empty()));
            }
            KeyboardInteractiveAuthResponse::InfoRequest { name, instructions, prompts } => {
                (name, instructions, prompts)
            }
        };
        let texts = if prompts.is_empty() {
            Vec::new()
        } else {
            let Some(question) = Question::new(at, user, &name, &instructions, &prompts) else { break };
            // Asked for the same again: it was wrong. Another try with it would only count against us.
            if asked.iter().any(|before| before.is_same(&question)) {
                return Ok((Ended::Stuck(refused(&used)), !used.is_empty()));
            }
            asked.push(question.clone());
            let for_password = matches!(prompts.as_slice(), [prompt] if !prompt.echo && !wants_code(&prompt.prompt));
            if let Some(given) = answers.take(&question) {
                let texts = given.texts();
                used.push(given);
                texts
            } else if let Some(password) = password.take_if(|_| for_password) {
                vec![password.to_owned()]
            } else {
                answers.give_back(used);
                return Ok((Ended::Stuck(Attempt::Questions(answers.ask(question))), false));
            }
        };
        reply = handle.authenticate_keyboard_interactive_respond(texts).await?;
    }
    Ok((Ended::Stuck(Attempt::TooManyQuestions), !used.is_empty()))
}

fn wants_code(prompt: &str) -> bool {
    let prompt = prompt.to_lowercase();
    NO_PASSWORD.iter().any(|word| prompt.contains(word))
}

fn refused(used: &[Given]) -> Attempt {
    match used {
        [] => Attempt::PasswordRefused,
        _ => Attempt::AnswersRefused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_goes_to_prompts_for_passwords_and_not_to_those_for_codes() {
        for prompt in ["Password: ", "(ada@web) Password:", "Passwort: ", "Mot de passe : ", "パスワード:"] {
            assert!(!wants_code(prompt), "{prompt}");
        }
        for prompt in [
            "Verification code: ",
            "One-time password (OATH) for `ada': ",
            "Enter PASSCODE: ",
            "YubiKey OTP: ",
            "Response to two-factor challenge: ",
        ] {
            assert!(wants_code(prompt), "{prompt}");
        }
    }
}
