//! A call of the guest `echo` (instantiate, call, one import) beside a call of a core tool that does as little. Both go over
//! MCP, in turns, so that their difference is the plugin call.
//!
//! And what each tool of the bundled plugins takes on a real host, beside the slowest of its own commands run alone. Tools that
//! run no command (those of `api`) have no row.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use russh::client::Handle;
use serde_json::{Value, json};

use crate::client::{Client, Launch};
use crate::lab::{self, Lab};
use crate::place::Place;
use crate::sshd::Sshd;

use super::exec::{Pinned, add, connect, log_in, run_bare, time_commits};
use super::{Figure, compiled, spread};

const WARM_UP: usize = 50;
const ROUNDS: usize = 500;
/// Each round of a tool takes up to a second; those that take less than [`SHORT`] scatter more, and get more of them.
const TOOL_ROUNDS: usize = 11;
const SHORT_ROUNDS: usize = 41;
const SHORT: Duration = Duration::from_millis(50);
/// By how much a tool may exceed the slowest of its commands.
const TOOL_TARGET: f64 = 1.2;

/// What is called on the lab's Debian host.
const TOOLS: [(&str, &str); 7] = [
    ("get_system_resources", "{}"),
    ("get_services_status", "{}"),
    ("tail_file", r#"{"filepath": "/etc/passwd"}"#),
    ("get_docker_logs", r#"{"container": "job"}"#),
    ("get_pm2_logs", r#"{"app": "web"}"#),
    ("get_journal_logs", "{}"),
    ("get_fail2ban_status", "{}"),
];
/// What any machine can answer.
const TOOLS_ANYWHERE: [(&str, &str); 3] =
    [("get_system_resources", "{}"), ("get_services_status", "{}"), ("tail_file", r#"{"filepath": "/etc/passwd"}"#)];

pub async fn measure() -> Result<Vec<Figure>> {
    let mut figures = measure_call().await?;
    figures.extend(measure_tools().await?);
    Ok(figures)
}

async fn measure_tools() -> Result<Vec<Figure>> {
    match lab::login("debian") {
        Ok(login) => {
            let lab = Lab::enter(|launch| launch).await?;
            let diskless = match Place::in_memory()? {
                Some(memory) => Some(Lab::enter_from(memory, |launch| launch).await?),
                None => None,
            };
            let bare = log_in(login.address, &login.host_key, "ops", &login.key).await?;
            let without = diskless.as_ref().map(|lab| &lab.client);
            let figures = measure_each(&lab.client, &lab.place, "ops", without, &bare, &TOOLS).await?;
            lab.client.close().await?;
            if let Some(diskless) = diskless {
                diskless.client.close().await?;
            }
            Ok(figures)
        }
        Err(why) => {
            eprintln!("==================================================================");
            eprintln!("NOT MEASURED: the tools of plugins on a host of the lab, because there is {why:#}");
            eprintln!(
                "The rows are those of a loopback sshd on this machine, for the tools that any machine can answer."
            );
            eprintln!("==================================================================");
            let sshd = Sshd::start().await?;
            let place = Place::new()?;
            let program = Launch::new(&place).start().await?;
            add(&program, &sshd, sshd.port()).await?;
            let bare = connect(&sshd, sshd.address).await?;
            let figures = measure_each(&program, &place, "box", None, &bare, &TOOLS_ANYWHERE).await?;
            program.close().await?;
            Ok(figures)
        }
    }
}

/// Each tool in turns with each of its commands, so that all have the same minute. `diskless` is a program that knows the same
/// server and has its data in memory: what is left there is the tool's own, without the sync that its record waits for.
async fn measure_each(
    program: &Client,
    place: &Place,
    alias: &str,
    diskless: Option<&Client>,
    bare: &Handle<Pinned>,
    tools: &[(&'static str, &str)],
) -> Result<Vec<Figure>> {
    for program in [Some(program), diskless].into_iter().flatten() {
        compiled(program, alias).await?;
    }
    let sync = spread(&time_commits(&place.data(), Duration::from_millis(5))?).median / 2.0;
    let mut figures = Vec::new();
    for (tool, arguments) in tools {
        let mut arguments: Value = serde_json::from_str(arguments)?;
        arguments["alias"] = json!(alias);
        let call = json!({"name": tool, "arguments": arguments});
        let commands = commands(program, place, tool, &call).await?;
        let (mut whole, mut together, mut without) = (Vec::new(), Vec::new(), Vec::new());
        let (mut alone, mut asked) = (vec![Vec::new(); commands.len()], vec![Vec::new(); commands.len()]);
        let rounds = if time_call(program, &call).await? < SHORT { SHORT_ROUNDS } else { TOOL_ROUNDS };
        // The first finds files that nobody has read yet.
        for round in 0..=rounds {
            let took = time_call(program, &call).await?;
            if let Some(diskless) = diskless {
                // The second one follows a command on its own connection, as the others here do.
                time_call(diskless, &call).await?;
                let took = time_call(diskless, &call).await?;
                without.extend((round > 0).then_some(took));
            }
            let started = Instant::now();
            try_join_all(commands.iter().map(|command| run_bare(bare, command))).await?;
            let at_once = started.elapsed();
            for ((command, alone), asked) in commands.iter().zip(&mut alone).zip(&mut asked) {
                let (took, ..) = run_bare(bare, command).await?;
                alone.extend((round > 0).then_some(took));
                let started = Instant::now();
                program.call("task_exec", json!({"alias": alias, "cmd": command})).await?;
                asked.extend((round > 0).then_some(started.elapsed()));
            }
            whole.extend((round > 0).then_some(took));
            together.extend((round > 0).then_some(at_once));
        }
        let (whole, together) = (spread(&whole).median, spread(&together).median);
        let (slowest, asked, command) = commands
            .iter()
            .zip(alone.iter().zip(&asked))
            .map(|(command, (alone, asked))| (spread(alone).median, spread(asked).median, command))
            .max_by(|one, other| one.0.total_cmp(&other.0))
            .with_context(|| format!("{tool} has run no command"))?;
        let at_once = match commands.len() {
            1 => String::new(),
            number => format!("; all {number} at once over bare channels {together:.1} ms"),
        };
        let without = match without.is_empty() {
            true => String::new(),
            false => {
                let without = spread(&without).median;
                format!("; without a disk {without:.1} ms, {:.2} times", without / slowest)
            }
        };
        figures.push(Figure::new(tool, whole / slowest, "times").target(TOOL_TARGET).note(format!(
            "{whole:.1} ms, its slowest of {} alone {slowest:.1} ms, {asked:.1} ms by task_exec{at_once}{without}: {}",
            commands.len(),
            shown(command)
        )));
    }
    figures.push(
        Figure::new("a sync of this disk", sync, "ms").note("a tool that only reads waits for one, others for two"),
    );
    Ok(figures)
}

async fn time_call(program: &Client, call: &Value) -> Result<Duration> {
    let started = Instant::now();
    let answer = program.request("tools/call", call.clone()).await?;
    let took = started.elapsed();
    ensure!(answer["isError"] != true, "{answer}");
    Ok(took)
}

/// The command lines that a call of the tool runs, as the audit log has them: not the first one, which may have to find out what
/// there is on a server.
async fn commands(program: &Client, place: &Place, tool: &str, call: &Value) -> Result<Vec<String>> {
    program.request("tools/call", call.clone()).await?;
    let path = place.data().join("audit.jsonl");
    let before = std::fs::read_to_string(&path)?.len();
    program.request("tools/call", call.clone()).await?;
    // A line is there before the call is answered.
    let text = std::fs::read_to_string(&path)?;
    let lines = text.get(before..).context("the audit log has become shorter")?.lines();
    let lines = lines.map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    let own = lines.iter().filter(|line| line["tool"] == tool && line["action"] == "exec");
    Ok(own.filter_map(|line| line["command"].as_str().map(str::to_owned)).collect())
}

/// The beginning of a command, on one line.
fn shown(command: &str) -> String {
    let words = command.split_whitespace().collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(48) {
        Some((end, _)) => format!("{} …", words.get(..end).unwrap_or_default()),
        None => words,
    }
}

async fn measure_call() -> Result<Vec<Figure>> {
    let folder = std::env::var_os("ORCHESTRATOR_GUESTS").map(PathBuf::from);
    let guest = folder.context("ORCHESTRATOR_GUESTS is not set: run `cargo xtask bench`")?.join("echo.wasm");
    let place = Place::new()?;
    place.install_plugin(&guest)?;
    let program = Launch::new(&place).start().await?;
    let calls = [json!({"name": "echo", "arguments": {"text": "hi"}}), json!({"name": "pool_stats", "arguments": {}})];
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..WARM_UP + ROUNDS {
        for (call, times) in calls.iter().zip(&mut times) {
            let took = time_call(&program, call).await?;
            if round >= WARM_UP {
                times.push(took);
            }
        }
    }
    program.close().await?;
    let [guest, core] = times.map(|times| spread(&times));
    Ok(vec![
        Figure::new("a tool of a plugin, over MCP", guest.median * 1000.0, "µs")
            .note(format!("median of {ROUNDS}, p95 {:.0} µs", guest.p95 * 1000.0)),
        Figure::new("a tool of the core, over MCP", core.median * 1000.0, "µs")
            .note(format!("p95 {:.0} µs", core.p95 * 1000.0)),
        Figure::new("the plugin call alone", (guest.median - core.median) * 1000.0, "µs")
            .target(100.0)
            .note("instantiate, call, one import"),
    ])
}
