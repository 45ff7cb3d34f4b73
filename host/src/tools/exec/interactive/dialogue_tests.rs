//! Dialogues as scripts: what the terminal shows, and what is typed.

use super::*;

fn rule(pattern: &str, answer: &str) -> Rule {
    let hidden = prompt::names_a_secret(pattern);
    let pattern = match pattern.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')) {
        Some(regex) => Pattern::Regex(Regex::new(regex).unwrap()),
        None => Pattern::Text(pattern.to_owned()),
    };
    Rule { pattern, answer: Secret::new(answer), hidden }
}

fn dialogue(rules: &[(&str, &str)]) -> Dialogue {
    Dialogue::new(rules.iter().map(|(pattern, answer)| rule(pattern, answer)).collect(), true, true)
}

/// `Some` is what is typed, `None` that nothing is.
fn play(dialogue: &mut Dialogue, script: &[(&str, Option<&str>)]) {
    for (number, (shown, expected)) in script.iter().enumerate() {
        dialogue.show(shown.as_bytes());
        let typed = match dialogue.next() {
            Move::Type { answer, .. } => Some(answer.expose().to_owned()),
            Move::Stuck(_) | Move::Wait => None,
        };
        assert_eq!(typed.as_deref(), *expected, "after {shown:?} (move {number})");
    }
}

fn stuck(dialogue: &mut Dialogue, shown: &str) -> Stuck {
    dialogue.show(shown.as_bytes());
    match dialogue.next() {
        Move::Stuck(stuck) => stuck,
        other => panic!("{other:?} after {shown:?}"),
    }
}

#[test]
fn a_prompt_is_answered_as_often_as_it_appears() {
    let mut dialogue = dialogue(&[("Name:", "ada")]);
    play(&mut dialogue, &[("Name: ", Some("ada")), ("ada\r\nName: ", Some("ada")), ("ada\r\nbye\r\n", None)]);
    assert_eq!(dialogue.answered().len(), 2);
}

#[test]
fn a_prompt_that_was_answered_is_not_answered_again() {
    play(&mut dialogue(&[("Name", "ada")]), &[("Name: ", Some("ada")), ("", None), ("ada\r\n", None), ("", None)]);
}

#[test]
fn a_prompt_in_pieces_is_one_prompt() {
    let mut split = dialogue(&[("Your name", "ada")]);
    for piece in ["You", "r na"] {
        play(&mut split, &[(piece, None)]);
    }
    play(&mut split, &[("me: ", Some("ada"))]);
    // Within a character and within a colour.
    let mut bytes = dialogue(&[("größe", "5")]);
    let text = "\x1b[1;32mGröße\x1b[0m: ".as_bytes();
    for at in 1..text.len() {
        let mut dialogue = dialogue(&[("größe", "5")]);
        dialogue.show(&text[..at]);
        dialogue.show(&text[at..]);
        assert!(matches!(dialogue.next(), Move::Type { .. }), "cut at {at}");
    }
    bytes.show(text);
    assert_eq!(bytes.rest(), Rest::InLine);
}

#[test]
fn colours_are_not_part_of_a_prompt() {
    play(&mut dialogue(&[("Enter name", "ada")]), &[("\x1b[31mEnter\x1b[0m \x1b[1mname\x1b[0m: \x1b[K", Some("ada"))]);
    play(&mut dialogue(&[]), &[("Go on? \x1b[1m[Y/n]\x1b[0m ", Some("y"))]);
}

#[test]
fn the_echo_of_an_answer_is_no_prompt() {
    // The answer looks like its own prompt.
    let mut dialogue = dialogue(&[("yes", "yes")]);
    play(&mut dialogue, &[("say yes: ", Some("yes")), ("ye", None), ("s", None), ("\r\n", None), ("done\r\n", None)]);
    play(&mut dialogue, &[("say yes: ", Some("yes"))]);
    // Without an echo what follows is not taken for one.
    play(&mut dialogue, &[("\r\nyes or no: ", Some("yes"))]);
}

#[test]
fn a_pattern_may_be_a_regular_expression() {
    let rules = [("/^port \\[(\\d+)\\]/", "8080"), ("/(?i)NAME$/", "ada")];
    play(&mut dialogue(&rules), &[("port [80]: ", Some("8080")), ("8080\r\nthe name", Some("ada"))]);
    play(&mut dialogue(&rules), &[("support [80]: ", None)]);
}

#[test]
fn text_is_found_in_capitals_and_small_letters() {
    play(&mut dialogue(&[("your NAME", "ada")]), &[("Your name: ", Some("ada"))]);
}

#[test]
fn the_first_rule_in_order_counts_and_without_order_the_longest() {
    let rules = [("name", "short"), ("user name", "long")];
    play(&mut dialogue(&rules), &[("user name: ", Some("short"))]);
    let rules = rules.iter().map(|(pattern, answer)| rule(pattern, answer)).collect();
    play(&mut Dialogue::new(rules, false, true), &[("user name: ", Some("long"))]);
}

#[test]
fn only_the_last_line_is_a_prompt() {
    play(
        &mut dialogue(&[("name", "ada")]),
        &[("the name service was restarted\r\nDelete everything? ", None), ("\r\nfile name: ", Some("ada"))],
    );
}

#[test]
fn a_prompt_may_end_its_line() {
    let mut dialogue = dialogue(&[("press a key", "")]);
    dialogue.show(b"Press a key\r\n");
    assert_eq!(dialogue.rest(), Rest::BehindLine);
    play(&mut dialogue, &[("", Some("")), ("", None)]);
}

#[test]
fn usual_questions_are_answered_only_if_asked_to() {
    let mut auto = dialogue(&[]);
    play(&mut auto, &[("Continue? [y/N] ", Some("y")), ("y\r\nSure (yes/no)? ", Some("yes"))]);
    let mut silent = Dialogue::new(Vec::new(), true, false);
    assert_eq!(stuck(&mut silent, "Continue? [y/N] ").why, Why::NoAnswer);
    // A rule comes before the usual answer.
    play(&mut dialogue(&[("Continue", "n")]), &[("Continue? [y/N] ", Some("n"))]);
}

#[test]
fn passwords_and_host_keys_are_never_answered_by_themselves() {
    for prompt in [
        "[sudo] password for ada: ",
        "Password: ",
        "Are you sure you want to continue connecting (yes/no/[fingerprint])? ",
    ] {
        let stuck = stuck(&mut dialogue(&[("Name", "x")]), &format!("hello\r\n{prompt}"));
        assert_eq!(stuck, Stuck { prompt: prompt.trim().to_owned(), why: Why::NoAnswer });
    }
}

#[test]
fn the_answer_to_a_password_prompt_is_never_shown() {
    let mut dialogue = dialogue(&[("password", "hunter2"), ("name", "ada")]);
    dialogue.show(b"[sudo] password for ada: ");
    assert_eq!(dialogue.next(), Move::Type { answer: Secret::new("hunter2"), hidden: true });
    play(&mut dialogue, &[("\r\nname: ", Some("ada"))]);
    let answers: Vec<_> = dialogue.answered().iter().map(|answered| answered.answer.as_deref()).collect();
    assert_eq!(answers, [None, Some("ada")]);
    let rule = Rule { hidden: true, ..rule("code word", "x") };
    let mut hidden = Dialogue::new(vec![rule], true, true);
    play(&mut hidden, &[("code word please ", Some("x"))]);
    assert_eq!(hidden.answered()[0].answer, None);
}

#[test]
fn a_password_that_was_refused_is_not_given_again() {
    let mut dialogue = dialogue(&[("password", "hunter2")]);
    play(&mut dialogue, &[("[sudo] password for ada: ", Some("hunter2"))]);
    assert_eq!(stuck(&mut dialogue, "\r\nSorry, try again.\r\n[sudo] password for ada: ").why, Why::Refused);
}

#[test]
fn a_password_is_given_to_every_prompt_that_asks_for_one_and_to_nothing_else() {
    play(
        &mut dialogue(&[("password", "hunter2")]),
        &[
            ("New password: ", Some("hunter2")),
            ("\r\nRetype new password: ", Some("hunter2")),
            ("\r\npassword updated successfully\r\n", None),
        ],
    );
}

#[test]
fn a_question_without_end_is_given_up() {
    let mut dialogue = dialogue(&[("again", "y")]);
    for _ in 0..MOST_ANSWERS {
        play(&mut dialogue, &[("y\r\nagain? ", Some("y"))]);
    }
    assert_eq!(stuck(&mut dialogue, "y\r\nagain? ").why, Why::TooOften);
}

#[test]
fn what_is_no_question_is_waited_for() {
    let mut dialogue = dialogue(&[]);
    play(&mut dialogue, &[("Downloading: ", None)]);
    assert_eq!(dialogue.next(), Move::Wait);
    assert_eq!(dialogue.open_line().as_deref(), Some("Downloading:"));
    dialogue.show(b"done\r\n");
    assert_eq!(dialogue.open_line(), None);
}

#[test]
fn a_pager_is_told_from_a_question() {
    assert_eq!(stuck(&mut dialogue(&[]), "1\r\n2\r\n\x1b[7m--More--\x1b[27m").why, Why::Pager);
    play(&mut dialogue(&[("--More--", "q")]), &[("1\r\n--More--", Some("q"))]);
}

#[test]
fn a_flood_keeps_its_end() {
    let mut dialogue = dialogue(&[("Name", "ada")]);
    dialogue.show(&b"x".repeat(100_000));
    play(&mut dialogue, &[("\r\nName: ", Some("ada"))]);
}
