//! What a server asks during a login (RFC 4256), as it may be shown to a person and to a model.
//!
//! Not the answers (`answers`), and not how a person is asked: that is the face's.

use std::fmt::Write as _;
use std::sync::Arc;

use russh::client;

use super::error::Endpoint;

/// More prompts than any honest server has in one request.
const MAX_PROMPTS: usize = 8;
/// Of a prompt, an instruction or a name, in characters. Some servers put a whole menu into a prompt.
const MAX_TEXT: usize = 1000;
/// Of all prompts together in a sentence.
const MAX_SHOWN: usize = 160;

/// One thing that is asked for. What the server wrote stands in it only as it may be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    pub text: String,
    /// What is typed may be seen.
    pub echo: bool,
}

/// Prompts that the login of one user at one server came to, and that nothing here answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Random, so that nobody can name a question who has not been told of it.
    pub id: String,
    /// The server that asks, which may be one on the way.
    pub at: Arc<Endpoint>,
    pub user: String,
    /// What the server calls the request, and what it says about it; often empty.
    pub name: String,
    pub instruction: String,
    pub prompts: Vec<Prompt>,
}

impl Question {
    /// `None`: there are more prompts than anybody is asked.
    pub fn new(
        at: &Arc<Endpoint>,
        user: &str,
        name: &str,
        instruction: &str,
        prompts: &[client::Prompt],
    ) -> Option<Self> {
        let prompt = |prompt: &client::Prompt| Prompt { text: clean(&prompt.prompt, MAX_TEXT), echo: prompt.echo };
        (prompts.len() <= MAX_PROMPTS).then(|| Question {
            id: format!("{:016x}", rand::random::<u64>()),
            at: Arc::clone(at),
            user: user.to_owned(),
            name: clean(name, MAX_TEXT),
            instruction: clean(instruction, MAX_TEXT),
            prompts: prompts.iter().map(prompt).collect(),
        })
    }

    /// Whether the other one asks the same user for the same at the same server.
    pub fn is_same(&self, other: &Question) -> bool {
        self.at == other.at && self.user == other.user && self.prompts == other.prompts
    }

    /// The prompts in a sentence, quoted: a server's words are never ours.
    pub fn shown(&self) -> String {
        let prompts: Vec<String> = self.prompts.iter().map(|prompt| format!("{:?}", prompt.text.trim())).collect();
        clean(&prompts.join(" and "), MAX_SHOWN)
    }
}

/// A server's text without what does more than being read: control characters but the end of a line, and characters that
/// turn around or hide what stands beside them, are written as their code.
fn clean(text: &str, limit: usize) -> String {
    let mut shown = String::new();
    for (count, char) in text.chars().filter(|char| *char != '\r').enumerate() {
        if count == limit {
            shown.push('…');
            break;
        }
        match char {
            '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' => {
                // Writing to a string cannot fail.
                let _ = write!(shown, "{}", char.escape_unicode());
            }
            char if char.is_control() && char != '\n' => {
                let _ = write!(shown, "{}", char.escape_unicode());
            }
            char => shown.push(char),
        }
    }
    shown
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn question(prompts: &[(&str, bool)]) -> Question {
        let at = Arc::new(Endpoint { alias: "web".to_owned(), host: "192.0.2.1".to_owned(), port: 22 });
        let prompt = |(text, echo): &(&str, bool)| client::Prompt { prompt: (*text).to_owned(), echo: *echo };
        Question::new(&at, "ada", "", "", &prompts.iter().map(prompt).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn what_a_server_writes_is_shown_without_its_control_characters() {
        let check = |text: &str, expected: &str| assert_eq!(clean(text, 20), expected, "{text:?}");
        check("Code: ", "Code: ");
        check("1. Push\r\n2. Call\n", "1. Push\n2. Call\n");
        check("\u{1b}[2JCode", "\\u{1b}[2JCode");
        check("a\u{202e}b\u{200b}c\0", "a\\u{202e}b\\u{200b}c\\u{0}");
        check(&"ö".repeat(30), &format!("{}…", "ö".repeat(20)));
    }

    #[test]
    fn questions_are_the_same_when_user_server_and_prompts_are() {
        let code = question(&[("Code: ", false)]);
        let again = question(&[("Code: ", false)]);
        assert!(code.is_same(&again) && code.id != again.id);
        assert!(!code.is_same(&question(&[("Code: ", true)])));
        assert!(!code.is_same(&question(&[("Code: ", false), ("Code: ", false)])));
        assert!(!code.is_same(&Question { user: "bob".to_owned(), ..again }));
    }

    #[test]
    fn more_prompts_than_anybody_would_answer_are_no_question() {
        let at = question(&[]).at;
        let prompts =
            |count| (0..count).map(|_| client::Prompt { prompt: "?".to_owned(), echo: true }).collect::<Vec<_>>();
        assert!(Question::new(&at, "ada", "", "", &prompts(8)).is_some());
        assert!(Question::new(&at, "ada", "", "", &prompts(9)).is_none());
    }
}
