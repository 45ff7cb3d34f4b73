//! Logins that ask what only a person can answer: what becomes of the question, of the answer, and of the pool meanwhile.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::future::join_all;
use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, PrivateKey};
use tempfile::TempDir;
use zeroize::Zeroizing;

use super::fake::{CODE, Fake, Manners, start};
use super::*;
use crate::error::Code;

const ASKS: &str = "One-time code: ";

/// A server that asks for a password and a code, in one request or two.
fn with_code(in_turn: bool) -> Manners {
    Manners { interactive: true, question: Some(ASKS), in_turn, ..Manners::default() }
}

fn pool() -> Pool {
    Pool::new(settings(5, 1), no_known_hosts())
}

async fn fails(pool: &Pool, target: &Target) -> Problem {
    run(pool, target, "echo x").await.err().unwrap().into()
}

fn asked(pool: &Pool, problem: &Problem) -> Arc<Question> {
    let Some(Standing::Open(question)) = pool.question(problem.details["question"].as_str().unwrap()) else {
        panic!("not open: {problem:?}");
    };
    question
}

/// Answers what the error says was asked.
fn answer(pool: &Pool, problem: &Problem, texts: &[&str]) -> bool {
    let question = asked(pool, problem);
    pool.answer(&question, texts.iter().map(|text| Zeroizing::new((*text).to_owned())).collect())
}

fn codes(fake: &Fake) -> Vec<String> {
    fake.seen.codes.lock().unwrap().clone()
}

/// The server wants a key and then a code; the target has the key and no password.
async fn key_and_code() -> (Fake, Target, TempDir) {
    let fake = start(Manners { two_factors: true, question: Some(ASKS), ..Manners::default() }).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let key = PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519).unwrap();
    std::fs::write(&path, key.to_openssh(LineEnding::LF).unwrap().as_bytes()).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let target = Target { logins: vec![Login::Key { path, passphrase: None }], ..fake.target.clone() };
    (fake, target, folder)
}

#[tokio::test]
async fn a_code_after_the_password_is_asked_for_and_the_password_is_not() {
    let fake = start(with_code(true)).await;
    let pool = pool();
    let problem = fails(&pool, &fake.target).await;
    assert_eq!((problem.code, &problem.details["reason"]), (Code::AuthFailed, &"QUESTION_UNANSWERED".into()));
    assert_eq!(problem.details["questions"], serde_json::json!([{"prompt": ASKS, "echo": false}]));
    assert!(
        problem.message.contains(ASKS.trim()) && problem.hint.as_ref().unwrap().contains("server login fake"),
        "{problem:?}"
    );
    assert!(answer(&pool, &problem, &[CODE]));
    run(&pool, &fake.target, "echo x").await.unwrap();
    assert_eq!(codes(&fake), [CODE]);
}

#[tokio::test]
async fn password_and_code_in_one_request_are_both_asked_for() {
    let fake = start(with_code(false)).await;
    let pool = pool();
    let problem = fails(&pool, &fake.target).await;
    let both = serde_json::json!([{"prompt": "Password: ", "echo": false}, {"prompt": ASKS, "echo": true}]);
    assert_eq!(problem.details["questions"], both);
    assert_eq!(fake.seen.passwords.load(Ordering::SeqCst), 0, "the password was given away");
    assert!(!answer(&pool, &problem, &[CODE]), "one text for two prompts");
    let problem = fails(&pool, &fake.target).await;
    assert!(answer(&pool, &problem, &["right", CODE]));
    run(&pool, &fake.target, "echo x").await.unwrap();
}

#[tokio::test]
async fn a_code_after_a_key_is_asked_for_without_any_password() {
    let (fake, target, _folder) = key_and_code().await;
    let pool = pool();
    let problem = fails(&pool, &target).await;
    assert_eq!(problem.details["reason"], "QUESTION_UNANSWERED", "{problem:?}");
    assert!(answer(&pool, &problem, &[CODE]));
    run(&pool, &target, "echo x").await.unwrap();
    assert_eq!(codes(&fake), [CODE]);
}

#[tokio::test]
async fn a_person_answers_round_by_round_and_nothing_twice() {
    let fake = start(with_code(true)).await;
    let (_, target, _folder) = key_and_code().await;
    // Its key is not taken, and there is no password: the server takes nothing but answers.
    let target = Target { logins: target.logins, ..fake.target.clone() };
    let pool = pool();
    let first = fails(&pool, &target).await;
    assert_eq!(first.details["questions"][0]["prompt"], "Password: ", "{first:?}");
    assert!(answer(&pool, &first, &["right"]));
    let second = fails(&pool, &target).await;
    assert_eq!(second.details["questions"][0]["prompt"], ASKS, "{second:?}");
    assert!(answer(&pool, &second, &[CODE]));
    run(&pool, &target, "echo x").await.unwrap();
    pool.close("fake");
    assert_eq!(fails(&pool, &target).await.details["questions"][0]["prompt"], "Password: ");
}

#[tokio::test]
async fn a_wrong_code_is_refused_once_and_asked_for_again_at_the_next_call() {
    let (fake, target, _folder) = key_and_code().await;
    let pool = pool();
    for attempt in 1..=2 {
        let problem = fails(&pool, &target).await;
        assert_eq!(problem.details["reason"], "QUESTION_UNANSWERED", "{problem:?}");
        assert!(answer(&pool, &problem, &["000000"]));
        let problem = fails(&pool, &target).await;
        assert_eq!(problem.details["reason"], "ANSWER_REFUSED", "{problem:?}");
        assert!(!problem.details.contains_key("question") && !format!("{problem:?}").contains("000000"));
        assert_eq!(codes(&fake).len(), attempt);
    }
}

#[tokio::test]
async fn a_question_is_no_failure_that_keeps_callers_away() {
    let (fake, target, _folder) = key_and_code().await;
    let pool = pool();
    for _ in 0..8 {
        let problem = fails(&pool, &target).await;
        assert!(!problem.details.contains_key("retry_after_s"), "{problem:?}");
        // Failures at the same moment count as one: these are apart.
        tokio::time::sleep(std::time::Duration::from_millis(110)).await;
    }
    assert_eq!(fake.seen.connections.load(Ordering::SeqCst), 8);
}

#[tokio::test]
async fn calls_at_the_same_time_come_to_one_question_and_share_one_connection() {
    let (fake, target, _folder) = key_and_code().await;
    let pool = pool();
    let failed = join_all((0..20).map(|_| run(&pool, &target, "echo x"))).await;
    let problems: Vec<Problem> = failed.into_iter().map(|result| result.err().unwrap().into()).collect();
    assert!(problems.iter().all(|problem| problem.details["question"] == problems[0].details["question"]));
    assert!(answer(&pool, &problems[0], &[CODE]));
    let before = fake.seen.connections.load(Ordering::SeqCst);
    for result in join_all((0..20).map(|_| run(&pool, &target, "late x"))).await {
        result.unwrap();
    }
    assert_eq!(fake.seen.connections.load(Ordering::SeqCst), before + 1);
    assert_eq!(codes(&fake), [CODE]);
}

#[tokio::test]
async fn a_jump_server_may_ask_and_is_named() {
    let (gate, through, _folder) = key_and_code().await;
    let jump = Target { alias: "gate".to_owned(), ..through };
    let target = Target { alias: "inner".to_owned(), jump: Some(Box::new(jump)), ..gate.target.clone() };
    let pool = pool();
    let problem = fails(&pool, &target).await;
    assert_eq!((&problem.details["alias"], &problem.details["jump"]), (&"inner".into(), &"gate".into()));
    assert!(problem.hint.as_ref().unwrap().contains("server login inner"), "{problem:?}");
    assert_eq!(asked(&pool, &problem).at.alias, "gate");
    assert!(answer(&pool, &problem, &[CODE]));
    // The gate lets us in now; that it forwards nothing is another matter.
    let problem = fails(&pool, &target).await;
    assert_eq!((problem.code, codes(&gate)), (Code::ConnectionFailed, vec![CODE.to_owned()]), "{problem:?}");
}

#[tokio::test]
async fn a_refused_key_asks_nobody_for_a_password() {
    let (_, target, _folder) = key_and_code().await;
    let fake = start(Manners { refuses_keys: true, ..with_code(true) }).await;
    let target = Target { logins: target.logins, ..fake.target.clone() };
    let problem = fails(&pool(), &target).await;
    assert_eq!(problem.details["reason"], "KEY_REFUSED", "{problem:?}");
    assert!(!problem.details.contains_key("question"));
}
