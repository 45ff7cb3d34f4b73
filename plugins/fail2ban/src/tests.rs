//! The tool from its arguments to its answer, on outputs that were captured from a real fail2ban (`testdata/README.md`).

use orchestrator_sdk::Finished;
use orchestrator_sdk::mock::Mock;
use orchestrator_sdk::serde_json::{Value, json};

use super::*;

const STATUS: &str = include_str!("../testdata/1.0.2/status.txt");
const NO_JAILS: &str = include_str!("../testdata/1.0.2/status-no-jails.txt");
const JAILS: [(&str, &str); 3] = [
    ("sshd", include_str!("../testdata/1.0.2/jail-sshd.txt")),
    ("nginx-http-auth", include_str!("../testdata/1.0.2/jail-nginx-http-auth.txt")),
    ("ssh-journal", include_str!("../testdata/1.0.2/jail-ssh-journal.txt")),
];
const NOT_RUNNING: &str = include_str!("../testdata/1.0.2/not-running.stderr.txt");
const NO_PERMISSION: &str = include_str!("../testdata/1.0.2/no-permission.stderr.txt");
const NO_PASSWORD: &str = "sudo: a password is required\n";

fn unknown_jail() -> Finished {
    Finished {
        exit_code: Some(255),
        stdout: include_bytes!("../testdata/1.0.2/unknown-jail.stdout.txt").to_vec(),
        stderr: include_bytes!("../testdata/1.0.2/unknown-jail.stderr.txt").to_vec(),
        ..Finished::default()
    }
}

/// A server with fail2ban 1.0: it takes `--all` for a name.
fn host() -> Mock {
    Mock::new()
        .server("web", &[])
        .finishes(status(Some(ALL), false), unknown_jail())
        .finishes(status(Some(ALL), true), unknown_jail())
}

/// One with 1.1, which answers root only.
fn newer(whole: &str) -> Mock {
    let refuse = |host: Mock, jail| host.exits(status(jail, false), 255, NO_PERMISSION);
    let host = refuse(refuse(Mock::new().server("web", &[]), None), Some(ALL));
    host.answer(status(None, true), include_str!("../testdata/1.1.0/status.txt")).answer(status(Some(ALL), true), whole)
}

/// Every jail answers root, and no one else.
fn for_root_only() -> Mock {
    let host = host().exits(status(None, false), 255, NO_PERMISSION).answer(status(None, true), STATUS);
    JAILS.iter().fold(host, |host, (name, output)| {
        host.exits(status(Some(name), false), 255, NO_PERMISSION).answer(status(Some(name), true), *output)
    })
}

fn call(host: &Mock, arguments: Value) -> Result<(String, Value), Problem> {
    let answer = host.call::<Fail2ban>("get_fail2ban_status", arguments)?;
    Ok((answer.text, answer.structured.unwrap()))
}

fn refused(host: &Mock, arguments: Value) -> (String, Value) {
    let problem = call(host, arguments).unwrap_err();
    (problem.to_string(), problem.details.get("reason").cloned().unwrap_or_default())
}

#[test]
fn from_the_second_call_on_one_round_trip_is_enough() {
    let host = for_root_only();
    let first = call(&host, json!({"alias": "web"})).unwrap();
    assert_eq!((host.round_trips(), host.commands().len()), (2, 4 + JAILS.len()));
    let second = call(&host, json!({"alias": "web"})).unwrap();
    assert_eq!((host.round_trips(), host.commands().len()), (3, 5 + 2 * JAILS.len()));
    assert_eq!(first, second);
    assert_eq!(host.all_kept().keys().collect::<Vec<_>>(), ["seen/web"]);
}

#[test]
fn a_newer_fail2ban_tells_all_jails_at_once() {
    let host = newer(include_str!("../testdata/1.1.0/status-all.txt"));
    let first = call(&host, json!({"alias": "web"})).unwrap();
    assert_eq!((host.round_trips(), host.commands().len()), (1, 4));
    assert_eq!(
        first.0,
        "web: fail2ban runs, 2 jails, 4 banned now\n\
         sshd: banned 4 now, 4 in total; failed 2 now, 5 in total\n  \
         banned: 203.0.113.7 192.0.2.1 198.51.100.23 2001:db8::9\n  \
         reads: /srv/lab/auth.log\n\
         nginx-http-auth: banned 0 now, 0 in total; failed 0 now, 0 in total\n  \
         reads: /srv/lab/vhost-error.log"
    );
    let second = call(&host, json!({"alias": "web"})).unwrap();
    assert_eq!((host.round_trips(), host.commands().len(), second), (2, 5, first));
    // Somebody has gone back to an older version.
    let older = for_root_only().kept("seen/web", json!({"sudo": true, "whole": true, "jails": ["sshd"]}).to_string());
    assert_eq!(
        call(&older, json!({"alias": "web"})).unwrap(),
        call(&for_root_only(), json!({"alias": "web"})).unwrap()
    );

    let none = newer(include_str!("../testdata/1.1.0/status-all-no-jails.txt"));
    assert_eq!(call(&none, json!({"alias": "web"})).unwrap().0, "web: fail2ban runs, 0 jails, 0 banned now");
}

#[test]
fn what_has_changed_since_the_last_call_is_told_as_it_is() {
    let remembered = |sudo: bool, jails: &[&str]| json!({"sudo": sudo, "whole": false, "jails": jails}).to_string();
    let expected = call(&for_root_only(), json!({"alias": "web"})).unwrap();
    for (sudo, jails) in [
        // One jail is new.
        (true, &["sshd", "ssh-journal"][..]),
        // Sudo is needed now.
        (false, &["sshd"]),
        // One is gone.
        (true, &["gone", "sshd", "ssh-journal", "nginx-http-auth"]),
        // Nobody wrote this.
        (true, &["--help"]),
    ] {
        let host = for_root_only()
            .finishes(status(Some("gone"), true), unknown_jail())
            .kept("seen/web", remembered(sudo, jails));
        assert_eq!(call(&host, json!({"alias": "web"})).unwrap(), expected, "{jails:?}");
        assert!(host.commands().iter().all(|(_, command)| !command.args.contains(&"--help".to_owned())));
    }
    let host = for_root_only().kept("seen/web", "no JSON");
    assert_eq!(call(&host, json!({"alias": "web"})).unwrap(), expected);
    let lost = Problem::new("CONNECTION_FAILED", "lost").retryable();
    let host = for_root_only().fails(status(None, true), lost.clone()).kept("seen/web", remembered(true, &["sshd"]));
    assert_eq!(call(&host, json!({"alias": "web"})).unwrap_err(), lost);
}

#[test]
fn a_jail_with_thousands_of_bans_does_not_fill_the_answer() {
    let addresses: Vec<String> = (0..5000).map(|number| format!("10.0.{}.{}", number / 250, number % 250)).collect();
    let jail = format!(
        "Status for the jail: sshd\n`- Actions\n   |- Currently banned:\t5000\n   `- Banned IP list:\t{}\n",
        addresses.join(" ")
    );
    let host = host().answer(status(Some("sshd"), false), jail).exits(status(Some("sshd"), true), 1, NO_PASSWORD);
    let (text, data) = call(&host, json!({"alias": "web", "jail": "sshd"})).unwrap();
    assert_eq!(data["jails"][0]["banned"].as_array().unwrap().len(), KEPT_ADDRESSES);
    assert_eq!(data["jails"][0]["currently_banned"], 5000);
    assert!(text.contains(" and 4970 more\n") && text.contains("\nNote: the jail sshd bans more"), "{text}");
}

#[test]
fn every_jail_is_told_in_two_round_trips() {
    let host = for_root_only();
    let (text, data) = call(&host, json!({"alias": "web"})).unwrap();
    assert_eq!(host.round_trips(), 2);
    assert_eq!(
        text,
        "web: fail2ban runs, 3 jails, 5 banned now\n\
         sshd: banned 5 now, 5 in total; failed 1 now, 10 in total\n  \
         banned: 203.0.113.9 192.0.2.1 192.0.2.77 2001:db8::5 198.51.100.9\n  \
         reads: /srv/lab/auth.log\n\
         nginx-http-auth: banned 0 now, 0 in total; failed 0 now, 0 in total\n  \
         reads: /srv/lab/access.log, /srv/lab/access2.log\n\
         ssh-journal: banned 0 now, 0 in total; failed 0 now, 0 in total\n  \
         reads the journal: _SYSTEMD_UNIT=sshd.service + _COMM=sshd"
    );
    assert_eq!(data["sudo"], true);
    assert_eq!(
        data["jails"][0],
        json!({
            "name": "sshd", "currently_failed": 1, "total_failed": 10, "currently_banned": 5, "total_banned": 5,
            "banned": ["203.0.113.9", "192.0.2.1", "192.0.2.77", "2001:db8::5", "198.51.100.9"],
            "files": ["/srv/lab/auth.log"],
        })
    );
}

#[test]
fn one_jail_is_told_in_one_round_trip() {
    let host = for_root_only();
    let (_, data) = call(&host, json!({"alias": "web", "jail": "nginx-http-auth"})).unwrap();
    assert_eq!(host.round_trips(), 1);
    assert_eq!(data["jails"].as_array().unwrap().len(), 1);
    assert_eq!(data["jails"][0]["files"], json!(["/srv/lab/access.log", "/srv/lab/access2.log"]));
}

#[test]
fn sudo_is_not_needed_by_who_may_ask_without_it() {
    let host = host().answer(status(None, false), NO_JAILS).exits(status(None, true), 1, NO_PASSWORD);
    let (text, data) = call(&host, json!({"alias": "web"})).unwrap();
    assert_eq!(text, "web: fail2ban runs, 0 jails, 0 banned now");
    assert_eq!(data, json!({"alias": "web", "jails": [], "sudo": false, "notes": []}));
}

#[test]
fn absent_silent_forbidden_and_unknown_are_four_different_problems() {
    let all = json!({"alias": "web"});
    let both = |plain: (u32, &str), sudo: (u32, &str)| {
        let host = host().exits(status(None, false), plain.0, plain.1).exits(status(None, true), sudo.0, sudo.1);
        refused(&host, all.clone())
    };
    let missing = (127, "sh: 1: fail2ban-client: not found\n");
    let (text, reason) = both(missing, (1, "sudo: fail2ban-client: command not found\n"));
    assert_eq!(text, "PLUGIN_FAILED: fail2ban is not installed on web: there is no fail2ban-client");
    assert_eq!(reason, "not_installed");
    assert_eq!(both(missing, (127, "sh: 1: sudo: not found\n")).1, "not_installed");

    let (text, reason) = both((255, NOT_RUNNING), (255, NOT_RUNNING));
    assert_eq!(text, "PLUGIN_FAILED: fail2ban is installed on web but not running: its socket is missing or silent");
    assert_eq!(reason, "not_running");
    // A folder that only root may enter hides the socket from everybody else.
    let (text, reason) = both((255, NOT_RUNNING), (1, NO_PASSWORD));
    assert!(
        text.contains("seems not to run") && text.contains("(exited with 1: sudo: a password is required)"),
        "{text}"
    );
    assert_eq!(reason, "no_socket_seen");

    let (text, reason) = both((255, NO_PERMISSION), (1, NO_PASSWORD));
    assert_eq!(
        text,
        "PLUGIN_FAILED: the login user of web may not ask fail2ban, and sudo without a password did not help \
         (exited with 1: sudo: a password is required)"
    );
    assert_eq!(reason, "no_permission");

    let host = host()
        .exits(status(Some("nope"), false), 255, NO_PERMISSION)
        .finishes(status(Some("nope"), true), unknown_jail())
        .answer(status(None, true), STATUS);
    let (text, reason) = refused(&host, json!({"alias": "web", "jail": "nope"}));
    assert_eq!(
        text,
        "INVALID_ARGUMENT: fail2ban on web has no running jail \"nope\"; it has: nginx-http-auth, ssh-journal, sshd"
    );
    assert_eq!(reason, "unknown_jail");
    assert_eq!(host.round_trips(), 2);
}

#[test]
fn a_sudo_that_was_not_granted_is_named_where_it_was_needed() {
    let problem = Problem::new("NOT_GRANTED", "the plugin may not run fail2ban-client as root");
    let host = host().exits(status(None, false), 255, NO_PERMISSION).fails(status(None, true), problem);
    let (text, reason) = refused(&host, json!({"alias": "web"}));
    assert_eq!(reason, "no_permission");
    assert!(text.contains("(the plugin may not run fail2ban-client as root)"), "{text}");
}

#[test]
fn a_name_that_no_jail_has_reaches_no_server() {
    for name in ["", "-h", "sshd; id", "a b", "../x", "$(id)", "jäil"] {
        let host = host();
        let problem = call(&host, json!({"alias": "web", "jail": name})).unwrap_err();
        assert_eq!((problem.code.as_str(), host.round_trips()), ("INVALID_ARGUMENT", 0), "{name:?}");
    }
}

#[test]
fn a_jail_that_went_away_costs_only_itself() {
    let host = for_root_only().finishes(status(Some("sshd"), true), unknown_jail());
    let (text, data) = call(&host, json!({"alias": "web"})).unwrap();
    assert_eq!(data["jails"].as_array().unwrap().len(), 2);
    assert!(text.contains("\nNote: the jail sshd could not be asked: exited with 255"), "{text}");
}

#[test]
fn a_problem_of_the_connection_is_passed_on_unchanged() {
    let problem = Problem::new("CONNECTION_FAILED", "web refused the connection").retryable();
    let host = host().fails(status(None, false), problem.clone()).fails(status(None, true), problem.clone());
    assert_eq!(call(&host, json!({"alias": "web"})).unwrap_err(), problem);
}

#[test]
fn only_wanted_command_lines_are_run() {
    let host = for_root_only();
    call(&host, json!({"alias": "web"})).unwrap();
    for (_, command) in host.commands() {
        assert_eq!(
            (command.program.as_str(), command.args.first().map(String::as_str)),
            ("fail2ban-client", Some("status"))
        );
    }
    let wants = orchestrator_sdk::describe::<Fail2ban>().wants;
    let scopes: Vec<_> = wants.iter().filter(|want| want.capability != "servers").map(|want| &want.scope).collect();
    assert_eq!(scopes, [&["fail2ban-client", "status", "*"]; 2]);
}

#[test]
fn the_description_is_short_enough_for_a_model() {
    let info = orchestrator_sdk::describe::<Fail2ban>();
    let tool = info.tools.first().unwrap();
    let bytes =
        json!([tool.name, tool.title, tool.description, tool.input_schema, tool.output_schema]).to_string().len();
    assert!(bytes < 650, "{bytes} bytes");
}

#[test]
fn a_host_of_the_rhel_family_is_told_as_its_terminal_shows_it() {
    let host = host()
        .answer(status(None, false), include_str!("../testdata/1.0.1-el9/status.txt"))
        .exits(status(None, true), 1, NO_PASSWORD)
        .answer(status(Some("sshd"), false), include_str!("../testdata/1.0.1-el9/jail-sshd.txt"));
    let (_, data) = call(&host, json!({"alias": "web"})).unwrap();
    assert_eq!(
        data["jails"][0],
        json!({
            "name": "sshd", "currently_failed": 0, "total_failed": 3, "currently_banned": 1, "total_banned": 1,
            "banned": ["10.102.1.11"], "files": [], "journal_matches": "_SYSTEMD_UNIT=sshd.service + _COMM=sshd",
        })
    );
}
