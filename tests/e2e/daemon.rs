//! One daemon for all clients of a data directory: who starts it, what they share, and how it ends.
//!
//! What it says to a client before MCP begins is in `handshake.rs`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use orchestrator_tests::client::{Client, Launch};
use orchestrator_tests::daemon::Daemon;
use orchestrator_tests::place::Place;
use orchestrator_tests::sshd::Options;
use orchestrator_tests::wait;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Rig, Sleep, exec_arguments};

const SOON: Duration = Duration::from_secs(20);

/// A rig whose client is served by a daemon.
async fn shared(adapt: impl FnOnce(Launch) -> Launch) -> Result<(Rig, Daemon)> {
    let rig = Rig::with(Options::default(), |launch| adapt(launch.shared())).await?;
    let daemon = Daemon::of(&rig.place);
    Ok((rig, daemon))
}

/// A command that runs until `path` exists.
struct Gate {
    path: std::path::PathBuf,
    command: String,
}

impl Gate {
    fn new(rig: &Rig) -> Gate {
        let path = rig.sshd.folder().join("go");
        Gate { command: format!("until test -e {}; do sleep 0.1; done; echo done", path.display()), path }
    }

    fn open(&self) -> Result<()> {
        Ok(fs::write(&self.path, "")?)
    }
}

async fn running_job(client: &Client) -> Result<Value> {
    for _ in 0..200 {
        let jobs = client.call("task_history", json!({"status": "running"})).await?.ok()?;
        if let Some(job) = jobs.structured["jobs"].as_array().and_then(|jobs| jobs.first()) {
            return Ok(job.clone());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    anyhow::bail!("no job runs")
}

#[tokio::test]
async fn a_command_of_a_client_that_dies_is_awaited_by_another() -> Result<()> {
    let (rig, daemon) = shared(|launch| launch).await?;
    let gate = Gate::new(&rig);
    let _lost = rig.client.begin_call("task_exec", exec_arguments(&gate.command, json!({}))).await?;
    let other = Launch::new(&rig.place).shared().start().await?;
    let job = running_job(&other).await?;
    rig.client.kill().await?;
    // Only when the daemon has given the first client up is it certain that the job goes on without it.
    let given_up = || daemon.log().contains(r#""message":"a client has gone","client":1"#);
    wait::until("the daemon to give the client up", SOON, given_up).await?;
    let job_now = other.call("task_status", json!({"id": job["id"]})).await?.ok()?.structured;
    assert_eq!(job_now["status"], "running", "{job_now:#}");
    assert_eq!(job_now["caller"], "orchestrator-tests 1.0 #1", "{job_now:#}");
    gate.open()?;
    let ended = other.call("task_wait", json!({"id": job["id"], "timeout": 20})).await?.ok()?;
    assert_eq!(ended.structured["status"], "completed", "{:#}", ended.structured);
    Ok(())
}

#[tokio::test]
async fn a_client_cancels_its_own_call_and_not_that_of_another_with_the_same_id() -> Result<()> {
    let (rig, _daemon) = shared(|launch| launch).await?;
    let other = Launch::new(&rig.place).shared().start().await?;
    let (mine, theirs) = (Sleep::new(), Sleep::new());
    let ours = rig.client.begin_call("task_exec", exec_arguments(&mine.command, json!({}))).await?;
    // Each client counts its own requests; this one has made fewer.
    while other.begin("ping", json!({})).await?.id + 1 < ours.id {}
    let pending = other.begin_call("task_exec", exec_arguments(&theirs.command, json!({}))).await?;
    assert_eq!(pending.id, ours.id);
    mine.runs().await?;
    theirs.runs().await?;
    rig.client.cancel(ours.id).await?;
    mine.is_gone().await?;
    theirs.runs().await?;
    other.cancel(pending.id).await?;
    theirs.is_gone().await
}

#[tokio::test]
async fn eight_clients_that_start_at_once_end_with_one_daemon() -> Result<()> {
    let place = Place::new()?;
    let daemon = Daemon::of(&place);
    let starting = (0..8).map(|_| Launch::new(&place).shared().start());
    let clients = futures_join(starting.collect()).await?;
    assert_eq!(daemon.processes(), vec![daemon.pid()?]);
    let said = String::from_utf8(daemon.ask("status")?.stdout)?;
    assert!(said.contains("clients: 8;"), "{said}");
    for client in clients {
        client.call("queue_stats", json!({})).await?.ok()?;
        assert!(client.close().await?.success(), "{}", client.stderr());
        assert_eq!(client.stderr(), "");
    }
    Ok(())
}

/// Awaits all starts at the same time.
async fn futures_join<F>(starts: Vec<F>) -> Result<Vec<Client>>
where
    F: Future<Output = Result<Client>> + Send + 'static,
{
    let tasks: Vec<_> = starts.into_iter().map(tokio::spawn).collect();
    let mut clients = Vec::new();
    for task in tasks {
        clients.push(task.await??);
    }
    Ok(clients)
}

#[tokio::test]
async fn clients_that_start_while_daemons_end_are_served_or_told() -> Result<()> {
    let place = Place::new()?;
    let daemon = Daemon::of(&place);
    let mut served = 0;
    for _ in 0..5 {
        let starting: Vec<_> = (0..6).map(|_| tokio::spawn(Launch::new(&place).shared().spawn())).collect();
        ensure!(daemon.ask("stop")?.status.success());
        for client in starting {
            let client = client.await??;
            let hello = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
            match client.request("initialize", hello).await {
                Ok(_) => served += 1,
                // The one way to be lost is to have been in the session that was stopped.
                Err(_) => {
                    let status = client.ended(SOON).await?;
                    assert_eq!(status.code(), Some(1), "{status}");
                    let told = client.stderr();
                    ensure!(told.trim_end().ends_with("start this server again to go on with its jobs"), "{told}");
                }
            }
        }
        ensure!(daemon.processes().len() <= 1, "{:?}", daemon.processes());
    }
    ensure!(served > 0, "no client was served");
    Ok(())
}

#[tokio::test]
async fn a_daemon_that_is_killed_is_missed_and_replaced() -> Result<()> {
    let (rig, daemon) = shared(|launch| launch).await?;
    let sleep = Sleep::new();
    let _lost = rig.client.begin_call("task_exec", exec_arguments(&sleep.command, json!({}))).await?;
    sleep.runs().await?;
    let old = daemon.pid()?;
    daemon.kill(Signal::KILL).await?;
    let status = rig.client.ended(SOON).await?;
    assert_eq!(status.code(), Some(1), "{status}");
    let said = rig.client.stderr();
    assert!(said.contains(&format!("pid {old}")) && said.contains("start this server again"), "{said}");
    assert!(rig.place.data().join("orchestrator.sock").exists(), "nothing stale is left to be tested");
    let again = Launch::new(&rig.place).shared().start().await?;
    assert_ne!(daemon.pid()?, old);
    let jobs = again.call("task_history", json!({"status": "crashed"})).await?.ok()?;
    assert_eq!(jobs.structured["jobs"].as_array().map(Vec::len), Some(1), "{:#}", jobs.structured);
    Ok(())
}

#[tokio::test]
async fn a_data_directory_with_a_long_path_has_a_daemon_too() -> Result<()> {
    let place = Place::new()?;
    let data = place.root().join("long".repeat(50)).join("longer".repeat(30));
    let daemon = Daemon::in_directory(&data);
    let client = Launch::new(&place).data(&data).shared().start().await?;
    let other = Launch::new(&place).data(&data).shared().start().await?;
    assert_eq!(daemon.processes(), vec![daemon.pid()?]);
    assert!(client.close().await?.success());
    assert!(other.close().await?.success());
    Ok(())
}

#[tokio::test]
async fn a_daemon_without_clients_and_work_ends_by_itself_and_not_before() -> Result<()> {
    let (rig, daemon) = shared(|launch| launch.env("MCP_DAEMON_IDLE_S", "1")).await?;
    let pid = daemon.pid()?;
    let gate = Gate::new(&rig);
    let arguments = exec_arguments(&gate.command, json!({}));
    let _lost = rig.client.begin_call("task_exec", arguments).await?;
    running_job(&rig.client).await?;
    rig.client.kill().await?;
    let alone = || daemon.log().contains("a client has gone");
    wait::until("the daemon to be without clients", SOON, alone).await?;
    // Longer than it stays without work: that it is still there is what is tested.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(daemon.pid()?, pid, "the daemon left its job");
    gate.open()?;
    daemon.gone(pid).await?;
    assert!(!rig.place.data().join("orchestrator.sock").exists(), "the socket was left behind");
    let status = daemon.ask("status")?;
    assert_eq!(status.status.code(), Some(3), "{status:?}");
    let again = Launch::new(&rig.place).start().await?;
    let jobs = again.call("task_history", json!({"alias": "box"})).await?.ok()?;
    assert_eq!(jobs.structured["jobs"][0]["status"], "completed", "{:#}", jobs.structured);
    Ok(())
}

#[tokio::test]
async fn a_daemon_that_is_told_to_end_stops_its_commands_and_says_so() -> Result<()> {
    for stop in ["signal", "verb"] {
        let (rig, daemon) = shared(|launch| launch).await?;
        let sleep = Sleep::new();
        let pending = rig.client.begin_call("task_exec", exec_arguments(&sleep.command, json!({}))).await?;
        sleep.runs().await?;
        match stop {
            "signal" => daemon.kill(Signal::TERM).await?,
            _ => {
                let said = daemon.ask("stop")?;
                ensure!(said.status.success(), "{said:?}");
                let said = String::from_utf8(said.stdout)?;
                ensure!(said.contains("Clients cut off: 1; jobs stopped: 1."), "{said}");
            }
        }
        let answer = rig.client.finish_call("task_exec", pending).await?;
        assert_eq!(answer.str("code"), "CANCELLED", "{stop}: {}", answer.text);
        let status = rig.client.ended(SOON).await?;
        assert_eq!(status.code(), Some(1), "{status}");
        sleep.is_gone().await?;
        let again = Launch::new(&rig.place).start().await?;
        let jobs = again.call("task_history", json!({"alias": "box"})).await?.ok()?;
        assert_eq!(jobs.structured["jobs"][0]["status"], "cancelled", "{:#}", jobs.structured);
        again.close().await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_verbs_say_what_is_there() -> Result<()> {
    let place = Place::new()?;
    let daemon = Daemon::of(&place);
    for (verb, code) in [("status", 3), ("stop", 0)] {
        let said = daemon.ask(verb)?;
        assert_eq!(said.status.code(), Some(code), "{said:?}");
        assert!(String::from_utf8_lossy(&said.stdout).starts_with("No daemon serves"), "{said:?}");
    }
    assert!(!place.data().exists(), "looking made a data directory");
    let _client = Launch::new(&place).shared().start().await?;
    let status = String::from_utf8(daemon.ask("status")?.stdout)?;
    for word in [&format!("pid {}", daemon.pid()?), "clients: 1;", "after 20 s", &place.data().display().to_string()] {
        assert!(status.contains(word), "{word:?} is missing: {status}");
    }
    let second = daemon.ask("run")?;
    assert_eq!(second.status.code(), Some(1), "{second:?}");
    assert!(String::from_utf8_lossy(&second.stderr).contains("owns"), "{second:?}");
    let stopped = daemon.ask("stop")?;
    assert!(stopped.status.success() && daemon.processes().is_empty(), "{stopped:?}");
    // What was stopped lets go of the database before it says so.
    assert!(Launch::new(&place).run().await?.status.success());
    Ok(())
}

#[tokio::test]
async fn the_socket_is_for_its_owner_only_whatever_the_mask_of_the_client() -> Result<()> {
    let place = Place::new()?;
    let daemon = Daemon::of(&place);
    let program = Launch::new(&place).shared().command();
    let mut shell = std::process::Command::new("sh");
    shell.arg("-c").arg("umask 0; exec \"$0\"").arg(program.as_std().get_program()).env_clear().stdin(Stdio::null());
    shell.envs(program.as_std().get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = shell.output()?;
    ensure!(output.status.success(), "{output:?}");
    assert!(daemon.pid().is_ok());
    for name in ["orchestrator.sock", "daemon.lock", "logs/daemon.stderr"] {
        let mode = fs::metadata(place.data().join(name))?.permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{name}: {mode:o}");
    }
    Ok(())
}

#[tokio::test]
async fn the_daemon_holds_nothing_of_the_client_that_started_it() -> Result<()> {
    let place = Place::new()?;
    let daemon = Daemon::of(&place);
    let program = Launch::new(&place).shared().command();
    let mut shell = tokio::process::Command::new("sh");
    // Descriptor 9 is what a careless client leaves open: another end of its own pipe.
    shell.arg("-c").arg("exec \"$0\" 9>&1").arg(program.as_std().get_program()).env_clear().stdin(Stdio::null());
    shell.envs(program.as_std().get_envs().filter_map(|(name, value)| Some((name, value?))));
    // Reads both outputs to their ends, which come only when nobody has them open.
    let output = tokio::time::timeout(SOON, shell.output()).await.context("an output stays open")??;
    ensure!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
    let pid = daemon.pid()?;
    assert_eq!(fs::read_link(format!("/proc/{pid}/cwd"))?.to_str(), Some("/"));
    // Read from the same place for both: in a PID namespace the session of this process may have no number of its own.
    let session = |pid: &str| -> Result<String> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        Ok(fields.nth(3).context("no session in /proc")?.to_owned())
    };
    assert_ne!(session(&pid.to_string())?, session("self")?, "the daemon is in the session of its client");
    Ok(())
}

#[tokio::test]
async fn the_last_answers_are_read_after_the_input_was_closed() -> Result<()> {
    let (rig, _daemon) = shared(|launch| launch).await?;
    let pending = rig.client.begin_call("task_exec", exec_arguments("sleep 1; echo last", json!({}))).await?;
    let status = rig.client.close().await?;
    assert_eq!(status.code(), Some(0), "{status}: {}", rig.client.stderr());
    let answer = rig.client.finish_call("task_exec", pending).await?.ok()?;
    assert_eq!(answer.str("stdout"), "last\n");
    Ok(())
}

#[tokio::test]
async fn a_message_of_five_megabytes_passes_the_bridge_in_both_directions() -> Result<()> {
    let (rig, _daemon) = shared(|launch| launch).await?;
    let stdin = "0123456789abcdef".repeat(5 << 16);
    let result = rig.exec_with("wc -c", json!({"stdin": stdin})).await?.ok()?;
    assert_eq!(result.str("stdout").trim(), (5 << 20).to_string());
    // An unknown method is answered with an error that names it.
    let long = "x".repeat(1 << 20);
    let error = rig.client.request(&long, json!({})).await.expect_err("an unknown method was answered");
    assert!(error.to_string().contains("error"), "{error}");
    Ok(())
}

#[tokio::test]
async fn whoever_says_nothing_or_nonsense_to_the_socket_harms_nobody() -> Result<()> {
    use std::io::{Read, Write};
    let (rig, _daemon) = shared(|launch| launch).await?;
    let path = rig.place.data().join("orchestrator.sock");
    let _silent = UnixStream::connect(&path)?;
    for nonsense in [&b"\n"[..], b"GET / HTTP/1.1\r\n\r\n", b"{\"request\":\"dance\"}\n", &[0xff; 100_000]] {
        let mut stream = UnixStream::connect(&path)?;
        stream.set_read_timeout(Some(SOON))?;
        // The daemon may have closed before all of it was written.
        let _ = stream.write_all(nonsense);
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
    }
    rig.exec("true").await?.ok()?;
    Ok(())
}
