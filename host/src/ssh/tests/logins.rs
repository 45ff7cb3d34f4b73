//! Reaching a server and logging in, as far as it needs no real sshd.

use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::Ordering;
use std::time::Duration;

use russh::keys::ssh_key::private::{KeypairData, SkEd25519};
use russh::keys::ssh_key::{LineEnding, public};
use russh::keys::{Algorithm, PrivateKey};
use zeroize::Zeroizing;

use super::fake::{Manners, start};
use super::*;
use crate::error::Code;

fn password(text: &str) -> Login {
    Login::Password(Zeroizing::new(text.to_owned()))
}

async fn fails(target: &Target) -> (SshError, Problem) {
    let error = run(&Pool::new(settings(5, 1), no_known_hosts()), target, "echo x").await.err().unwrap();
    (error.clone(), error.into())
}

#[tokio::test]
async fn a_refused_password_says_what_was_tried_and_never_the_password() {
    let fake = start(Manners::default()).await;
    let target = Target { logins: vec![password("hunter2")], ..fake.target.clone() };
    let (error, problem) = fails(&target).await;
    assert_eq!((problem.code, problem.retryable), (Code::AuthFailed, false));
    assert_eq!(problem.details["reason"], "PASSWORD_REFUSED");
    assert_eq!(problem.details["accepts"][0], "publickey");
    assert!(problem.message.contains("tester") && problem.hint.is_some());
    assert!(!format!("{error:?} {problem:?}").contains("hunter2"));
}

#[tokio::test]
async fn a_password_answers_one_hidden_question_and_no_other() {
    let fake = start(Manners { interactive: true, ..Manners::default() }).await;
    run(&Pool::new(settings(5, 1), no_known_hosts()), &fake.target, "echo x").await.unwrap();
    let target = Target { logins: vec![password("wrong")], ..fake.target.clone() };
    assert_eq!(fails(&target).await.1.details["reason"], "PASSWORD_REFUSED");
    let fake = start(Manners { interactive: true, question: Some("One-time code: "), ..Manners::default() }).await;
    let (_, problem) = fails(&fake.target).await;
    assert_eq!(problem.details["reason"], "QUESTION_UNANSWERED");
    assert_eq!(fake.seen.passwords.load(Ordering::SeqCst), 0, "the password was given away");
}

#[tokio::test]
async fn a_server_that_wants_two_proofs_gets_both_in_any_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let key = PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519).unwrap();
    std::fs::write(&path, key.to_openssh(LineEnding::LF).unwrap().as_bytes()).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let key = Login::Key { path, passphrase: None };
    for logins in [vec![key.clone(), password("right")], vec![password("right"), key.clone()]] {
        let fake = start(Manners { two_factors: true, ..Manners::default() }).await;
        let target = Target { logins, ..fake.target.clone() };
        run(&Pool::new(settings(5, 1), no_known_hosts()), &target, "echo x").await.unwrap();
    }
    let fake = start(Manners { two_factors: true, ..Manners::default() }).await;
    let (_, problem) = fails(&Target { logins: vec![key], ..fake.target.clone() }).await;
    assert!(problem.message.contains("wants more") && problem.details["accepts"][0] == "password", "{problem:?}");
}

#[tokio::test]
async fn a_host_key_is_verified_before_anything_is_given_away() {
    let fake = start(Manners::default()).await;
    let (_, problem) = fails(&Target { pin: None, ..fake.target.clone() }).await;
    assert_eq!(
        (problem.code, &problem.details["fingerprint"]),
        (Code::HostKeyUnknown, &fake.target.pin.clone().unwrap().into())
    );
    assert!(problem.hint.unwrap().contains(fake.target.pin.as_ref().unwrap()));
    let (_, problem) = fails(&Target { pin: Some("SHA256:wrong".to_owned()), ..fake.target.clone() }).await;
    assert_eq!((problem.code, problem.retryable), (Code::HostKeyChanged, false));
    assert_eq!(problem.details["expected"][0], "SHA256:wrong");
    assert_eq!(fake.seen.passwords.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_closed_port_and_a_name_that_does_not_resolve_say_so() {
    let fake = start(Manners::default()).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let (_, problem) = fails(&Target { port, ..fake.target.clone() }).await;
    assert_eq!((problem.code, problem.retryable), (Code::ConnectionFailed, true));
    assert_eq!(problem.details["reason"], "ECONNREFUSED");
    assert_eq!((&problem.details["step"], &problem.details["port"]), (&"connect".into(), &port.into()));
    let (_, problem) = fails(&Target { host: "no-such-host.invalid".to_owned(), ..fake.target.clone() }).await;
    assert_eq!((&problem.details["step"], &problem.details["reason"]), (&"resolve".into(), &"ENOTFOUND".into()));
}

#[tokio::test]
async fn a_port_that_does_not_speak_ssh_is_told_apart_from_one_that_stalls() {
    let fake = start(Manners::default()).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    // Accepted by the kernel, never answered.
    let pool = Pool::new(settings(5, 1), no_known_hosts());
    let target = Target { port, ..fake.target.clone() };
    let short = Call::new("test", "test").within(Duration::from_millis(100));
    let error = run_with(&pool, &target, request("echo x"), &short).await.err().unwrap();
    assert!(matches!(error, SshError::Timeout { step: Step::Handshake, .. }) && error.is_retryable(), "{error}");
    let answering = tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            use tokio::io::AsyncWriteExt;
            let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let error = run(&pool, &target, "echo x").await.err().unwrap();
    let SshError::Tried { attempts: 3, source } = error else { panic!("{error}") };
    assert!(matches!(*source, SshError::Handshake { .. }), "{source}");
    answering.abort();
}

#[tokio::test]
async fn a_jump_server_is_named_when_it_fails() {
    let fake = start(Manners::default()).await;
    let jump = Target { alias: "bastion".to_owned(), logins: vec![password("wrong")], ..fake.target.clone() };
    let (_, problem) = fails(&Target { jump: Some(Box::new(jump)), ..fake.target.clone() }).await;
    assert_eq!((problem.code, &problem.details["jump"]), (Code::AuthFailed, &"bastion".into()));
    assert_eq!(problem.details["alias"], "fake");
}

#[test]
fn each_fault_of_a_key_file_is_told_apart() {
    use super::super::key_file::load;
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str, mode: u32| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    let key = PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519).unwrap();
    let plain = key.to_openssh(LineEnding::LF).unwrap();
    let sealed =
        key.encrypt(&mut russh::keys::key::safe_rng(), "open sesame").unwrap().to_openssh(LineEnding::LF).unwrap();
    let mut pkcs8 = Vec::new();
    russh::keys::encode_pkcs8_pem(&key, &mut pkcs8).unwrap();
    let mut pkcs8_sealed = Vec::new();
    russh::keys::encode_pkcs8_pem_encrypted(&key, b"open sesame", 10, &mut pkcs8_sealed).unwrap();
    for (name, text) in [("plain", plain.as_str()), ("pkcs8", std::str::from_utf8(&pkcs8).unwrap())] {
        let path = write(name, text, 0o600);
        // A passphrase that is not needed does no harm.
        for passphrase in [None, Some("x")] {
            assert_eq!(load(&path, passphrase).unwrap().public_key().key_data(), key.public_key().key_data(), "{name}");
        }
    }
    for (name, text) in [("sealed", sealed.as_str()), ("pkcs8-sealed", std::str::from_utf8(&pkcs8_sealed).unwrap())] {
        let path = write(name, text, 0o600);
        assert_eq!(
            load(&path, Some("open sesame")).unwrap().public_key().key_data(),
            key.public_key().key_data(),
            "{name}"
        );
        assert_eq!(load(&path, Some("wrong")), Err(KeyFileError::PassphraseWrong(path.clone())), "{name}");
        assert_eq!(load(&path, None), Err(KeyFileError::PassphraseMissing(path.clone())), "{name}");
    }
    let missing = folder.path().join("missing");
    assert_eq!(load(&missing, None), Err(KeyFileError::Missing(missing.clone())));
    let open = write("open", &plain, 0o644);
    let error = load(&open, None).unwrap_err();
    assert_eq!(error, KeyFileError::TooOpen { path: open.clone(), mode: 0o644 });
    assert!(error.hint().contains("chmod 600"));
    let ours = key.public_key().key_data().ed25519().unwrap();
    let device = SkEd25519::new(public::SkEd25519::new(*ours, "ssh:"), 1, [7; 32]).unwrap();
    let device = PrivateKey::new(KeypairData::from(device), "device").unwrap().to_openssh(LineEnding::LF).unwrap();
    let device = write("id_ed25519_sk", &device, 0o600);
    assert_eq!(load(&device, None), Err(KeyFileError::InHardware(device.clone())));
    let public = write("key.pub", &key.public_key().to_openssh().unwrap(), 0o600);
    assert_eq!(load(&public, None), Err(KeyFileError::PublicKey(public.clone())));
    for (name, text) in [
        ("text", "hello\n"),
        ("empty", ""),
        ("broken", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"),
    ] {
        let path = write(name, text, 0o600);
        assert_eq!(load(&path, None), Err(KeyFileError::NotAKey(path.clone())), "{name}");
    }
    assert_eq!(load(folder.path(), None), Err(KeyFileError::NotAKey(folder.path().to_owned())));
}
