//! Many commands at the same time, cold connections, many servers and large outputs: through the program, and where there is
//! something to compare with, over bare russh connections to the same sshd in the same minute.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use futures::stream::{self, StreamExt, TryStreamExt};
use russh::client::Handle;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::client::{Client, Launch};
use crate::embedded::{Accounts, Embedded, Faults};
use crate::place::Place;
use crate::sshd::Sshd;

use super::exec::{Pinned, connect, reach, started, time_bare};
use super::size::{peak_mb, reset_peak};
use super::{Figure, spread};

/// Callers that each have one command under way.
const CALLERS: usize = 64;
const CALLS: usize = 480;
const ROUNDS: usize = 9;
/// As many connections as the program makes to one server; with more channels on each an sshd that is late in freeing them refuses some.
const CONNECTIONS: usize = 5;
const CHANNELS: usize = 4;
const COLD_ROUNDS: usize = 15;
const SERVERS: usize = 500;
/// How many of them the bare client talks to at the same time, as the program does.
const AT_ONCE: usize = 256;
/// One of ten servers takes so long until it says a word.
const SLOW: Duration = Duration::from_secs(3);
const OUTPUT: usize = 15 << 20;
/// The largest page that `task_output` gives.
const PAGE: usize = 200_000;

pub async fn measure() -> Result<Vec<Figure>> {
    let mut figures = cold().await?;
    figures.extend(fleet().await?);
    figures.push(output().await?);
    Ok(figures)
}

/// Many callers of one server, in turns. Each round is compared with the bare one right behind it, since a shared machine
/// changes its speed within seconds.
pub async fn measure_flight() -> Result<Vec<Figure>> {
    let sshd = Sshd::start().await?;
    let (program, _place) = started(&sshd, Place::new()?).await?;
    let mut sessions = Vec::new();
    for _ in 0..CONNECTIONS {
        sessions.push((connect(&sshd, sshd.address).await?, Semaphore::new(CHANNELS)));
    }
    let (mut ours, mut bare, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        let calls = stream::iter(0..CALLS).map(|_| exec(&program, "box", "echo hi"));
        calls.buffer_unordered(CALLERS).try_collect::<Vec<()>>().await?;
        ours.push(begun.elapsed().as_secs_f64());
        let begun = Instant::now();
        let calls = stream::iter(0..CALLS).map(async |number| {
            let (session, channels) = &sessions[number % CONNECTIONS];
            let _channel = channels.acquire().await?;
            time_bare(session).await
        });
        calls.buffer_unordered(CALLERS).try_collect::<Vec<Duration>>().await?;
        bare.push(begun.elapsed().as_secs_f64());
        ratios.extend(ours.last().zip(bare.last()).map(|(ours, bare)| ours / bare));
    }
    program.close().await?;
    let rate = |times: Vec<f64>| CALLS as f64 / middle(times);
    Ok(vec![
        Figure::new("64 commands in flight, by bare russh", middle(ratios), "of its time")
            .target(1.11)
            .note(format!(
                "{:.0} against {:.0} commands/s, {CONNECTIONS} connections each, median of {ROUNDS} rounds of {CALLS}, none failed",
                rate(ours),
                rate(bare)
            )),
    ])
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

async fn exec(program: &Client, alias: &str, cmd: &str) -> Result<()> {
    let answer = program.request("tools/call", call(alias, cmd)).await?;
    ensure!(answer["structuredContent"]["stdout"] == "hi\n", "{answer}");
    Ok(())
}

fn call(alias: &str, cmd: &str) -> Value {
    json!({"name": "task_exec", "arguments": {"alias": alias, "cmd": cmd}})
}

/// Connecting, logging in and the first command; each time to an alias that was never used.
async fn cold() -> Result<Vec<Figure>> {
    let sshd = Sshd::start().await?;
    let (program, _place) = started(&sshd, Place::new()?).await?;
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for round in 0..COLD_ROUNDS {
        let alias = format!("cold{round}");
        let server = json!({
            "alias": alias, "host": "127.0.0.1", "port": sshd.port(), "user": sshd.user,
            "keyPath": sshd.client_key.path, "hostKey": sshd.fingerprint(),
        });
        program.call("server_add", server).await?.ok()?;
        let begun = Instant::now();
        exec(&program, &alias, "echo hi").await?;
        ours.push(begun.elapsed());
        let begun = Instant::now();
        time_bare(&connect(&sshd, sshd.address).await?).await?;
        bare.push(begun.elapsed());
    }
    program.close().await?;
    let (ours, bare) = (spread(&ours).median, spread(&bare).median);
    Ok(vec![
        Figure::new("a cold task_exec, by bare russh", ours / bare, "of its time")
            .target(1.1)
            .note(format!("{ours:.1} ms against {bare:.1} ms to connect, log in and run echo hi")),
    ])
}

/// One command on hundreds of servers, a tenth of which are slow.
async fn fleet() -> Result<Vec<Figure>> {
    let accounts = || Accounts { user: "bench".to_owned(), password: Some("bench".to_owned()), keys: Vec::new() };
    let quick = Embedded::start(accounts()).await?;
    let faults = Faults { slow_to_accept: Some(SLOW), ..Faults::default() };
    let slow = Embedded::start_with(accounts(), faults).await?;
    let place = Place::new()?;
    let program = Arc::new(Launch::new(&place).start().await?);
    let adding = (0..SERVERS).map(|number| {
        let (program, server) = (program.clone(), if is_slow(number) { &slow } else { &quick });
        let server = json!({
            "alias": format!("s{number:03}"), "host": "127.0.0.1", "port": server.port(), "user": "bench",
            "password": "bench", "hostKey": server.fingerprint,
        });
        async move { program.call("server_add", server).await?.ok() }
    });
    try_join_all(adding).await?;
    let idle = reset_peak(program.pid())?;
    let begun = Instant::now();
    let mut answer = program.request("tools/call", call("all", "echo hi")).await?;
    let id = answer["structuredContent"]["id"].clone();
    while answer["structuredContent"]["state"] == "running" {
        answer = program.request("tools/call", json!({"name": "task_wait", "arguments": {"id": id}})).await?;
    }
    let took = begun.elapsed().as_secs_f64();
    ensure!(answer["isError"] != true, "{answer}");
    let peak = peak_mb(program.pid())? - idle;
    program.close().await?;
    let begun = Instant::now();
    let logins = stream::iter(0..SERVERS).map(|number| bare_password(if is_slow(number) { &slow } else { &quick }));
    // Kept open until all are done, as the program does.
    let sessions = logins.buffer_unordered(AT_ONCE).try_collect::<Vec<_>>().await?;
    let bare = begun.elapsed().as_secs_f64();
    drop(sessions);
    Ok(vec![
        Figure::new("500 servers, by the slowest tenth", took / SLOW.as_secs_f64(), "of its time").target(1.3).note(
            format!("{took:.1} s, bare russh {bare:.1} s; every tenth says nothing for {:.0} s", SLOW.as_secs_f64()),
        ),
        Figure::new("peak memory of 500 servers over idle", peak, "MB")
            .note(format!("{:.0} kB per connection", peak * 1000.0 / SERVERS as f64)),
    ])
}

fn is_slow(number: usize) -> bool {
    number % 10 == 7
}

/// Connects, logs in and runs the command.
async fn bare_password(server: &Embedded) -> Result<Handle<Pinned>> {
    let mut session = reach(server.address, &server.fingerprint).await?;
    let login = session.authenticate_password("bench", "bench").await?;
    ensure!(login.success(), "the bench is not let in");
    time_bare(&session).await?;
    Ok(session)
}

/// A large output, returned in full on request.
async fn output() -> Result<Figure> {
    let sshd = Sshd::start().await?;
    let (program, _place) = started(&sshd, Place::new()?).await?;
    let before = reset_peak(program.pid())?;
    let cmd = format!("yes 0123456789abcdef | head -c {OUTPUT}");
    let arguments = json!({"alias": "box", "cmd": cmd, "timeout": 120});
    let done = program.call("task_exec", arguments).await?.ok()?;
    let (mut read, mut offset) = (0, 0);
    while read < OUTPUT {
        let ask = json!({"id": done.str("id"), "offset": offset, "limit": PAGE});
        let page = program.call("task_output", ask).await?.ok()?;
        let text = page.str("text").len();
        ensure!(text > 0, "the output ends after {read} bytes: {:#}", page.structured);
        read += text;
        offset += text;
    }
    let grown = peak_mb(program.pid())? - before;
    program.close().await?;
    Ok(Figure::new("peak memory of 15 MB of output, read in full", grown, "MB").target(10.0))
}
