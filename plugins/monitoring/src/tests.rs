//! The tool from its arguments to its answer, on outputs that were captured from real systems (`testdata/README.md`).

use orchestrator_sdk::mock::Mock;
use orchestrator_sdk::serde_json::{Value, json};

use super::*;

const DEBIAN: [&str; 4] = [
    include_str!("../testdata/debian-12/facts.txt"),
    include_str!("../testdata/debian-12/sample.txt"),
    include_str!("../testdata/debian-12/df-k.txt"),
    include_str!("../testdata/debian-12/df-i.txt"),
];
const BUSYBOX: [&str; 4] = [
    include_str!("../testdata/busybox/facts.txt"),
    include_str!("../testdata/busybox/sample.txt"),
    include_str!("../testdata/busybox/df-k.txt"),
    include_str!("../testdata/busybox/df-i.txt"),
];
const CONTAINER: [&str; 4] = [
    include_str!("../testdata/container/facts.txt"),
    include_str!("../testdata/container/sample.txt"),
    include_str!("../testdata/container/df-k.txt"),
    include_str!("../testdata/container/df-i.txt"),
];

fn host(outputs: [&str; 4]) -> Mock {
    let host = Mock::new().server("web", &[]);
    commands().iter().zip(outputs).fold(host, |host, (command, output)| host.answer(command, output))
}

fn answer(host: &Mock) -> (String, Value) {
    let answer = host.call::<Monitoring>("get_system_resources", json!({"alias": "web"})).unwrap();
    (answer.text, answer.structured.unwrap())
}

#[test]
fn a_debian_host_is_told_completely_in_one_round_trip() {
    let host = host(DEBIAN);
    let (text, data) = answer(&host);
    assert_eq!(host.round_trips(), 1);
    assert_eq!(data["os"]["name"], "Debian GNU/Linux 12 (bookworm)");
    assert_eq!(data["os"]["architecture"], "x86_64");
    assert_eq!(data["memory"]["total_bytes"], 24_684_084_u64 * 1024);
    assert_eq!(data["memory"]["container_limit"], false);
    assert_eq!(data["swap"], json!({"total_bytes": 0, "used_bytes": 0, "used_percent": 0.0}));
    assert_eq!(data["cpu"]["cores"], 2);
    let disks = data["filesystems"].as_array().unwrap();
    assert_eq!(disks.iter().map(|disk| disk["mount"].as_str().unwrap()).collect::<Vec<_>>(), ["/", "/srv/my files"]);
    assert_eq!(
        disks[1],
        json!({
            "mount": "/srv/my files", "device": "/dev/loop0", "kind": "ext4", "network": false,
            "size_bytes": 57_381_888, "used_bytes": 30_014_464, "available_bytes": 22_671_360, "used_percent": 57.0,
            "inodes": 16384, "inodes_used_percent": 0.1,
        })
    );
    assert_eq!(data["notes"], json!([]));
    assert!(text.starts_with("web: Debian GNU/Linux 12 (bookworm), Linux 6.18"), "{text}");
    assert!(text.contains("\nDisk /srv/my files (ext4) 28.6 MiB of 54.7 MiB used, 57%, inodes 0.1%"), "{text}");
}

#[test]
fn the_busiest_process_is_the_one_that_was_busy() {
    for outputs in [DEBIAN, BUSYBOX, CONTAINER] {
        let (_, data) = answer(&host(outputs));
        let processes = data["processes"].as_array().unwrap();
        // The endless loop of a shell, which had one of two cores nearly for itself.
        assert_eq!((&processes[0]["name"], &processes[0]["user"]), (&json!("sh"), &json!("root")));
        let percent = processes[0]["cpu_percent"].as_f64().unwrap();
        assert!((35.0..=45.0).contains(&percent), "{percent}");
        assert_eq!(processes[1]["cpu_percent"], 0.0);
        assert_eq!(processes.len(), 5);
        assert!(processes.iter().all(|process| process["name"] != "cat" && process["name"] != "sed"));
    }
}

#[test]
fn a_host_with_only_busybox_lacks_nothing_but_its_name() {
    let (text, data) = answer(&host(BUSYBOX));
    assert_eq!(data["os"].get("name"), None);
    assert_eq!(data["notes"], json!([]));
    let disks = data["filesystems"].as_array().unwrap();
    // The root is a tmpfs, and it is the root.
    let shown: Vec<_> =
        disks.iter().map(|disk| (disk["mount"].as_str().unwrap(), disk["kind"].as_str().unwrap())).collect();
    assert_eq!(shown, [("/", "tmpfs"), ("/srv/my files", "ext4")]);
    assert_eq!(disks[1]["inodes"], 16384);
    assert_eq!(data["load_average"], json!([3.33, 2.32, 2.54]));
    assert_eq!(data["uptime_seconds"], 3673);
    assert!(text.contains("\n! the load average of 3.33 is more than 2 cores can do\n"), "{text}");
    assert!(text.contains(", up 1 h 1 min\n"), "{text}");
}

#[test]
fn a_container_is_told_by_its_limits() {
    let (text, data) = answer(&host(CONTAINER));
    assert_eq!(data["memory"]["total_bytes"], 512 << 20);
    assert_eq!(data["memory"]["container_limit"], true);
    assert_eq!(data["cpu"]["container_limit_cores"], 1.5);
    let disks = data["filesystems"].as_array().unwrap();
    assert_eq!(disks.len(), 1);
    assert_eq!((&disks[0]["mount"], &disks[0]["kind"]), (&json!("/"), &json!("overlay")));
    assert!(text.contains("of 512 MiB used"), "{text}");
    assert!(text.contains("% of 2 cores (container: at most 1.5)"), "{text}");
}

#[test]
fn as_many_processes_are_told_as_were_asked_for() {
    let count = |arguments: Value| {
        let answer = host(DEBIAN).call::<Monitoring>("get_system_resources", arguments).unwrap();
        answer.structured.unwrap()["processes"].as_array().unwrap().len()
    };
    assert_eq!(count(json!({"alias": "web", "top": 2})), 2);
    assert_eq!(count(json!({"alias": "web", "top": 0})), 0);
    let problem =
        host(DEBIAN).call::<Monitoring>("get_system_resources", json!({"alias": "web", "top": 51})).unwrap_err();
    assert_eq!(problem.message, "the argument `top` must be an integer from 0 to 50, not 51");
}

#[test]
fn what_a_host_lacks_is_absent_with_a_note() {
    let [facts, _, blocks, _] = DEBIAN;
    let host = host([facts, "", blocks, ""]);
    let (text, data) = answer(&host);
    assert_eq!((data.get("cpu"), data.get("processes")), (None, None));
    assert!(data["filesystems"][0].get("inodes").is_none());
    assert!(data["notes"].to_string().contains("CPU use is unknown"));
    assert!(text.contains("\nNote: processes are unknown: /proc/PID/stat could not be read twice"), "{text}");
}

#[test]
fn a_df_that_hangs_costs_only_the_disks() {
    let mut host = host(DEBIAN);
    for df in &commands()[2..] {
        host = host.fails(df, Problem::new("COMMAND_TIMEOUT", "timed out after 10 s"));
    }
    let (text, data) = answer(&host);
    assert_eq!(data.get("filesystems"), None);
    assert!(text.contains("Note: df -P -k did not run to its end: timed out after 10 s"), "{text}");
    assert!(data.get("memory").is_some());
}

#[test]
fn a_problem_of_the_connection_is_passed_on_unchanged() {
    let refused = Problem::new("CONNECTION_FAILED", "web refused the connection").detail("alias", "web").retryable();
    let host =
        commands().iter().fold(Mock::new().server("web", &[]), |host, command| host.fails(command, refused.clone()));
    let call = |host: &Mock, alias: &str| {
        host.call::<Monitoring>("get_system_resources", json!({"alias": alias})).unwrap_err()
    };
    assert_eq!(call(&host, "web"), refused);
    assert_eq!(call(&host, "wbe").code, "SERVER_NOT_FOUND");
}

#[test]
fn a_host_that_understands_none_of_the_commands_is_an_error() {
    let host = commands()
        .iter()
        .fold(Mock::new().server("web", &[]), |host, command| host.exits(command, 127, "not recognized as a command"));
    let problem = host.call::<Monitoring>("get_system_resources", json!({"alias": "web"})).unwrap_err();
    assert_eq!(problem.code, "PLUGIN_FAILED");
    assert!(problem.message.contains("not recognized as a command"), "{problem}");
}

#[test]
fn only_wanted_command_lines_are_run() {
    let host = host(DEBIAN);
    answer(&host);
    let wants = orchestrator_sdk::describe::<Monitoring>().wants;
    for (_, command) in host.commands() {
        let line: Vec<String> = std::iter::once(command.program).chain(command.args).collect();
        assert!(wants.iter().any(|want| want.capability == "exec" && want.scope == line), "{line:?}");
    }
}

#[test]
fn the_scripts_of_this_machine_are_understood() {
    let run = |program: &str, args: &[String]| {
        let output = std::process::Command::new(program).args(args).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let outputs: Vec<String> = commands().iter().map(|command| run(&command.program, &command.args)).collect();
    let [facts, sample, blocks, inodes] = outputs.as_slice() else { panic!("four commands") };
    let arguments = Arguments { alias: "here".to_owned(), top: 5 };
    let here = read(&arguments, facts, sample, blocks, inodes, Vec::new());
    assert!(here.cpu.is_some() && here.memory.is_some() && here.processes.is_some(), "{}", here.text());
    assert!(here.filesystems.is_some_and(|disks| disks.iter().any(|disk| disk.mount == "/")));
}

#[test]
fn the_description_is_short_enough_for_a_model() {
    let info = orchestrator_sdk::describe::<Monitoring>();
    let tool = info.tools.first().unwrap();
    let bytes =
        json!([tool.name, tool.title, tool.description, tool.input_schema, tool.output_schema]).to_string().len();
    assert!(bytes < 2_000, "{bytes} bytes");
}

/// Single files of systems that were not at hand as a whole.
#[test]
fn other_distributions_are_told_by_their_names_and_disks() {
    let check = |file: &str, name: &str| {
        let os = parse::os(Some(file), Some("Linux 6.1.0 x86_64\n")).unwrap();
        assert_eq!(os.name.as_deref(), Some(name));
    };
    check(include_str!("../testdata/elsewhere/os-release-ubuntu-16.04"), "Ubuntu 16.04.1 LTS");
    check(include_str!("../testdata/elsewhere/os-release-rocky-8.4"), "Rocky Linux 8.4 (Green Obsidian)");
    check(include_str!("../testdata/elsewhere/os-release-alpine-3.22"), "Alpine Linux v3.22");

    let disks = |df: &str| -> Vec<(String, u64, f64)> {
        let disks = parse::filesystems(df, None, None).unwrap();
        disks.into_iter().map(|disk| (disk.mount, disk.size_bytes / 1024, disk.used_percent.round())).collect()
    };
    assert_eq!(
        disks(include_str!("../testdata/elsewhere/df-centos-7.7.txt")),
        [("/".to_owned(), 17_811_456, 10.0), ("/boot".to_owned(), 1_038_336, 23.0)]
    );
    // Images of snaps are full by nature, and no reason to worry.
    assert_eq!(disks(include_str!("../testdata/elsewhere/df-ubuntu-18.04.txt")), [("/".to_owned(), 20_508_240, 30.0)]);
}
