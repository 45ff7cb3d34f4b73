//! The configuration compared with what `ssh -G` makes of the same files, host by host.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use super::*;

const MAIN: &str = r#"
# Values before any block count for everybody, and before everything else.
IdentityFile ~/.ssh/id_everybody

Host web-1 web-2 "quoted"
    HostName %h.example.org
    User=deploy
    Port 2201
    IdentityFile "~/.ssh/id web"
    IdentityFile ~/.ssh/id_second
    IdentityFile ~/.ssh/id_second

Host *.lab !secret.lab
    User lab
    ProxyJump bastion

Host secret.lab
    ProxyCommand nc %h %p
    ProxyJump never

Host db
    HostName 10.0.0.5
    Port 5022
    ProxyJump ada@bastion:2222,web-1

Host direct.lab2
    ProxyJump none

Match host 10.0.0.5 user root
    IdentityAgent none

Match host *.example.org user deploy
    IdentityFile ~/.ssh/id_matched
    IdentitiesOnly yes

Match !host *.example.org,bastion originalhost web-*,d?
    IdentityFile ~/.ssh/id_negated

Match user deploy host=*.EXAMPLE.org
    IdentityFile ~/.ssh/id_capital

Include DIR/more*.conf

Host Capital
    HostName Capital.Example.ORG

Match all
    User fallback
Host *
    Port 22
    IdentityFile ~/.ssh/id_last # with a comment
"#;

const MORE_A: &str =
    "Host web-1\n  User never\n  IdentityAgent /run/agent\nMatch all\n  IdentityFile ~/.ssh/id_included\n";
const MORE_B: &str = "Host inner\n  Include DIR/deep.conf\nHost other\n  Include DIR/deep.conf\n";
const DEEP: &str = "User deep\nHost other\n  Port 7\nHost *\n  HostName deep.example.org\n";

fn write(folder: &Path) -> std::path::PathBuf {
    let files = [("config", MAIN), ("more-a.conf", MORE_A), ("more-b.conf", MORE_B), ("deep.conf", DEEP)];
    for (name, text) in files {
        std::fs::write(folder.join(name), text.replace("DIR", folder.to_str().unwrap())).unwrap();
    }
    folder.join("config")
}

/// What `ssh -G` says, each keyword with all its values.
fn openssh(config: &Path, name: &str) -> BTreeMap<String, Vec<String>> {
    let output = Command::new("ssh").arg("-G").arg("-F").arg(config).arg(name).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut said: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let (keyword, value) = line.split_once(' ').unwrap_or((line, ""));
        said.entry(keyword.to_owned()).or_default().push(value.to_owned());
    }
    said
}

fn asker() -> Asker {
    let name = Command::new("id").arg("-un").output().unwrap();
    Asker { user: String::from_utf8(name.stdout).unwrap().trim().to_owned(), home: "/home/ada".to_owned() }
}

#[test]
fn every_host_is_what_openssh_makes_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path());
    let config = Config::read(&path, Path::new("/nonexistent")).unwrap();
    assert_eq!(config.notes, Vec::<String>::new());
    let names = [
        "web-1",
        "web-2",
        "web-3",
        "quoted",
        "a.lab",
        "secret.lab",
        "db",
        "direct.lab2",
        "bastion",
        "inner",
        "other",
        "Capital",
        "unknown",
        "10.0.0.5",
        "WEB-1",
    ];
    for name in names {
        let ours = config.resolve(name, &asker()).unwrap();
        let theirs = openssh(&path, name);
        let first = |keyword: &str| theirs.get(keyword).and_then(|values| values.first().cloned());
        assert_eq!(Some(ours.host.clone()), first("hostname"), "{name}");
        assert_eq!(Some(ours.port.to_string()), first("port"), "{name}");
        assert_eq!(Some(ours.user.clone()), first("user"), "{name}");
        assert_eq!(ours.proxy_jump, first("proxyjump"), "{name}");
        assert_eq!(ours.proxy_command, first("proxycommand"), "{name}");
        assert_eq!(ours.identity_agent, first("identityagent"), "{name}");
        assert_eq!(Some(&ours.identity_files), theirs.get("identityfile"), "{name}");
        assert_eq!(ours.identities_only, first("identitiesonly").as_deref() == Some("yes"), "{name}");
    }
}

#[test]
fn names_are_told_from_patterns() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config::read(&write(folder.path()), Path::new("/nonexistent")).unwrap();
    let (names, patterns) = config.names();
    assert_eq!(names, ["web-1", "web-2", "quoted", "secret.lab", "db", "direct.lab2", "inner", "other", "Capital"]);
    assert_eq!(patterns, ["*.lab", "*"]);
}

#[test]
fn tokens_and_variables_in_paths_are_replaced_and_unknown_ones_refused() {
    let found =
        Found { name: "web".into(), host: "web.example.org".into(), port: 22, user: "ada".into(), ..Found::default() };
    let asker = Asker { user: "me".into(), home: "/home/me".into() };
    let variable = |name: &str| (name == "KEYS").then(|| "/keys".to_owned());
    let check = |text: &str, expected: Result<&str, &str>| match (found.expand(text, &asker, variable), expected) {
        (Ok(path), Ok(expected)) => assert_eq!(path, expected),
        (Err(why), Err(expected)) => assert!(why.contains(expected), "{why}"),
        (other, _) => panic!("{text}: {other:?}"),
    };
    check("%d/%n-%h-%p-%r-%u-100%%", Ok("/home/me/web-web.example.org-22-ada-me-100%"));
    check("${KEYS}/id", Ok("/keys/id"));
    check("${NONE}/id", Err("NONE"));
    check("%C", Err("%C"));
    check("a%", Err("lone %"));
}

#[test]
fn a_condition_that_would_run_a_command_is_passed_over_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let marker = folder.path().join("ran");
    let path = folder.path().join("config");
    std::fs::write(&path, format!("Match exec \"touch {}\"\n  User eve\nHost a\n  User ada\n", marker.display()))
        .unwrap();
    let found = Config::read(&path, folder.path()).unwrap().resolve("a", &asker()).unwrap();
    assert_eq!(found.user, "ada");
    assert!(found.notes.iter().any(|note| note.contains("exec")), "{:?}", found.notes);
    assert!(!marker.exists());
}

#[test]
fn what_has_no_counterpart_is_told_with_what_there_is_instead() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    let text = "Host a\n  Ciphers aes256-cbc\n  UserKnownHostsFile /k\n  StrictHostKeyChecking accept-new\n  Compression yes\n\
        Host b\n  StrictHostKeyChecking ask\n  ForwardAgent no\n  AddressFamily any\n  UserKnownHostsFile none\n";
    std::fs::write(&path, text).unwrap();
    let config = Config::read(&path, folder.path()).unwrap();
    let notes = |name: &str| config.resolve(name, &asker()).unwrap().notes;
    let told = notes("a");
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told[0].contains("Ciphers") && told[0].contains("[legacy]") && told[1].contains("MCP_KNOWN_HOSTS"));
    assert!(told[2].contains("MCP_HOST_KEYS"), "{told:?}");
    assert_eq!(notes("b"), Vec::<String>::new());
}

#[test]
fn a_file_that_includes_itself_is_an_error_and_not_a_loop() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    std::fs::write(&path, format!("Include {}\n", path.display())).unwrap();
    assert!(format!("{:#}", Config::read(&path, folder.path()).unwrap_err()).contains("more than 16"));
}
