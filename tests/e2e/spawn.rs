//! Processes of a plugin on a real sshd: read as they print, signalled, waited for; and gone when nobody has them any more.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use orchestrator_tests::bench::compiled;
use orchestrator_tests::place::Place;
use orchestrator_tests::sshd::Options;
use orchestrator_tests::wait;
use serde_json::{Value, json};

use crate::plugins::guest;
use crate::support::{Rig, Sleep};

const GRANTS: &str = "[plugins.echo.grants]\nservers = [\"box\"]\nexec = [[\"*\"]]\n";

/// A server, and the guest that does what it is told to.
async fn rig() -> Result<Rig> {
    rig_with(GRANTS).await
}

async fn rig_with(toml: &str) -> Result<Rig> {
    let place = Place::new()?;
    place.install_plugin(&guest("echo")?)?;
    place.configure(toml)?;
    Rig::in_place(place, Options::default(), |launch| launch).await
}

fn shell(script: &str) -> Value {
    json!({"program": "sh", "args": ["-c", script]})
}

fn play(commands: &[Value], steps: Value) -> Value {
    json!({"alias": "box", "commands": commands, "steps": steps})
}

/// A command that says when it runs, and then never ends by itself.
fn up(sleep: &Sleep) -> Value {
    shell(&format!("echo up; exec {}", sleep.command))
}

/// Nothing of the call is left on the server, and that at once: no call ends before its processes have.
async fn is_gone_for_good(rig: &Rig, sleep: &Sleep) -> Result<()> {
    ensure!(!sleep.is_running(), "`{}` outlived its call", sleep.command);
    let stats = rig.client.call("pool_stats", json!({})).await?.ok()?;
    let servers = stats.structured["servers"].as_array().context("no servers")?;
    let processes = servers.iter().find(|server| server["purpose"] == "processes").context("no connection")?;
    for connection in processes["connections"].as_array().context("no connections")? {
        ensure!(connection["channels"] == 0, "a channel was not given back: {processes:#}");
    }
    Ok(())
}

/// The status of the only job of the tool, once it has ended.
async fn ended(rig: &Rig) -> Result<Value> {
    let history = rig.client.call("task_history", json!({"tool": "guest_spawn"})).await?.ok()?;
    let id = history.structured["jobs"][0]["id"].clone();
    Ok(rig.client.call("task_wait", json!({"id": id, "timeout": 60})).await?.structured)
}

#[tokio::test]
async fn output_is_read_as_it_arrives_and_its_end_and_the_exit_status_are_told_apart() -> Result<()> {
    let rig = rig().await?;
    let fifo = rig.sshd.folder().join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status()?;
    ensure!(made.success());
    let script = format!("echo one; read line <'{}'; echo \"$line\"; echo err >&2; exit 7", fifo.display());
    let steps = json!([
        {"op": "until", "text": "one\n"},
        {"op": "read", "ms": 50},
        {"op": "wait", "ms": 50},
        {"op": "until", "text": "two\n"},
        {"op": "wait"},
        {"op": "signal", "text": "TERM"},
    ]);
    let call = rig.client.begin_call_with_token("guest_spawn", play(&[shell(&script)], steps), "p").await?;
    // It has read the first line of a command that still runs.
    rig.client.notification(|note| note["params"]["message"] == "step 3").await?;
    std::fs::write(&fifo, "two\n")?;
    let result = rig.client.finish_call("guest_spawn", call).await?.ok()?;
    let results = &result.structured["results"];
    assert_eq!((&results[0], &results[3]), (&json!("one\n"), &json!("two\n")));
    assert_eq!(results[1], json!({"stdout": "", "stderr": "", "ended": false, "bytes": 0}));
    assert_eq!((&results[2], &results[4]["exit_code"], &results[5]), (&Value::Null, &json!(7), &json!(false)));
    // Its lines are written by a thread of their own, which ends with the program.
    rig.client.close().await?;
    let audit = std::fs::read_to_string(rig.place.data().join("audit.jsonl"))?;
    let line: Value = serde_json::from_str(audit.lines().find(|line| line.contains("spawn")).context("no line")?)?;
    assert_eq!(
        (&line["action"], &line["server"], &line["outcome"]),
        (&json!("spawn"), &json!("box"), &json!("exit 7"))
    );
    Ok(())
}

#[tokio::test]
async fn both_streams_are_kept_apart_and_read_to_their_end_after_the_command_has_ended() -> Result<()> {
    let rig = rig().await?;
    let commands = [shell("echo out; echo err >&2; exit 0"), json!({"program": "cat", "stdin": "given"})];
    // Waited for first: what was printed stays.
    let steps = json!([
        {"op": "wait"}, {"op": "read"}, {"op": "read", "ms": 0},
        {"op": "wait", "process": 1}, {"op": "read", "process": 1},
    ]);
    let result = rig.client.call("guest_spawn", play(&commands, steps)).await?.ok()?;
    let results = &result.structured["results"];
    assert_eq!(results[1], json!({"stdout": "out\n", "stderr": "err\n", "ended": true, "bytes": 8}));
    assert_eq!(results[2], json!({"stdout": "", "stderr": "", "ended": true, "bytes": 0}));
    assert_eq!((&results[4]["stdout"], &results[3]["exit_code"]), (&json!("given"), &json!(0)));
    Ok(())
}

#[tokio::test]
async fn a_signal_reaches_the_command_and_ends_only_the_one_it_was_sent_to() -> Result<()> {
    let rig = rig().await?;
    let sleep = Sleep::new();
    let script = "trap 'echo told' USR1; echo ready; while :; do sleep 0.05; done";
    let steps = json!([
        {"op": "until", "text": "ready\n"},
        {"op": "until", "process": 1, "text": "up\n"},
        {"op": "signal", "text": "USR1"},
        {"op": "until", "text": "told\n"},
        {"op": "signal", "text": "KILL"},
        {"op": "wait"},
        {"op": "wait", "process": 1, "ms": 0},
    ]);
    let result = rig.client.call("guest_spawn", play(&[shell(script), up(&sleep)], steps)).await?.ok()?;
    let results = &result.structured["results"];
    assert_eq!((&results[2], &results[4]), (&json!(true), &json!(true)));
    assert_eq!(results[5]["exit_signal"], "KILL", "{results:#}");
    assert_eq!(results[6], Value::Null, "the other one has ended, too: {results:#}");
    is_gone_for_good(&rig, &sleep).await
}

#[tokio::test]
async fn a_dropped_process_is_ended_while_the_call_goes_on() -> Result<()> {
    let rig = rig().await?;
    let sleep = Sleep::new();
    let steps = json!([{"op": "until", "text": "up\n"}, {"op": "drop"}, {"op": "sleep"}]);
    let call = rig.client.begin_call_with_token("guest_spawn", play(&[up(&sleep)], steps), "p").await?;
    rig.client.notification(|note| note["params"]["message"] == "step 2").await?;
    ensure!(!sleep.is_running(), "the drop returned before the command had ended");
    let history = rig.client.call("task_history", json!({"tool": "guest_spawn"})).await?.ok()?;
    assert_eq!(history.structured["jobs"][0]["status"], "running");
    rig.client.cancel(call.id).await?;
    assert_eq!(ended(&rig).await?["status"], "cancelled");
    Ok(())
}

#[tokio::test]
async fn what_a_plugin_does_not_drop_ends_with_its_call_however_that_ends() -> Result<()> {
    let rig = rig_with(&format!("{GRANTS}[plugin_limits]\ncompute_s = 1\n")).await?;
    for (last, code) in [("read", None), ("trap", Some("PLUGIN_FAILED")), ("loop", Some("PLUGIN_TIMEOUT"))] {
        let sleep = Sleep::new();
        let steps = json!([{"op": "until", "text": "up\n"}, {"op": last, "ms": 10}]);
        let result = rig.client.call("guest_spawn", play(&[up(&sleep)], steps)).await?;
        match code {
            Some(code) => drop(result.problem(code)?),
            None => drop(result.ok()?),
        }
        is_gone_for_good(&rig, &sleep).await.with_context(|| format!("after `{last}`"))?;
    }
    Ok(())
}

#[tokio::test]
async fn a_cancelled_call_may_answer_with_what_it_has_read_and_leaves_no_process() -> Result<()> {
    let rig = rig().await?;
    // One answers, the other wants to go on reading.
    for (after, status) in [("cancelled", "completed"), ("read", "cancelled")] {
        let sleep = Sleep::new();
        let steps = json!([{"op": "until", "text": "up\n"}, {"op": "read"}, {"op": after}]);
        let call = rig.client.begin_call_with_token("guest_spawn", play(&[up(&sleep)], steps), after).await?;
        let reads = |note: &Value| note["params"]["progressToken"] == after && note["params"]["message"] == "step 1";
        rig.client.notification(reads).await?;
        let started = Instant::now();
        rig.client.cancel(call.id).await?;
        let job = ended(&rig).await?;
        assert_eq!(job["status"], status, "{job:#}");
        ensure!(started.elapsed() < Duration::from_secs(30), "the read was not cut short");
        if status == "completed" {
            assert_eq!(job["result"]["results"][2], true, "{job:#}");
        }
        is_gone_for_good(&rig, &sleep).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_process_ends_with_the_program() -> Result<()> {
    let rig = rig().await?;
    let sleep = Sleep::new();
    let steps = json!([{"op": "until", "text": "up\n"}, {"op": "read"}, {"op": "read"}]);
    rig.client.begin_call_with_token("guest_spawn", play(&[up(&sleep)], steps), "p").await?;
    rig.client.notification(|note| note["params"]["message"] == "step 1").await?;
    rig.client.close().await?;
    ensure!(!sleep.is_running(), "it outlived the program");
    Ok(())
}

#[tokio::test]
async fn a_process_past_its_time_is_ended_and_the_read_says_so_behind_all_output() -> Result<()> {
    let rig = rig().await?;
    let sleep = Sleep::new();
    let mut command = up(&sleep);
    command["timeout_ms"] = json!(2000);
    let steps = json!([{"op": "until", "text": "up\n"}, {"op": "read"}]);
    let problem = rig.client.call("guest_spawn", play(&[command], steps)).await?.problem("COMMAND_TIMEOUT")?;
    assert_eq!(problem.details["end_confirmed"], true, "{}", problem.details);
    is_gone_for_good(&rig, &sleep).await
}

#[tokio::test]
async fn a_command_that_is_not_granted_is_not_started() -> Result<()> {
    let toml = "[plugins.echo.grants]\nservers = [\"box\"]\nexec = [[\"tail\", \"-F\", \"*\"]]\n";
    let rig = rig_with(toml).await?;
    let refused = play(&[shell("echo up")], json!([]));
    let problem = rig.client.call("guest_spawn", refused).await?.problem("NOT_GRANTED")?;
    problem.names(&["echo", "orchestrator.toml", "exec"])?;
    let sudo = json!({"program": "tail", "args": ["-F", "/etc/passwd"], "sudo": true});
    rig.client.call("guest_spawn", play(&[sudo], json!([]))).await?.problem("NOT_GRANTED")?.names(&["sudo"])?;
    assert_eq!(rig.sshd.logins(), 0, "a connection was made for a call that was not granted");
    let granted = json!({"program": "tail", "args": ["-F", "/no/such/file"]});
    let result = rig.client.call("guest_spawn", play(&[granted], json!([{"op": "read"}]))).await?.ok()?;
    // It complains in pieces: the first read has the first of them.
    ensure!(result.structured["results"][0]["stderr"].as_str().is_some_and(|text| text.starts_with("tail:")));
    Ok(())
}

#[tokio::test]
async fn a_call_has_a_bounded_number_of_processes() -> Result<()> {
    let rig = rig().await?;
    let sleep = Sleep::new();
    let too_many = vec![up(&sleep); 9];
    let problem = rig.client.call("guest_spawn", play(&too_many, json!([]))).await?.problem("INVALID_ARGUMENT")?;
    problem.names(&["at most 8"])?;
    is_gone_for_good(&rig, &sleep).await
}

#[tokio::test]
async fn a_flood_that_nobody_reads_waits_holds_up_no_command_and_is_ended() -> Result<()> {
    let rig = rig().await?;
    // What compiling the other plugins takes meanwhile is not the flood's.
    compiled(&rig.client, "box").await?;
    let flood = shell("exec yes 0123456789abcdef0123456789abcdef");
    let steps = json!([{"op": "read"}, {"op": "sleep", "ms": 1000}, {"op": "wait"}]);
    let call = rig.client.begin_call_with_token("guest_spawn", play(&[flood], steps), "p").await?;
    rig.client.notification(|note| note["params"]["message"] == "step 1").await?;
    let before = resident_kib(&rig)?;
    for _ in 0..5 {
        let started = Instant::now();
        assert_eq!(rig.exec("echo free").await?.ok()?.str("stdout"), "free\n");
        ensure!(started.elapsed() < Duration::from_secs(8), "a command waited for somebody else's output");
    }
    let grown = resident_kib(&rig)?.saturating_sub(before);
    ensure!(grown < 30_000, "{grown} KiB more for output that nobody reads");
    let problem = rig.client.finish_call("guest_spawn", call).await?.problem("COMMAND_TIMEOUT")?;
    problem.names(&["nobody has read", "10 s"])?;
    // Some hundred megabytes a second are thrown away until the signal has worked.
    let grown = resident_kib(&rig)?.saturating_sub(before);
    ensure!(grown < 60_000, "{grown} KiB more after output was thrown away");
    ensure!(wait::processes_with("0123456789abcdef0123456789abcdef").is_empty(), "the flood goes on");
    Ok(())
}

fn resident_kib(rig: &Rig) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", rig.client.pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
