//! Tests of the inventory: what is accepted, what an update changes, what survives a restart, what never reaches the disk.

use super::*;
use crate::secrets::Vault;

async fn open(directory: &tempfile::TempDir) -> (Store, Inventory) {
    let store = Store::open(&directory.path().join("orchestrator.redb")).unwrap();
    let inventory = Inventory::open(store.clone()).await.unwrap();
    (store, inventory)
}

fn patch(alias: &str) -> ServerPatch {
    ServerPatch {
        alias: alias.to_owned(),
        host: Some("127.0.0.1".to_owned()),
        user: Some("root".to_owned()),
        agent: Some(true),
        ..ServerPatch::default()
    }
}

#[tokio::test]
async fn an_update_changes_only_what_it_gives_and_survives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let (store, inventory) = open(&directory).await;
    let first = ServerPatch {
        port: Some(2222),
        description: Some("the first".to_owned()),
        tags: Some(vec!["web".to_owned(), "eu".to_owned(), "web".to_owned()]),
        ..patch("web-1")
    };
    let (server, created) = inventory.upsert(first).await.unwrap();
    assert!(created);
    assert_eq!(server.tags, ["eu", "web"]);
    let second = ServerPatch {
        alias: "web-1".to_owned(),
        user: Some("deploy".to_owned()),
        description: Some(String::new()),
        ..ServerPatch::default()
    };
    let (changed, created) = inventory.upsert(second).await.unwrap();
    assert!(!created);
    let expected =
        Server { user: "deploy".to_owned(), description: None, updated: changed.updated, ..Server::clone(&server) };
    assert_eq!(*changed, expected);
    drop((store, inventory));
    let (_store, inventory) = open(&directory).await;
    assert_eq!(*inventory.get("web-1").unwrap(), expected);
    inventory.remove("web-1").await.unwrap();
    assert!(inventory.list().is_empty());
    assert!(matches!(inventory.get("web-1"), Err(InventoryError::NotFound { .. })));
}

#[tokio::test]
async fn several_keys_are_kept_in_order_and_each_once() {
    let directory = tempfile::tempdir().unwrap();
    let (store, inventory) = open(&directory).await;
    let keys = |paths: &[&str]| Some(paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>());
    let first = ServerPatch { agent: None, key_paths: keys(&["~/b", " ~/a ", "~/b", ""]), ..patch("web") };
    let (server, _) = inventory.upsert(first).await.unwrap();
    assert_eq!(
        (server.key_paths.as_slice(), server.auth_kinds()),
        (&["~/b".to_owned(), "~/a".to_owned()][..], vec!["key"])
    );
    drop(inventory);
    let inventory = Inventory::open(store).await.unwrap();
    assert_eq!(*inventory.get("web").unwrap(), *server);
    // An update that says nothing of keys leaves them; an empty one takes them away, and then something else must be there.
    let update = |key_paths, agent| ServerPatch { alias: "web".to_owned(), key_paths, agent, ..ServerPatch::default() };
    assert_eq!(inventory.upsert(update(None, None)).await.unwrap().0.key_paths, server.key_paths);
    assert!(inventory.upsert(update(keys(&[""]), None)).await.unwrap_err().to_string().contains("at least one way"));
    assert!(inventory.upsert(update(keys(&[]), Some(true))).await.unwrap().0.key_paths.is_empty());
}

#[test]
fn a_record_with_one_key_reads_and_is_written_as_it_always_was() {
    let record = |key: serde_json::Value| {
        serde_json::json!({"alias": "web", "host": "h", "user": "u", "key_path": key, "created": "2026-01-01T00:00:00Z",
            "updated": "2026-01-01T00:00:00Z"})
    };
    let check = |key: serde_json::Value, paths: &[&str]| {
        let server: Server = serde_json::from_value(record(key.clone())).unwrap();
        assert_eq!(server.key_paths, paths);
        assert_eq!(serde_json::to_value(&server).unwrap()["key_path"], key);
    };
    check(serde_json::json!("~/a"), &["~/a"]);
    check(serde_json::json!(["~/a", "~/b"]), &["~/a", "~/b"]);
    check(serde_json::Value::Null, &[]);
    let mut older = record(serde_json::Value::Null);
    older.as_object_mut().unwrap().remove("key_path");
    assert!(serde_json::from_value::<Server>(older).unwrap().key_paths.is_empty());
}

#[tokio::test]
async fn what_is_wrong_is_named_with_its_argument() {
    let directory = tempfile::tempdir().unwrap();
    let (_store, inventory) = open(&directory).await;
    let check = async |field: &str, words: &str, patch: ServerPatch| {
        let error = inventory.upsert(patch).await.unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, InventoryError::Invalid { field: found, .. } if found == field), "{field}: {text}");
        assert!(text.contains(words), "{words}: {text}");
    };
    for alias in ["", "-a", ".a", "a b", "ä", "a/b", &"x".repeat(65)] {
        check("alias", "must be 1 to 64", patch(alias)).await;
    }
    check("alias", "reserved", patch("all")).await;
    check("alias", "reserved", patch("ALL")).await;
    let text = |text: &str| Some(text.to_owned());
    check("host", "a new server needs it", ServerPatch { host: None, ..patch("a") }).await;
    check("host", "a new server needs it", ServerPatch { host: text(" "), ..patch("a") }).await;
    for host in ["-oProxyCommand=x", "a b", "a;b", "a\n"] {
        let patch = ServerPatch { host: text(host), ..patch("a") };
        if host == "a\n" {
            inventory.upsert(patch).await.unwrap();
        } else {
            check("host", "not a host", patch).await
        }
    }
    check("user", "a new server needs it", ServerPatch { user: None, ..patch("b") }).await;
    check("user", "not a user name", ServerPatch { user: text("a b"), ..patch("b") }).await;
    for port in [0, 65_536, u64::MAX] {
        check("port", "from 1 to 65535", ServerPatch { port: Some(port), ..patch("b") }).await;
    }
    check("tags", "letters", ServerPatch { tags: Some(vec!["a b".to_owned()]), ..patch("b") }).await;
    for key in ["MD5:00", "SHA256:", "SHA256:abc", &format!("SHA256:{}=", "A".repeat(43))] {
        check("hostKey", "43 characters", ServerPatch { host_key: text(key), ..patch("b") }).await;
    }
    check("keyPath", "at least one way", ServerPatch { agent: None, ..patch("b") }).await;
    check("jump", "through itself", ServerPatch { jump: text("b"), ..patch("b") }).await;
    check("jump", "there is no server \"c\"", ServerPatch { jump: text("c"), ..patch("b") }).await;
    check("jump", "neither", ServerPatch { jump: text("root@:1"), ..patch("b") }).await;
    let good = ServerPatch { host_key: Some(format!("SHA256:{}", "A".repeat(43))), ..patch("b") };
    inventory.upsert(good).await.unwrap();
}

#[tokio::test]
async fn jumps_make_no_loop_and_are_not_removed_from_under_others() {
    let directory = tempfile::tempdir().unwrap();
    let (_store, inventory) = open(&directory).await;
    let through = |alias: &str, jump: &str| ServerPatch { jump: Some(jump.to_owned()), ..patch(alias) };
    inventory.upsert(patch("a")).await.unwrap();
    inventory.upsert(through("b", "a")).await.unwrap();
    inventory.upsert(through("c", "b")).await.unwrap();
    let error = inventory.upsert(through("a", "c")).await.unwrap_err().to_string();
    assert_eq!(error, "jump: a would be reached through itself");
    let error = inventory.remove("b").await.unwrap_err().to_string();
    assert_eq!(error, "b is the way to c: change or remove that first");
    inventory.remove("c").await.unwrap();
    inventory.remove("b").await.unwrap();
}

#[tokio::test]
async fn a_proxys_password_is_for_that_proxy_and_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let (_store, inventory) = open(&directory).await;
    let secret = || Some(Some(crate::secrets::StoredSecret::Reference("env:PROXY".to_owned())));
    let through = |proxy: &str| ServerPatch { proxy: Some(proxy.to_owned()), ..patch("web") };
    let refused = async |patch| inventory.upsert(patch).await.unwrap_err().to_string();
    assert!(refused(through("socks5://ada@p")).await.starts_with("proxyPassword: the user \"ada\""));
    assert!(
        refused(ServerPatch { proxy_password: secret(), ..through("socks5://p") }).await.contains("belongs to a user")
    );
    inventory.upsert(ServerPatch { proxy_password: secret(), ..through("socks5://ada@p") }).await.unwrap();
    // What says nothing of the proxy, or the same, leaves both.
    assert!(inventory.upsert(patch("web")).await.unwrap().0.proxy_password.is_some());
    assert!(inventory.upsert(through("socks5://ada@p")).await.unwrap().0.proxy_password.is_some());
    assert!(refused(through("socks5://ada@elsewhere")).await.starts_with("proxyPassword"));
    assert_eq!(inventory.upsert(through("none")).await.unwrap().0.proxy_password, None);
}

#[test]
fn a_jump_is_an_alias_or_an_address() {
    let address =
        |user: &str, host: &str, port| Ok(Jump::Address { user: user.to_owned(), host: host.to_owned(), port });
    let check = |text: &str, expected: Result<Jump, ()>| {
        assert_eq!(text.parse::<Jump>().map_err(|_| ()), expected, "{text}");
    };
    check("bastion", Ok(Jump::Alias("bastion".to_owned())));
    check("root@gate", address("root", "gate", 22));
    check("root@gate:2222", address("root", "gate", 2222));
    check("root@[::1]:2222", address("root", "::1", 2222));
    check("root@[::1]", address("root", "::1", 22));
    for wrong in ["", "gate:22", "root@", "@gate", "root@gate:0", "root@gate:x", "root@[::1", "-x@gate", "root@-gate"] {
        check(wrong, Err(()));
    }
}

#[tokio::test]
async fn a_slip_of_the_pen_finds_the_nearest_alias() {
    let directory = tempfile::tempdir().unwrap();
    let (_store, inventory) = open(&directory).await;
    for alias in ["prod-web", "prod-db", "staging"] {
        inventory.upsert(patch(alias)).await.unwrap();
    }
    assert_eq!(inventory.nearest("prod_web").as_deref(), Some("prod-web"));
    assert_eq!(inventory.nearest("STAGNG").as_deref(), Some("staging"));
    assert_eq!(inventory.nearest("xyz"), None);
    let problem = Problem::from(inventory.get("prod-dv").unwrap_err());
    assert_eq!(problem.code, Code::ServerNotFound);
    assert!(problem.hint.unwrap().contains("\"prod-db\""));
}

#[tokio::test]
async fn a_password_is_in_no_byte_of_the_database_and_in_no_print_of_the_server() {
    let directory = tempfile::tempdir().unwrap();
    let (store, inventory) = open(&directory).await;
    let vault = Vault::new(store.clone(), directory.path(), None);
    let name = secret_name("web", "password");
    let sealed = vault.keep(&name, "correct horse battery").await.unwrap();
    let patch = ServerPatch { password: Some(Some(sealed)), agent: None, ..patch("web") };
    let (server, _) = inventory.upsert(patch).await.unwrap();
    assert_eq!(server.auth_kinds(), ["password"]);
    assert!(format!("{server:?}").contains("password: Some([sealed])"), "{server:?}");
    let stored = server.password.clone().unwrap();
    assert_eq!(vault.open(&name, &stored).await.unwrap().expose(), "correct horse battery");
    drop((store, inventory, vault));
    let bytes = std::fs::read(directory.path().join("orchestrator.redb")).unwrap();
    let holds = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
    assert!(holds(b"127.0.0.1"), "the server itself is there");
    assert!(!holds(b"correct horse"));
}
