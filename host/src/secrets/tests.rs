//! Tests of the vault: what it opens, what it refuses, and with which words.

use std::os::unix::fs::PermissionsExt;

use super::*;

fn store(directory: &Path) -> Store {
    Store::open(&directory.join("orchestrator.redb")).unwrap()
}

#[tokio::test]
async fn a_sealed_secret_opens_under_its_name_only_and_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let vault = Vault::new(store(directory.path()), directory.path(), None);
    let sealed = vault.seal("server/a/password", "grüße").await.unwrap();
    assert_ne!(vault.seal("server/a/password", "grüße").await.unwrap(), sealed, "nonces differ");
    let json = serde_json::to_string(&sealed).unwrap();
    drop(vault);
    let vault = Vault::new(store(directory.path()), directory.path(), None);
    let sealed: StoredSecret = serde_json::from_str(&json).unwrap();
    let secret = vault.open("server/a/password", &sealed).await.unwrap();
    assert_eq!((secret.expose(), format!("{secret:?}").as_str()), ("grüße", "[secret]"));
    let error = vault.open("server/b/password", &sealed).await.unwrap_err();
    assert!(matches!(error, SecretError::Unsealable { .. }), "{error}");
    let StoredSecret::Sealed(mut bytes) = sealed else { panic!() };
    *bytes.last_mut().unwrap() ^= 1;
    vault.open("server/a/password", &StoredSecret::Sealed(bytes)).await.unwrap_err();
    vault.open("server/a/password", &StoredSecret::Sealed(vec![1, 2, 3])).await.unwrap_err();
}

#[tokio::test]
async fn the_key_file_is_private_and_never_silently_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("secret.key");
    let store = store(directory.path());
    let vault = || Vault::new(store.clone(), directory.path(), None);
    vault().check().await.unwrap();
    let key = std::fs::read(&path).unwrap();
    let set = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    assert_eq!((key.len(), std::fs::metadata(&path).unwrap().permissions().mode() & 0o777), (32, 0o600));
    set(0o640);
    let error = vault().check().await.unwrap_err().to_string();
    assert!(error.contains("mode 640") && error.contains("chmod 600"), "{error}");
    set(0o600);
    std::fs::write(&path, b"short").unwrap();
    assert!(matches!(vault().check().await, Err(SecretError::KeyFileLength { length: 5, .. })));
    std::fs::write(&path, [7; 32]).unwrap();
    assert!(matches!(vault().check().await, Err(SecretError::WrongKey { .. })));
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(vault().check().await, Err(SecretError::KeyFileMissing { .. })));
    assert!(!path.exists());
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["orchestrator.redb"], "no draft of a key is left");
}

#[tokio::test]
async fn a_wrong_master_key_is_told_and_a_reference_to_the_right_one_works() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    let vault = |key: &str| Vault::new(store.clone(), directory.path(), Some(key));
    let sealed = vault("open sesame").seal("x", "value").await.unwrap();
    assert!(!directory.path().join("secret.key").exists());
    let error = vault("open barley").open("x", &sealed).await.unwrap_err().to_string();
    assert!(error.contains("another key than MCP_MASTER_KEY") && !error.contains("barley"), "{error}");
    let secret = vault("cmd:echo open sesame").open("x", &sealed).await.unwrap();
    assert_eq!(secret.expose(), "value");
    std::fs::write(directory.path().join("key"), "open sesame\n").unwrap();
    let reference = format!("file:{}", directory.path().join("key").display());
    assert_eq!(vault(&reference).open("x", &sealed).await.unwrap().expose(), "value");
    let error = vault("").check().await.unwrap_err();
    assert!(matches!(error, SecretError::EmptyMasterKey));
    let without = Vault::new(store.clone(), directory.path(), None);
    assert!(matches!(without.check().await, Err(SecretError::KeyFileMissing { .. })));
}

#[test]
fn a_reference_says_where_a_secret_is() {
    let check = |text: &str, expected: Option<Reference>| {
        assert_eq!(Reference::parse(text).ok(), expected, "{text}");
    };
    check("env:DB_PASS", Some(Reference::Env("DB_PASS".to_owned())));
    check("file:/etc/pass", Some(Reference::File("/etc/pass".into())));
    check("cmd: pass show x ", Some(Reference::Command("pass show x".to_owned())));
    for wrong in
        ["", "env:", "env:1A", "env:A B", "file:", "file:relative", "cmd:", "cmd: ", "ENV:A", "password", "a:b"]
    {
        check(wrong, None);
    }
    let error = Reference::parse("my:hunter2").unwrap_err().to_string();
    assert!(!error.contains("hunter2"), "{error}");
}

#[tokio::test]
async fn what_a_reference_leads_to_is_trimmed_bounded_and_never_told() {
    let directory = tempfile::tempdir().unwrap();
    let resolve = async |text: String| Reference::parse(&text).unwrap().resolve().await;
    let file = directory.path().join("secret");
    let in_file = async |content: &[u8]| {
        std::fs::write(&file, content).unwrap();
        resolve(format!("file:{}", file.display())).await
    };
    assert_eq!(in_file(b" a b \n").await.unwrap().expose(), " a b ");
    assert_eq!(in_file(b"a\n\n").await.unwrap().expose(), "a\n");
    assert!(matches!(in_file(b"\n").await, Err(SecretError::Empty("file"))));
    assert!(matches!(in_file(b"\xff").await, Err(SecretError::NotText("file"))));
    assert!(matches!(in_file(&[b'x'; 70_000]).await, Err(SecretError::Long { .. })));
    assert!(matches!(resolve("file:/nonexistent".to_owned()).await, Err(SecretError::File { .. })));
    assert!(matches!(resolve("env:SURELY_NOT_SET_ANYWHERE".to_owned()).await, Err(SecretError::Env(_))));
    assert_eq!(resolve("cmd:printf '  hunter2 \n'".to_owned()).await.unwrap().expose(), "hunter2");
    let error = resolve("cmd:echo hunter2; echo no such entry >&2; exit 3".to_owned()).await.unwrap_err().to_string();
    assert!(error.contains("no such entry") && error.contains('3') && !error.contains("hunter2"), "{error}");
    let error = resolve("cmd:head -c 100000 /dev/zero; exit 0".to_owned()).await.unwrap_err();
    assert!(matches!(error, SecretError::Long { .. } | SecretError::CommandFailed { .. }), "{error}");
}

#[tokio::test]
async fn a_command_that_does_not_end_is_killed_with_its_children() {
    let directory = tempfile::tempdir().unwrap();
    let alive = directory.path().join("alive");
    // The child holds a pipe open; when every process of the group is gone, its other end reads the end.
    std::process::Command::new("mkfifo").arg(&alive).status().unwrap();
    let line = format!("sleep 1000 > {} & wait", alive.display());
    let reader = tokio::task::spawn_blocking(move || std::fs::read(alive).unwrap());
    let error = reference::run(&line, std::time::Duration::from_millis(300)).await.unwrap_err();
    assert!(matches!(error, SecretError::CommandTimeout(_)), "{error}");
    assert_eq!(reader.await.unwrap(), b"");
}

#[tokio::test]
async fn what_a_user_gives_is_kept_as_a_reference_or_sealed() {
    let directory = tempfile::tempdir().unwrap();
    let vault = Vault::new(store(directory.path()), directory.path(), None);
    let kept = vault.keep("x", "env:HOME").await.unwrap();
    assert_eq!((kept.kind(), format!("{kept:?}").as_str()), ("env", "[env]"));
    assert_eq!(vault.keep("x", "hunter2").await.unwrap().kind(), "sealed");
    vault.keep("x", "env:").await.unwrap_err();
}
