//! Servers that refuse, dawdle, flood and change keys at the wrong moment: the answer is right or says what went wrong, and memory
//! stays where it was.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use orchestrator_tests::client::Client;
use orchestrator_tests::embedded::{Faults, Refuse};
use orchestrator_tests::place::Place;
use orchestrator_tests::sshd::Options;
use serde_json::json;

use crate::support::{Rig, Sleep, exec_arguments, with_embedded};
use crate::transfer::read_tree;

fn resident_kib(client: &Client) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", client.pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

#[tokio::test]
async fn a_refusal_is_told_with_its_step_and_is_not_for_ever() -> Result<()> {
    for (refuse, step) in [(Refuse::Channel, "channel"), (Refuse::Exec, "run")] {
        let (client, server, _place) = with_embedded(Faults { refuse: Some(refuse), ..Faults::default() }).await?;
        let refused = client.call("task_exec", exec_arguments("echo hi", json!({"timeout": 20}))).await?;
        let code = refused.str("code").to_owned();
        assert!(code == "CONNECTION_FAILED" || code == "COMMAND_TIMEOUT", "{refuse:?}: {}", refused.text);
        let problem = refused.problem(&code)?;
        problem.names(&["box"])?;
        // A channel that was refused is tried again until the time is up, since most servers only have too many just then.
        let at = refused.structured["details"]["step"].as_str().context("no step")?;
        assert!(at == step || (refuse == Refuse::Channel && at == "pool"), "{refuse:?}: {:#}", refused.structured);
        server.set_faults(Faults::default());
        let back = client.call("task_exec", exec_arguments("echo back", json!({"timeout": 60}))).await?.ok()?;
        assert_eq!(back.str("stdout"), "back\n", "{refuse:?}");
    }
    Ok(())
}

#[tokio::test]
async fn new_keys_in_the_middle_of_a_command_cost_no_byte() -> Result<()> {
    let (client, _server, _place) = with_embedded(Faults { rekey_after: Some(100_000), ..Faults::default() }).await?;
    let input: String = (0..40_000).map(|number| format!("{number}\n")).collect();
    let arguments = exec_arguments(
        "tee /dev/stderr | sha256sum; seq 1 200000 | tail -c 1000000 | cksum",
        json!({"stdin": input, "timeout": 120}),
    );
    let result = client.call("task_exec", arguments).await?.ok()?;
    assert_eq!(result.structured["stderr_bytes"], input.len());
    let direct = Rig::start().await?;
    let arguments = exec_arguments("sha256sum; seq 1 200000 | tail -c 1000000 | cksum", json!({"stdin": input}));
    let expected = direct.client.call("task_exec", arguments).await?.ok()?;
    assert_eq!(result.str("stdout"), expected.str("stdout"));
    Ok(())
}

#[tokio::test]
async fn new_keys_in_the_middle_of_a_transfer_cost_no_byte() -> Result<()> {
    let options =
        Options { config: ["RekeyLimit 1M", "LogLevel DEBUG1"].map(str::to_owned).to_vec(), ..Options::default() };
    let rig = Rig::with(options, |launch| launch).await?;
    let [local, remote, back] = ["local", "remote", "back"].map(|name| rig.place.root().join(name));
    std::fs::create_dir(&local)?;
    std::fs::write(local.join("big"), (0..5_000_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>())?;
    for number in 0..300_u32 {
        std::fs::write(local.join(number.to_string()), number.to_le_bytes().repeat(2000))?;
    }
    for (direction, here) in [("upload", &local), ("download", &back)] {
        let arguments = json!({"alias": "box", "direction": direction, "local": here, "remote": remote});
        rig.client.call("task_transfer", arguments).await?.ok()?;
    }
    assert!(read_tree(&back)? == read_tree(&local)?);
    let exchanges = rig.sshd.log().matches("SSH2_MSG_KEXINIT sent").count();
    assert!(exchanges > 10, "{exchanges} exchanges of keys");
    Ok(())
}

/// One byte less than the protocol's largest (RFC 4254, 5.2), and made larger by each answer nevertheless.
const ENDLESS: u32 = u32::MAX - 1;

#[tokio::test]
async fn a_window_that_is_tiny_or_without_end_lets_everything_through_in_the_end() -> Result<()> {
    for window in [1_000, ENDLESS] {
        let (client, _server, _place) = with_embedded(Faults { window: Some(window), ..Faults::default() }).await?;
        let input = "x".repeat(200_000);
        let slow = exec_arguments("sleep 1; wc -c", json!({"stdin": input, "timeout": 120}));
        let result = client.call("task_exec", slow).await?.ok()?;
        assert_eq!(result.str("stdout").trim(), "200000", "{window}");
    }
    Ok(())
}

/// Without plugins: what compiling them takes and gives back would be measured, too.
async fn measurable() -> Result<Rig> {
    let place = Place::new()?;
    let off = ["monitoring", "logs", "fail2ban", "api"].map(|name| format!("[plugins.{name}]\nenabled = false\n"));
    place.configure(&off.concat())?;
    let rig = Rig::in_place(place, Options::default(), |launch| launch).await?;
    rig.exec("true").await?.ok()?;
    Ok(rig)
}

#[tokio::test]
async fn a_hundred_megabytes_without_a_line_end_take_no_memory() -> Result<()> {
    let rig = measurable().await?;
    let before = resident_kib(&rig.client)?;
    let result = rig.exec_with("head -c 100000000 /dev/zero | tr '\\0' x", json!({"timeout": 120})).await?.ok()?;
    assert_eq!(result.structured["stdout_bytes"], 100_000_000);
    assert_eq!(result.structured["truncated"], true);
    assert!(result.text.len() < 25_000, "{} bytes are shown", result.text.len());
    let grown = resident_kib(&rig.client)?.saturating_sub(before);
    assert!(grown < 60_000, "{grown} KiB more after 100 MB of output");
    Ok(())
}

#[tokio::test]
async fn a_flood_ends_with_its_time_and_the_next_command_runs() -> Result<()> {
    let rig = measurable().await?;
    let before = resident_kib(&rig.client)?;
    let sleep = Sleep::new();
    let flood = format!("(yes out & yes err >&2 & {}); true", sleep.command);
    let result = rig.exec_with(&flood, json!({"timeout": 3})).await?;
    result.problem("COMMAND_TIMEOUT")?.at("run")?;
    sleep.is_gone().await?;
    let grown = resident_kib(&rig.client)?.saturating_sub(before);
    assert!(grown < 60_000, "{grown} KiB more after a flood");
    assert_eq!(rig.exec("echo back").await?.ok()?.str("stdout"), "back\n");
    Ok(())
}

#[tokio::test]
async fn a_server_that_takes_its_time_to_accept_is_waited_for_within_the_calls_own() -> Result<()> {
    let slow = Faults { slow_to_accept: Some(Duration::from_secs(30)), ..Faults::default() };
    let (client, server, _place) = with_embedded(slow).await?;
    let started = Instant::now();
    let result = client.call("task_exec", exec_arguments("echo hi", json!({"timeout": 2}))).await?;
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    let code = result.str("code").to_owned();
    result.problem(&code)?.at("handshake")?;
    server.set_faults(Faults { slow_to_accept: Some(Duration::from_secs(3)), ..Faults::default() });
    let back = client.call("task_exec", exec_arguments("echo back", json!({"timeout": 60}))).await?.ok()?;
    assert_eq!(back.str("stdout"), "back\n");
    Ok(())
}
