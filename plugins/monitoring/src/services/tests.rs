//! `get_services_status` from its arguments to its answer, on outputs that were captured (`testdata/README.md`).

use orchestrator_sdk::mock::Mock;
use orchestrator_sdk::serde_json::{Value, json};

use super::*;
use crate::Monitoring;

const UNITS: &str = include_str!("../../testdata/services/systemctl-252.txt");
const NOT_BOOTED: &str = include_str!("../../testdata/services/systemctl-not-booted.err");
const DOCKERS: [&str; 2] = [
    include_str!("../../testdata/services/docker-28.2.2.txt"),
    include_str!("../../testdata/services/docker-20.10.24.txt"),
];
const NO_PERMISSION: &str = include_str!("../../testdata/services/docker-no-permission.err");
const NO_DAEMON: &str = include_str!("../../testdata/services/docker-no-daemon.err");
const USER_UNITS: &str = include_str!("../../testdata/services/systemctl-user-252.txt");
const NO_MANAGER: &str = include_str!("../../testdata/services/systemctl-user-no-manager.err");
const CENTOS: &str = include_str!("../../testdata/elsewhere/systemctl-centos-7.7.txt");
const PODMAN: &str = include_str!("../../testdata/services/podman-4.3.1.txt");
const ROOTLESS: &str = include_str!("../../testdata/services/podman-4.3.1-rootless.txt");
const EMULATED: &str = include_str!("../../testdata/services/podman-docker-4.3.1.err");
const APPS: &str = include_str!("../../testdata/services/pm2-7.0.4.jsonl");
const APPS_AS_ROOT: &str = include_str!("../../testdata/services/pm2-7.0.4-as-root.txt");
const APPS_OF_ANOTHER: &str = include_str!("../../testdata/services/pm2-7.0.4-of-another.txt");

/// A server on which nothing of all this is installed.
fn bare() -> Mock {
    Mock::new()
        .server("web", &[])
        .exits(systemd::command(), 127, "sh: 1: systemctl: not found\n")
        .exits(containers::docker(), 127, "sh: 1: docker: not found\n")
        .exits(containers::podman(), 90, "")
        .exits(pm2::command(), 90, "")
}

/// What the script prints on a host with systemd, for what the login user's manager said.
fn systemd(user: &str, end: u32) -> String {
    format!("{UNITS}==> user\n{user}==> {end}\n")
}

fn full(docker: &str) -> Mock {
    bare()
        .answer(systemd::command(), systemd(NO_MANAGER, 1))
        .answer(containers::docker(), docker)
        .answer(pm2::command(), APPS)
}

fn call(host: &Mock, failed_only: bool) -> (String, Value) {
    let arguments = json!({"alias": "web", "failed_only": failed_only});
    let answer = host.call::<Monitoring>("get_services_status", arguments).unwrap();
    (answer.text, answer.structured.unwrap())
}

#[test]
fn what_failed_comes_first_in_one_round_trip() {
    for docker in DOCKERS {
        let host = full(docker);
        let (text, data) = call(&host, false);
        assert_eq!(host.round_trips(), 1);
        let start: Vec<&str> = text.lines().take(8).collect();
        assert_eq!(
            start,
            [
                "web: 6 things failed",
                "! broken.service failed (failed)",
                "! looping.service is restarted again and again (auto-restart)",
                "! container looping: Restarting (1) 39 seconds ago",
                "! container job: Exited (3) 19 minutes ago",
                "! container sick: Up 19 minutes (unhealthy)",
                "! PM2 app crasher is errored after 15 restarts",
                "systemd: 6 services run",
            ]
        );
        assert!(text.contains("\n  running: console-getty, cron, dbus, nginx, "), "{text}");
        assert!(text.contains("\nDocker: 7 containers\n  ported (lab/box:1.0) Up 19 minutes"), "{text}");
        assert!(
            text.contains("\nPM2: 4 apps\n  web-app online for 17 min, 0 restarts, 52.3 MiB, CPU 0.3%\n"),
            "{text}"
        );
        assert!(!text.contains("Podman"), "{text}");
        assert_eq!(data["failed"].as_array().unwrap().len(), 6);
        assert_eq!(data["podman"]["state"], "absent");
        let names = |part: &str| -> Vec<&str> {
            data[part]["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect()
        };
        assert!(names("systemd").contains(&"systemd-remount-fs.service"), "one that did its work and ended");
        assert!(!names("systemd").contains(&"auditd.service"), "one that is not installed");
        assert_eq!(names("pm2"), ["web-app", "my app", "crasher", "old"]);
    }
}

#[test]
fn a_container_is_told_with_its_parts() {
    let (_, data) = call(&full(DOCKERS[0]), false);
    let containers = data["docker"]["items"].as_array().unwrap();
    assert_eq!(
        containers[5],
        json!({
            "name": "sick", "image": "lab/box:1.0", "state": "running", "health": "unhealthy",
            "status": "Up 19 minutes (unhealthy)", "ports": [],
        })
    );
    assert_eq!(containers[0]["state"], "paused");
    assert_eq!(containers[0]["ports"][0], "127.0.0.1:18081->80/tcp");
    assert_eq!(containers[0]["ports"].as_array().unwrap().len(), 5);
    assert_eq!((&containers[4]["state"], &containers[4]["exit_code"]), (&json!("exited"), &json!(3)));
}

#[test]
fn only_what_failed_is_told_if_so_asked() {
    let (text, data) = call(&full(DOCKERS[0]), true);
    assert_eq!(text.lines().count(), 10, "{text}");
    assert!(text.ends_with("\nsystemd: 6 services run\nDocker: 7 containers\nPM2: 4 apps"), "{text}");
    assert_eq!(data["systemd"]["items"].as_array().unwrap().len(), 2);
    assert_eq!(data["docker"]["items"].as_array().unwrap().len(), 3);
    assert_eq!((&data["docker"]["total"], &data["pm2"]["total"]), (&json!(7), &json!(4)));
}

#[test]
fn what_is_absent_is_no_error() {
    let (text, data) = call(&bare(), false);
    assert_eq!(
        text,
        "web: nothing failed\nsystemd: not installed\nDocker: not installed\n\
         PM2: not installed, or not in the PATH of commands"
    );
    for part in ["systemd", "systemd_user", "docker", "podman", "pm2"] {
        assert_eq!((&data[part]["state"], &data[part]["items"]), (&json!("absent"), &json!([])));
    }
}

#[test]
fn what_cannot_be_asked_says_why_beside_the_rest() {
    let docker = containers::docker();
    let check = |host: Mock, part: &str, state: &str, line: &str| {
        let (text, data) = call(&host, false);
        assert_eq!(data[part]["state"], state, "{text}");
        assert!(text.lines().any(|told| told == line), "{text}");
        assert!(part == "systemd" || text.contains("\nsystemd: 6 services run\n"), "{text}");
    };
    let host = || full(DOCKERS[0]);
    let forbidden = host().exits(&docker, 1, NO_PERMISSION);
    check(
        forbidden,
        "docker",
        "no_permission",
        "Docker: the login user may not use it: it needs root or the group docker",
    );
    let stopped = host().exits(&docker, 1, NO_DAEMON);
    check(stopped, "docker", "not_running", "Docker: installed, but its daemon does not run");
    let slow = host().fails(&docker, Problem::new("COMMAND_TIMEOUT", "timed out after 20 s"));
    check(slow, "docker", "unknown", "Docker: timed out after 20 s");
    check(host().exits(pm2::command(), 91, ""), "pm2", "not_running", "PM2: no PM2 of the login user runs");
    let no_node = host().exits(pm2::command(), 1, "SyntaxError: undefined\n");
    check(no_node, "pm2", "unknown", "PM2: `pm2 jlist` exited with 1: SyntaxError: undefined");
    let not_booted = host().exits(systemd::command(), 1, NOT_BOOTED);
    check(not_booted, "systemd", "not_running", "systemd: installed, but it does not run this system");
    let none = "Podman: the login user has no containers; those of root and others are listed to them only";
    check(host().exits(containers::podman(), 91, ""), "podman", "not_running", none);
}

#[test]
fn units_of_the_login_user_are_told_beside_those_of_the_system() {
    let host = full(DOCKERS[0]).answer(systemd::command(), systemd(USER_UNITS, 0));
    let (text, data) = call(&host, false);
    assert_eq!(host.round_trips(), 1);
    assert!(text.contains("\n! user unit sync.service failed (failed)\n"), "{text}");
    assert!(text.contains("\nsystemd of the login user: 1 service runs\n  running: notes\n"), "{text}");
    let units = data["systemd_user"]["items"].as_array().unwrap();
    assert_eq!(units.iter().map(|unit| &unit["name"]).collect::<Vec<_>>(), ["notes.service", "sync.service"]);
    let (text, _) = call(&full(DOCKERS[0]).answer(systemd::command(), systemd(USER_UNITS, 0)), true);
    assert!(text.contains("! user unit sync.service") && !text.contains("notes"), "{text}");
}

#[test]
fn a_login_without_a_user_manager_is_usual() {
    let (text, data) = call(&full(DOCKERS[0]), false);
    assert_eq!(data["systemd_user"]["state"], "not_running");
    assert!(text.starts_with("web: 6 things failed\n") && !text.contains("login user"), "{text}");
    let host = full(DOCKERS[0]).answer(systemd::command(), systemd("Unknown option --user\n", 1));
    let (text, _) = call(&host, false);
    assert!(text.contains("\nsystemd of the login user: systemctl --user failed: Unknown option --user\n"), "{text}");
}

#[test]
fn units_with_blanks_and_dots_before_them_are_told() {
    let host = bare().answer(systemd::command(), format!("{CENTOS}==> user\n{NO_MANAGER}==> 1\n"));
    let (text, data) = call(&host, false);
    assert!(text.contains("\nsystemd: 4 services run\n  running: chronyd, crond, docker, sshd\n"), "{text}");
    assert_eq!(data["systemd"]["total"], 5, "those four, and one that did its work and ended");
}

#[test]
fn containers_of_podman_are_told_of_root_and_of_a_user() {
    for (list, ports) in [(PODMAN, 2), (ROOTLESS, 0)] {
        let (text, data) = call(&bare().answer(containers::podman(), list), false);
        assert!(text.starts_with("web: 2 things failed\n"), "{text}");
        assert!(text.contains("\n! container sick: Up "), "{text}");
        assert!(text.contains("\n! container job: Exited (3) "), "{text}");
        assert!(text.contains("\nDocker: not installed\nPodman: 9 containers\n"), "{text}");
        let containers = data["podman"]["items"].as_array().unwrap();
        let named = |name: &str| containers.iter().find(|container| container["name"] == name).unwrap();
        assert_eq!((&named("healthy")["state"], &named("healthy")["health"]), (&json!("running"), &json!("healthy")));
        assert_eq!((&named("plain")["state"], &named("plain")["exit_code"]), (&json!("exited"), &json!(137)));
        assert_eq!(named("new")["state"], "created");
        assert_eq!(named("ported")["ports"].as_array().unwrap().len(), ports);
    }
}

#[test]
fn podman_under_the_name_of_docker_is_told_once() {
    let loud = Finished { exit_code: Some(0), stdout: PODMAN.into(), stderr: EMULATED.into(), ..Finished::default() };
    let quiet = Finished { stderr: Vec::new(), ..loud.clone() };
    for docker in [loud, quiet] {
        let host = bare().finishes(containers::docker(), docker).answer(containers::podman(), PODMAN);
        let (text, data) = call(&host, false);
        assert!(text.starts_with("web: 2 things failed\n"), "{text}");
        assert!(text.contains("\nDocker: not installed; Podman stands in for it\nPodman: 9 containers\n"), "{text}");
        assert_eq!(data["docker"]["state"], "absent");
    }
}

#[test]
fn the_pm2_of_another_user_is_told_with_its_user() {
    let printed =
        |exit_code, stdout: &str| Finished { exit_code: Some(exit_code), stdout: stdout.into(), ..Finished::default() };
    let (text, data) = call(&bare().finishes(pm2::command(), printed(91, APPS_AS_ROOT)), false);
    assert!(text.starts_with("web: 1 thing failed\n! PM2 app crasher of ops is errored after "), "{text}");
    assert!(text.contains("\nPM2: 2 apps\n  web of ops online for "), "{text}");
    assert_eq!(data["pm2"]["items"][0]["user"], "ops");

    // Without root it is seen that there is one, and no more.
    let (text, data) = call(&bare().finishes(pm2::command(), printed(91, APPS_OF_ANOTHER)), false);
    assert!(text.starts_with("web: nothing failed of what could be asked\n"), "{text}");
    let end = "\nPM2: no PM2 of the login user runs; PM2 of ops runs, too, and answers only its user and root";
    assert!(text.ends_with(end), "{text}");
    assert_eq!(data["pm2"]["state"], "no_permission");

    let both = format!("{APPS}{APPS_OF_ANOTHER}eve\t!\n");
    let (text, data) = call(&bare().finishes(pm2::command(), printed(0, &both)), false);
    let line =
        "\nPM2: 4 apps; PM2 of ops runs, too, and answers only its user and root; PM2 of eve runs and did not answer\n";
    assert!(text.contains(line), "{text}");
    assert_eq!((&data["pm2"]["state"], &data["pm2"]["items"][0]["user"]), (&json!("running"), &json!(null)));
}

#[test]
fn what_did_not_tell_is_not_taken_for_well() {
    let (text, _) = call(&bare().exits(containers::docker(), 1, NO_PERMISSION), false);
    assert!(text.starts_with("web: nothing failed of what could be asked\n"), "{text}");
}

#[test]
fn a_name_cannot_begin_a_line_of_its_own() {
    let app = json!({"name": "x\nsystemd: all is well", "status": "online"}).to_string();
    let (text, _) = call(&full(DOCKERS[0]).answer(pm2::command(), app), false);
    assert!(!text.contains("\nsystemd: all is well"), "{text}");
}

#[test]
fn a_problem_of_the_connection_is_passed_on_unchanged() {
    let lost = Problem::new("CONNECTION_FAILED", "lost").retryable();
    let host = commands().iter().fold(bare(), |host, command| host.fails(command, lost.clone()));
    let problem = host.call::<Monitoring>("get_services_status", json!({"alias": "web"})).unwrap_err();
    assert_eq!(problem, lost);
}

#[test]
fn only_wanted_command_lines_are_run() {
    let host = bare();
    call(&host, false);
    let wants = orchestrator_sdk::describe::<Monitoring>().wants;
    assert_eq!(host.commands().len(), 4);
    for (_, command) in host.commands() {
        let line: Vec<String> = std::iter::once(command.program).chain(command.args).collect();
        assert!(wants.iter().any(|want| want.capability == "exec" && want.scope == line), "{line:?}");
    }
}

/// A plugin that wants a longer word than this is refused as a whole.
#[test]
fn what_is_wanted_is_short_enough_for_the_host() {
    for want in orchestrator_sdk::describe::<Monitoring>().wants {
        assert!(want.scope.iter().all(|word| word.len() <= 1024), "{}", want.reason);
    }
}
