//! Following: what is told while lines come, and how it ends. The processes are scripts of the mock host, so no time passes.

use orchestrator_sdk::Signal;
use orchestrator_sdk::mock::Script;

use super::*;

fn arguments(more: Value) -> Value {
    let mut arguments = json!({"alias": "web", "filepath": "/var/log/f", "lines": 1, "follow": 10});
    arguments.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    arguments
}

fn command(arguments: &Value, sudo: bool) -> Command {
    file::command(&from_value(arguments.clone()).unwrap(), sudo)
}

/// What the tool says when the command does this, and the messages that it sent meanwhile.
fn followed(script: Script, more: Value) -> (String, Value, Vec<String>, Mock) {
    let arguments = arguments(more);
    let host = host().spawns(command(&arguments, false), script);
    let (text, data) = call(&host, "tail_file", arguments).unwrap();
    let messages = host.reports().into_iter().filter_map(|(_, _, message)| message).collect();
    (text, data, messages, host)
}

#[test]
fn lines_are_told_as_they_come_and_the_command_is_ended_when_the_time_is_over() {
    let script = Script::new().stdout("9 1700000000 -\nbefore\ndur").stdout("ing\x1b[2J\u{7}\nand\n").silence();
    let (text, data, messages, host) = followed(script, json!({}));
    assert_eq!(messages, ["1 line: before", "2 lines: and"]);
    assert_eq!(data["lines"], json!(["before", "during\\x1b[2J\\x07", "and"]), "{text}");
    assert!(text.contains(", last 3 lines, followed for 10 s, changed 2023-11-14T22:13:20Z"), "{text}");
    assert_eq!((host.signals(), host.stopped()), (vec![Signal::Term], 0));
    let totals: Vec<_> = host.reports().into_iter().map(|(_, total, _)| total).collect();
    assert_eq!(totals, [Some(10.0), Some(10.0)]);
}

#[test]
fn only_lines_with_the_text_are_told_and_kept() {
    let script = Script::new().stdout("9 1 -\nGET /\n").stdout("GET /a 500\nGET /b\n").silence();
    let (_, data, messages, _) = followed(script, json!({"grep": "500"}));
    assert_eq!((messages, &data["lines"]), (vec!["1 line: GET /a 500".to_owned()], &json!(["GET /a 500"])));
}

#[test]
fn who_cancels_gets_what_had_come_and_the_command_is_dropped() {
    let arguments = arguments(json!({}));
    let script = Script::new().stdout("9 1 -\none\n").stdout("never read\n");
    let host = host().spawns(command(&arguments, false), script);
    host.cancel();
    let (text, data) = call(&host, "tail_file", arguments).unwrap();
    assert_eq!(data["lines"], json!(["one"]));
    assert!(text.starts_with("Note: the call was cancelled after 0 s; this is what had come by then\n"), "{text}");
    // Nothing is waited for on behalf of somebody who has gone.
    assert_eq!((host.signals(), host.stopped()), (vec![], 1));
}

#[test]
fn a_flood_is_followed_until_there_is_enough_of_it() {
    let lines = "x\n".repeat(6_000);
    let script = Script::new().stdout("9 1 -\n").stdout(lines.as_str()).stdout("never shown\n");
    let (text, data, messages, host) = followed(script, json!({}));
    assert!(text.starts_with("Note: so much came that it was followed for 0 s only\n"), "{text}");
    assert_eq!(messages, ["6000 lines: x"]);
    assert_eq!(data["lines"].as_array().map(Vec::len), Some(6_000));
    assert_eq!((host.signals(), host.stopped()), (vec![Signal::Term], 0));
    let script = Script::new().stdout("9 1 -\n").stdout("y".repeat(1_000_000)).stdout("never shown\n");
    assert_eq!(followed(script, json!({})).3.signals(), [Signal::Term]);
}

#[test]
fn a_command_that_ends_by_itself_is_explained_or_tried_as_root() {
    let arguments = arguments(json!({}));
    let denied = host()
        .spawns(command(&arguments, false), Script::new().exits(93))
        .spawns(command(&arguments, true), Script::new().stdout("9 1 -\nsecret\n").silence());
    let (_, data) = call(&denied, "tail_file", arguments.clone()).unwrap();
    assert_eq!((&data["lines"], &data["sudo"]), (&json!(["secret"]), &json!(true)));
    for (code, reason) in [(91, "missing"), (96, "cannot_follow")] {
        let host = host().spawns(command(&arguments, false), Script::new().exits(code));
        assert_eq!(refused(&host, "tail_file", arguments.clone()).1, reason);
    }
    let lost = Problem::new("CONNECTION_FAILED", "gone");
    let host = host().spawns(command(&arguments, false), Script::new().stdout("9 1 -\n").fails(lost.clone()));
    assert_eq!(call(&host, "tail_file", arguments).unwrap_err(), lost);
    let packed = json!({"alias": "web", "filepath": "/var/log/f.gz", "follow": 2});
    assert_eq!(refused(&super::host(), "tail_file", packed).1, "follow");
}

#[test]
fn both_streams_of_a_container_are_followed_on_the_engine_that_has_it() {
    let given = json!({"alias": "web", "container": "db", "lines": 1, "follow": 5});
    let arguments: docker::Arguments = from_value(given.clone()).unwrap();
    let following = docker::following("podman", &arguments, 1);
    assert!(following.to_string().ends_with(" podman logs --follow --tail=1 -- db"), "{following}");
    let host = host()
        .exits(docker::command("docker", &arguments, 0), 127, "")
        .answer(docker::command("podman", &arguments, 0), "")
        .spawns(following, Script::new().stdout("GET /\n").stderr("warn\nred\n").silence());
    let (text, data) = call(&host, "get_docker_logs", given).unwrap();
    assert_eq!((&data["stdout"], &data["stderr"]), (&json!(["GET /"]), &json!(["warn", "red"])));
    assert!(text.starts_with("--- stderr of container db on web, 2 lines, followed for 5 s (data"), "{text}");
    let messages: Vec<_> = host.reports().into_iter().filter_map(|(_, _, message)| message).collect();
    assert_eq!(messages, ["1 line: GET /", "2 lines: red"]);
    assert_eq!(host.signals(), [Signal::Term]);
}

#[test]
fn entries_of_the_journal_are_followed_as_whom_they_were_found() {
    let given = json!({"alias": "web", "unit": "ssh", "lines": 1, "follow": 5});
    let arguments: journal::Arguments = from_value(given.clone()).unwrap();
    let refused = "No journal files were opened due to insufficient permissions.\n";
    let following = journal::following(&arguments, true, true);
    assert!(following.to_string().starts_with("sudo -n journalctl -o json --no-pager --all --follow --lines=1 "));
    let one = r#"{"MESSAGE":"one","PRIORITY":"6","_SYSTEMD_UNIT":"ssh.service"}"#;
    let two = r#"{"MESSAGE":"two","PRIORITY":"3","_SYSTEMD_UNIT":"ssh.service","_PID":"7"}"#;
    let script = Script::new().stdout(format!("{one}\n")).stdout(format!("{two}\n")).silence();
    let host = host()
        .exits(journal::command(&arguments, true, false), 1, refused)
        .answer(journal::command(&arguments, true, true), one)
        .spawns(following, script);
    let (text, data) = call(&host, "get_journal_logs", given).unwrap();
    let messages: Vec<&Value> = data["entries"].as_array().unwrap().iter().map(|entry| &entry["message"]).collect();
    assert_eq!((messages, &data["sudo"]), (vec![&json!("one"), &json!("two")], &json!(true)));
    assert!(text.starts_with("--- journal of ssh on web, last 2 entries, followed for 5 s (data"), "{text}");
    let told: Vec<_> = host.reports().into_iter().filter_map(|(_, _, message)| message).collect();
    assert_eq!(told, ["1 line: info ssh.service: one", "1 line: err ssh.service[7]: two"]);
    host.commands().into_iter().for_each(|(_, command)| is_wanted(command));
}
