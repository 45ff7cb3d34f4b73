//! Detached commands on a real sshd: they survive the connection, the program and its machine, and run once whatever happens
//! to their start.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use orchestrator_tests::client::Launch;
use orchestrator_tests::daemon::Daemon;
use orchestrator_tests::place::Place;
use orchestrator_tests::result::ToolResult;
use orchestrator_tests::sshd::Options;
use orchestrator_tests::wait;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Rig, Sleep, exec_arguments};

const SOON: Duration = Duration::from_secs(60);

/// Hands over after a second.
fn hasty(launch: Launch) -> Launch {
    launch.env("MCP_SYNC_TIMEOUT_S", "1")
}

async fn rig() -> Result<Rig> {
    Rig::with(Options::default(), hasty).await
}

/// Starts a command that takes longer than the client waits for it; returns its id.
async fn start(rig: &Rig, cmd: &str) -> Result<String> {
    Ok(rig.exec_with(cmd, json!({"detach": true})).await?.ok()?.str("id").to_owned())
}

/// The job once it has ended.
async fn ended(rig: &Rig, id: &str) -> Result<Value> {
    let job = rig.client.call("task_wait", json!({"id": id, "timeout": 50})).await?.structured;
    ensure!(job["status"] != "running", "it has not ended: {job:#}");
    Ok(job)
}

/// Where detached jobs have their files: the test's sshd makes its own folder everybody's home.
fn places(rig: &Rig) -> PathBuf {
    rig.sshd.folder().join(".cache/mcp-orchestrator/jobs")
}

/// The one job's folder.
fn place(rig: &Rig) -> Result<PathBuf> {
    let mut all = fs::read_dir(places(rig))?.collect::<Result<Vec<_>, _>>()?;
    ensure!(all.len() == 1, "one place was expected: {all:?}");
    Ok(all.remove(0).path())
}

async fn is_cleaned(rig: &Rig) -> Result<()> {
    wait::until("the files on the server to be gone", SOON, || !places(rig).exists()).await
}

/// Prints numbered lines on both streams until `path` exists, then 100 more, and exits with 3.
fn printing(path: &Path) -> String {
    format!(
        "n=0; m=-1; until [ $m = 0 ]; do n=$((n+1)); echo out $n; echo err $n >&2; \
         [ $m = -1 ] && [ -e {} ] && m=100; [ $m -gt 0 ] && m=$((m-1)); [ $((n%500)) = 0 ] && sleep 0.05; done; exit 3",
        path.display()
    )
}

/// Every line is there, once and in its place.
async fn is_whole(rig: &Rig, id: &str, result: &Value) -> Result<u64> {
    let mut lines = 0;
    for (stream, word) in [("stdout", "out"), ("stderr", "err")] {
        let all = rig.client.call("task_output", json!({"id": id, "stream": stream, "tail": 1})).await?.ok()?;
        lines = all.text.trim().trim_start_matches(word).trim().parse()?;
        let expected: String = (1..=lines).map(|n| format!("{word} {n}\n")).collect();
        assert_eq!(result[format!("{stream}_bytes")], expected.len(), "{stream} of {lines} lines");
        let kept = fs::read_to_string(rig.place.data().join(format!("outputs/{id}.{stream}")))?;
        assert!(kept == expected, "{stream} is not what was printed");
    }
    Ok(lines)
}

#[tokio::test]
async fn one_that_ends_soon_is_answered_like_any_other() -> Result<()> {
    let rig = Rig::start().await?;
    let more = json!({"detach": true, "stdin": "it's\nin", "env": {"X": "a 'b' $c"}, "workdir": "/usr"});
    let ran = rig.exec_with("cat; echo \"$X\"; pwd; echo bad >&2; exit 3", more).await?;
    assert_eq!(ran.structured["exit_code"], 3, "{:#}", ran.structured);
    assert_eq!(ran.structured["stdout"], "it's\nina 'b' $c\n/usr\n");
    assert_eq!(ran.structured["stderr"], "bad\n");
    assert!(ran.is_error && ran.text.starts_with("exit code 3"), "{}", ran.text);
    is_cleaned(&rig).await
}

#[tokio::test]
async fn its_output_is_whole_after_the_program_and_its_connections_were_killed() -> Result<()> {
    let mut rig = rig().await?;
    let stop = rig.sshd.folder().join("stop");
    let id = start(&rig, &printing(&stop)).await?;
    for _ in 0..2 {
        rig.sshd.sever();
        rig = rig.crash().await?;
        // It is shown as running before it was heard of again.
        let job = rig.client.call("task_status", json!({"id": id})).await?.ok()?.structured;
        assert_eq!(job["status"], "running", "{job:#}");
        // Several times while it prints: each cut may fall into the middle of a line.
        for _ in 0..3 {
            let before = rig.sshd.logins();
            wait::until("a new login", SOON, || rig.sshd.logins() > before || before > 40).await?;
            rig.sshd.sever();
        }
    }
    fs::write(&stop, "")?;
    let job = ended(&rig, &id).await?;
    assert_eq!((&job["status"], &job["result"]["exit_code"]), (&json!("failed"), &json!(3)), "{job:#}");
    let lines = is_whole(&rig, &id, &job["result"]).await?;
    assert!(lines > 100, "{lines}");
    is_cleaned(&rig).await
}

#[tokio::test]
async fn one_that_ended_while_nobody_looked_is_told_by_the_next_start() -> Result<()> {
    let rig = rig().await?;
    let (go, over) = (rig.sshd.folder().join("go"), rig.sshd.folder().join("over"));
    let cmd = format!("until [ -e {} ]; do sleep 0.1; done; echo last words; touch {}", go.display(), over.display());
    let id = start(&rig, &cmd).await?;
    // An orderly end leaves it alone, too.
    rig.client.close().await?;
    fs::write(&go, "")?;
    wait::until("the command to end", SOON, || over.exists()).await?;
    let rig = rig.crash().await?;
    let job = ended(&rig, &id).await?;
    assert_eq!((&job["status"], &job["result"]["stdout"]), (&json!("completed"), &json!("last words\n")), "{job:#}");
    assert_eq!(rig.client.call("task_output", json!({"id": id})).await?.ok()?.text, "last words\n");
    is_cleaned(&rig).await
}

#[tokio::test]
async fn it_is_cancelled_with_all_that_it_has_started() -> Result<()> {
    let rig = rig().await?;
    let (sleep, child) = (Sleep::new(), Sleep::new());
    let id = start(&rig, &format!("echo here; {} & {}; echo not here", child.command, sleep.command)).await?;
    sleep.runs().await?;
    child.runs().await?;
    rig.client.call("task_cancel", json!({"id": id})).await?;
    let job = ended(&rig, &id).await?;
    assert_eq!(job["status"], "cancelled", "{job:#}");
    let message = job["error"]["message"].as_str().context("no message")?;
    assert!(message.contains("the command has ended") && message.contains("INT"), "{message}");
    sleep.is_gone().await?;
    child.is_gone().await?;
    assert_eq!(rig.client.call("task_output", json!({"id": id})).await?.ok()?.text, "here\n");
    is_cleaned(&rig).await
}

#[tokio::test]
async fn one_that_ignores_every_signal_that_can_be_ignored_is_killed() -> Result<()> {
    let rig = rig().await?;
    let sleep = Sleep::new();
    let id = start(&rig, &format!("trap '' INT TERM; {}", sleep.command)).await?;
    sleep.runs().await?;
    rig.client.call("task_cancel", json!({"id": id})).await?;
    let job = ended(&rig, &id).await?;
    let message = job["error"]["message"].as_str().context("no message")?;
    assert!(message.contains("sent INT, TERM, KILL; the command has ended"), "{message}");
    sleep.is_gone().await
}

#[tokio::test]
async fn it_has_the_time_that_it_was_given() -> Result<()> {
    let rig = Rig::start().await?;
    let sleep = Sleep::new();
    let problem =
        rig.exec_with(&sleep.command, json!({"detach": true, "timeout": 2})).await?.problem("COMMAND_TIMEOUT")?;
    problem.names(&["did not end in time", "the command has ended"])?;
    sleep.is_gone().await
}

#[tokio::test]
async fn a_client_that_loses_patience_stops_waiting_and_not_the_command() -> Result<()> {
    let rig = Rig::start().await?;
    let sleep = Sleep::new();
    let pending = rig.client.begin_call("task_exec", exec_arguments(&sleep.command, json!({"detach": true}))).await?;
    sleep.runs().await?;
    rig.client.cancel(pending.id).await?;
    let job = rig.only_job("box").await?;
    assert_eq!(job["status"], "running", "{job:#}");
    rig.client.call("task_cancel", json!({"id": job["id"]})).await?;
    sleep.is_gone().await
}

#[tokio::test]
async fn another_client_awaits_it_after_the_daemon_was_killed() -> Result<()> {
    let rig = Rig::with(Options::default(), |launch| hasty(launch).shared()).await?;
    let daemon = Daemon::of(&rig.place);
    let go = rig.sshd.folder().join("go");
    let id = start(&rig, &format!("until [ -e {} ]; do sleep 0.1; done; echo done", go.display())).await?;
    daemon.kill(Signal::KILL).await?;
    let first = hasty(Launch::new(&rig.place)).shared().start().await?;
    let second = hasty(Launch::new(&rig.place)).shared().start().await?;
    let one = first.begin_call("task_wait", json!({"id": id, "timeout": 50})).await?;
    let other = second.begin_call("task_wait", json!({"id": id, "timeout": 50})).await?;
    fs::write(&go, "")?;
    for (client, pending) in [(&first, one), (&second, other)] {
        let job = client.finish_call("task_wait", pending).await?.ok()?.structured;
        assert_eq!((&job["status"], &job["result"]["stdout"]), (&json!("completed"), &json!("done\n")), "{job:#}");
    }
    is_cleaned(&rig).await
}

#[tokio::test]
async fn the_end_of_one_that_nobody_saw_ending_is_said_to_be_unknown() -> Result<()> {
    for (boot, expected) in [(None, "has left no exit code"), (Some("another.1"), "was started anew")] {
        let rig = rig().await?;
        let sleep = Sleep::new();
        let id = start(&rig, &format!("echo begun; {}", sleep.command)).await?;
        sleep.runs().await?;
        rig.client.kill().await?;
        let pid_file = place(&rig)?.join("pid");
        let words = fs::read_to_string(&pid_file)?;
        let mut words: Vec<&str> = words.split_whitespace().collect();
        let group: i32 = words.first().context("no pid")?.parse()?;
        if let Some(boot) = boot {
            // As if the machine had been started anew: it has another name, and another process may have the number.
            words[2] = boot;
            fs::write(&pid_file, words.join(" ") + "\n")?;
        }
        rustix::process::kill_process_group(rustix::process::Pid::from_raw(group).context("no pid")?, Signal::KILL)?;
        let rig = rig.crash().await?;
        let job = ended(&rig, &id).await?;
        assert_eq!(job["status"], "crashed", "{job:#}");
        let message = job["error"]["message"].as_str().context("no message")?;
        assert!(message.contains("is not known") && message.contains(expected), "{message}");
        assert_eq!(rig.client.call("task_output", json!({"id": id})).await?.ok()?.text, "begun\n");
    }
    Ok(())
}

#[tokio::test]
async fn a_server_that_is_away_is_told_of_and_a_cancel_says_that_it_was_not_reached() -> Result<()> {
    let mut rig = rig().await?;
    let sleep = Sleep::new();
    let id = start(&rig, &sleep.command).await?;
    sleep.runs().await?;
    rig.sshd.stop();
    let mut told = String::new();
    for _ in 0..600 {
        told = rig.client.call("task_status", json!({"id": id})).await?.ok()?.text;
        if told.contains("cannot be asked since") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(told.contains("cannot be asked since 20") && told.contains("CONNECTION_FAILED"), "{told}");
    rig.client.call("task_cancel", json!({"id": id})).await?;
    let job = ended(&rig, &id).await?;
    let message = job["error"]["message"].as_str().context("no message")?;
    assert!(message.contains("could not be told"), "{message}");
    // It runs on by itself, and the test ends it.
    sleep.runs().await?;
    for pid in wait::processes_with(sleep.command.trim_start_matches("sleep ")) {
        let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).context("no pid")?;
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }
    sleep.is_gone().await
}

/// The programs that the shell on the server needs, one of which stops at its first call until the test lets it go on.
struct Gate {
    programs: Vec<(&'static str, String)>,
    folder: tempfile::TempDir,
}

impl Gate {
    fn before(program: &str, argument: &str) -> Result<Gate> {
        let folder = tempfile::tempdir()?;
        let (reached, go) = (folder.path().join("reached"), folder.path().join("go"));
        let programs = ["mkdir", "mv", "rm", "rmdir", "setsid", "tr", "ps", "touch"].map(|name| {
            let stop = format!(
                "case \"$*\" in *{argument}*) /bin/mkdir {} 2>/dev/null && until [ -e {} ]; do sleep 0.05; done ;; esac; ",
                reached.display(),
                go.display()
            );
            (name, format!("{}exec /usr/bin/{name} \"$@\"", if name == program { stop } else { String::new() }))
        });
        Ok(Gate { programs: programs.into(), folder })
    }

    async fn is_reached(&self) -> Result<()> {
        wait::until("the start to come to its gate", SOON, || self.folder.path().join("reached").exists()).await
    }

    fn open(&self) -> Result<()> {
        Ok(fs::write(self.folder.path().join("go"), "")?)
    }
}

/// Each step of a start on the server: the program whose call begins it, and whether the command is sure to run from there on.
const STEPS: [(&str, &str, bool); 4] =
    [("mkdir", "-p", false), ("setsid", "/run", false), ("mkdir", "taken", false), ("mv", "pid.new", true)];

#[tokio::test]
async fn a_start_that_the_program_did_not_survive_is_called_off_or_found_again_and_never_repeated() -> Result<()> {
    for (program, argument, runs) in STEPS {
        let gate = Gate::before(program, argument)?;
        let options = Options { programs: Some(gate.programs.clone()), ..Options::default() };
        let rig = Rig::with(options, hasty).await?;
        let ran = rig.sshd.folder().join("ran");
        let cmd = format!("echo once >> {}", ran.display());
        let _lost = rig.client.begin_call("task_exec", exec_arguments(&cmd, json!({"detach": true}))).await?;
        gate.is_reached().await?;
        let rig = rig.crash().await?;
        let id = rig.only_job("box").await?["id"].as_str().context("no id")?.to_owned();
        if runs {
            gate.open()?;
            let job = ended(&rig, &id).await?;
            assert_eq!(job["status"], "completed", "at {program} {argument}: {job:#}");
            assert_eq!(fs::read_to_string(&ran)?, "once\n", "at {program} {argument}");
            continue;
        }
        let job = ended(&rig, &id).await?;
        assert_eq!((&job["status"], &job["error"]["retryable"]), (&json!("crashed"), &json!(true)), "{job:#}");
        // The start goes on now, too late.
        gate.open()?;
        let name = place(&rig)?.file_name().context("no name")?.to_string_lossy().into_owned();
        let at_work = || !wait::processes_with(&name).is_empty();
        wait::until("the start to end", SOON, || !at_work()).await?;
        assert!(!ran.exists(), "at {program} {argument}: it ran after it was said that it did not");
        let retried = rig.client.call("task_retry", json!({"id": id})).await?.ok()?;
        assert!(retried.text.contains("exit code 0"), "{}", retried.text);
        assert_eq!(fs::read_to_string(&ran)?, "once\n", "at {program} {argument}");
    }
    Ok(())
}

#[tokio::test]
async fn a_start_whose_connection_broke_is_asked_for_again_and_runs_once() -> Result<()> {
    for (program, argument, _) in STEPS {
        let gate = Gate::before(program, argument)?;
        let options = Options { programs: Some(gate.programs.clone()), ..Options::default() };
        let rig = Rig::with(options, |launch| launch).await?;
        let ran = rig.sshd.folder().join("ran");
        let cmd = format!("echo once >> {}", ran.display());
        let pending = rig.client.begin_call("task_exec", exec_arguments(&cmd, json!({"detach": true}))).await?;
        gate.is_reached().await?;
        rig.sshd.sever();
        gate.open()?;
        let result = rig.client.finish_call("task_exec", pending).await?;
        assert_eq!(result.structured["exit_code"], 0, "at {program} {argument}: {}", result.text);
        assert_eq!(fs::read_to_string(&ran)?, "once\n", "at {program} {argument}");
        is_cleaned(&rig).await?;
    }
    Ok(())
}

#[tokio::test]
async fn without_setsid_it_runs_and_is_stopped_all_the_same() -> Result<()> {
    let mut programs = Gate::before("", "")?.programs;
    programs.retain(|(name, _)| *name != "setsid");
    let rig = Rig::with(Options { programs: Some(programs), ..Options::default() }, hasty).await?;
    let sleep = Sleep::new();
    let id = start(&rig, &format!("{}; echo not here", sleep.command)).await?;
    sleep.runs().await?;
    assert!(fs::read_to_string(place(&rig)?.join("pid"))?.contains(" nohup "));
    let rig = rig.crash().await?;
    rig.client.call("task_cancel", json!({"id": id})).await?;
    let job = ended(&rig, &id).await?;
    assert!(job["error"]["message"].as_str().is_some_and(|said| said.contains("the command has ended")), "{job:#}");
    sleep.is_gone().await
}

#[tokio::test]
async fn a_server_that_has_no_room_for_it_says_why() -> Result<()> {
    let rig = Rig::start().await?;
    fs::write(rig.sshd.folder().join(".cache"), "a file is in the way")?;
    let problem = rig.exec_with("true", json!({"detach": true})).await?.problem("CONNECTION_FAILED")?;
    problem.names(&["could not start", ".cache"])
}

#[tokio::test]
async fn what_cannot_be_detached_is_refused_and_leaves_no_job() -> Result<()> {
    let rig = Rig::start().await?;
    let check = async |cmd: &str, more: Value, word: &str| -> Result<()> {
        let mut more = more;
        more["detach"] = json!(true);
        rig.exec_with(cmd, more).await?.problem("INVALID_ARGUMENT")?.names(&[word])
    };
    check("true", json!({"pty": true}), "pty").await?;
    check("true", json!({"alias": ["box", "box"]}), "one server").await?;
    check("true", json!({"alias": "all"}), "one server").await?;
    check("tail -f /var/log/syslog", json!({}), "never ends").await?;
    check("true", json!({"stream": {}}), "stream").await?;
    check("true", json!({"stdin": "a\0b"}), "NUL").await?;
    check("true", json!({"env": {"A-B": "x"}}), "environment variable").await?;
    let history = rig.client.call("task_history", json!({})).await?.ok()?;
    assert_eq!(history.structured["jobs"], json!([]));
    Ok(())
}

#[tokio::test]
async fn the_operator_says_what_is_always_detached() -> Result<()> {
    let place = Place::new()?;
    place.configure("[detach]\nservers = [\"tag:build\"]\ncommands = [\"echo long*\"]\n")?;
    let rig = Rig::in_place(place, Options::default(), |launch| launch).await?;
    let detaches = async |cmd: &str, alias: &str| -> Result<bool> {
        let ran = rig.client.call("task_exec", json!({"alias": alias, "cmd": cmd})).await?.ok()?;
        let job = rig.client.call("task_status", json!({"id": ran.str("id")})).await?.ok()?;
        // A detached command's supervisor is the leader of its session, and its output goes to a file.
        assert_eq!(job.structured["status"], "completed");
        Ok(ran.structured["stdout"].as_str().is_some_and(|text| text.contains("/out")))
    };
    let where_to = "readlink /proc/self/fd/1";
    assert!(!detaches(where_to, "box").await?);
    assert!(detaches(&format!("echo long; {where_to}"), "box").await?);
    let mut server = rig.server("builder");
    server["tags"] = json!(["build"]);
    rig.client.call("server_add", server).await?.ok()?;
    assert!(detaches(where_to, "builder").await?);
    let refused: ToolResult = rig.client.call("task_exec", json!({"alias": "all", "cmd": where_to})).await?;
    refused.problem("INVALID_ARGUMENT")?.names(&["tag:build", "orchestrator.toml", "one server"])
}
