//! Whose turn it is, as clients see it: no client and no server holds up the others, and what is short goes before what is long.
//!
//! One or two places are taken by commands that run until the test lets them go; what waits behind them writes its name to a
//! file when it begins.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::stream::{FuturesUnordered, StreamExt};
use orchestrator_tests::client::{Client, Launch};
use orchestrator_tests::result::ToolResult;
use orchestrator_tests::sshd::Options;
use orchestrator_tests::wait;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::support::Rig;

const SOON: Duration = Duration::from_secs(60);

/// The order in which commands began, and a command that holds a place.
struct Order {
    begun: PathBuf,
    go: PathBuf,
}

impl Order {
    fn new(rig: &Rig) -> Order {
        Order { begun: rig.sshd.folder().join("begun"), go: rig.sshd.folder().join("go") }
    }

    /// A command that says that it has begun.
    fn says(&self, name: &str) -> String {
        format!("echo {name} >> {}", self.begun.display())
    }

    /// The same, which then runs until [`Order::let_go`].
    fn holds(&self, name: &str) -> String {
        format!("{}; until test -e {}; do sleep 0.05; done", self.says(name), self.go.display())
    }

    fn let_go(&self) -> Result<()> {
        Ok(fs::write(&self.go, "")?)
    }

    fn names(&self) -> Vec<String> {
        fs::read_to_string(&self.begun).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    async fn has_begun(&self, count: usize) -> Result<()> {
        wait::until(&format!("{count} commands to begin"), SOON, || self.names().len() >= count).await
    }
}

/// One place, or as many as are asked for, and answers within a second.
async fn rig(places: &str, adapt: impl FnOnce(Launch) -> Launch) -> Result<Rig> {
    Rig::with(Options::default(), |launch| adapt(launch.env("MAX_RUNNING_JOBS", places).env("MCP_SYNC_TIMEOUT_S", "1")))
        .await
}

async fn exec(client: &Client, alias: Value, cmd: String) -> Result<Value> {
    Ok(client.call("task_exec", json!({"alias": alias, "cmd": cmd})).await?.ok()?.structured)
}

async fn ended(client: &Client, job: &Value) -> Result<Value> {
    let job = client.call("task_wait", json!({"id": job["id"], "timeout": 60})).await?.ok()?;
    assert_eq!(job.structured["status"], "completed", "{}", job.text);
    Ok(job.structured)
}

#[tokio::test]
async fn a_job_that_has_not_begun_is_handed_over_as_queued() -> Result<()> {
    let rig = rig("1", |launch| launch).await?;
    let order = Order::new(&rig);
    let running = rig.exec(&order.holds("first")).await?.ok()?;
    assert_eq!(running.str("state"), "running");
    assert!(running.text.contains("is still running after 1 s"), "{}", running.text);
    let queued = rig.exec(&order.says("second")).await?.ok()?;
    assert_eq!((queued.str("state"), queued.str("next")), ("pending", "task_wait"));
    assert!(queued.text.contains("is still queued after 1 s"), "{}", queued.text);
    let id = queued.str("id");
    let status = rig.client.call("task_status", json!({"id": id})).await?.ok()?.structured;
    assert_eq!((&status["status"], &status["arguments"]["cmd"]), (&json!("pending"), &json!(order.says("second"))));
    let listed = rig.client.call("task_queue", json!({})).await?.ok()?.structured;
    let ids = [&listed["jobs"][0]["id"], &listed["jobs"][1]["id"]];
    assert_eq!(ids, [&json!(running.str("id")), &json!(id)], "{listed:#}");
    let output = rig.client.call("task_output", json!({"id": id})).await?.ok()?;
    assert_eq!(output.str("text"), "");
    // One that is cancelled there never begins.
    let third = rig.exec(&order.says("third")).await?.ok()?;
    let cancelled = rig.client.call("task_cancel", json!({"id": third.str("id")})).await?;
    assert_eq!(cancelled.structured["status"], "cancelled", "{}", cancelled.text);
    order.let_go()?;
    ended(&rig.client, &json!({"id": id})).await?;
    assert_eq!(order.names(), ["first", "second"]);
    Ok(())
}

/// The program keeps only the id of a job that waits, and makes its work again when it is its turn. Nobody may notice.
#[tokio::test]
async fn a_job_that_waited_is_done_as_it_was_asked_for() -> Result<()> {
    let rig =
        Rig::with(Options::default(), |launch| launch.env("MAX_RUNNING_JOBS", "1").env("MCP_SYNC_TIMEOUT_S", "60"))
            .await?;
    let order = Order::new(&rig);
    let held = rig.client.begin_call("task_exec", json!({"alias": "box", "cmd": order.holds("held")})).await?;
    order.has_begun(1).await?;
    let folder = rig.place.root().display().to_string();
    let file = rig.place.root().join("some.log");
    fs::write(&file, "one\ntwo\n")?;
    let cmd = "cat; echo \"$GREETING from $(pwd)\"; sleep 2; echo done";
    let exec = json!({"alias": "box", "cmd": cmd, "stdin": "typed\n", "env": {"GREETING": "hello"}, "workdir": folder});
    let exec = rig.client.begin_call_with_token("task_exec", exec, "waits").await?;
    // What is answered is not in the record.
    let cmd = "stty -echo; printf 'Password: '; read p; stty echo; echo; test \"$p\" = unrecorded && echo right";
    let asked = json!({"alias": "box", "cmd": cmd, "responses": {"Password": "unrecorded"}});
    let asked = rig.client.begin_call("task_exec_interactive", asked).await?;
    let steps = json!({"alias": "box", "commands": ["cd /tmp", {"command": "pwd"}]});
    let steps = rig.client.begin_call("task_exec_sequence", steps).await?;
    let tail = rig.client.begin_call("tail_file", json!({"alias": "box", "filepath": file, "lines": 1})).await?;
    let unwanted = rig.client.begin_call("task_exec", json!({"alias": "box", "cmd": order.says("unwanted")})).await?;
    // All of them wait, then one is cancelled.
    let are_queued = async |count: u64| -> Result<()> {
        while rig.client.call("queue_stats", json!({})).await?.ok()?.structured["byStatus"]["pending"] != count {}
        Ok(())
    };
    timeout(SOON, are_queued(5)).await??;
    rig.client.cancel(unwanted.id).await?;
    timeout(SOON, are_queued(4)).await??;
    order.let_go()?;
    let ran = rig.client.finish_call("task_exec", exec).await?.ok()?;
    assert_eq!(ran.str("stdout"), format!("typed\nhello from {folder}\ndone\n"));
    let note = rig.client.notification(|note| note["method"] == "notifications/progress").await?;
    assert_eq!(note["params"]["progressToken"], "waits", "its client still hears of it");
    let answered = rig.client.finish_call("task_exec_interactive", asked).await?.ok()?;
    assert!(answered.str("transcript").ends_with("right\n"), "{}", answered.text);
    let steps = rig.client.finish_call("task_exec_sequence", steps).await?.ok()?;
    assert_eq!(steps.structured["steps"][1]["stdout"], "/tmp\n", "{:#}", steps.structured);
    let tail = rig.client.finish_call("tail_file", tail).await?.ok()?;
    assert_eq!(tail.structured["lines"], json!(["two"]));
    rig.client.finish(held).await?;
    assert_eq!(order.names(), ["held"]);
    Ok(())
}

#[tokio::test]
async fn a_client_with_very_many_calls_gets_the_ids_of_queued_jobs_at_once() -> Result<()> {
    let rig = Rig::with_env("MAX_RUNNING_JOBS", "1").await?;
    let order = Order::new(&rig);
    let held = rig.client.begin_call("task_exec", json!({"alias": "box", "cmd": order.holds("held")})).await?;
    order.has_begun(1).await?;
    let mut answers = FuturesUnordered::new();
    for _ in 0..300 {
        let call = rig.client.begin_call("task_exec", json!({"alias": "box", "cmd": "true"})).await?;
        answers.push(rig.client.finish(call));
    }
    // Of 301 calls under way 256 are waited for. Nothing can have ended while the only place is held.
    let mut queued = Value::Null;
    for _ in 256..301 {
        let answer = answers.next().await.context("no answer")??;
        queued = ToolResult::parse("task_exec", &answer)?.ok()?.structured;
        assert_eq!((&queued["state"], &queued["next"]), (&json!("pending"), &json!("task_wait")), "{queued:#}");
    }
    order.let_go()?;
    while let Some(answer) = answers.next().await {
        let ended = ToolResult::parse("task_exec", &answer?)?.ok()?.structured;
        assert_eq!(ended["exit_code"], 0, "{ended:#}");
    }
    rig.client.finish(held).await?;
    ended(&rig.client, &queued).await?;
    Ok(())
}

#[tokio::test]
async fn a_client_that_floods_the_queue_does_not_hold_up_another() -> Result<()> {
    let rig = rig("2", Launch::shared).await?;
    let other = Launch::new(&rig.place).shared().start().await?;
    let order = Order::new(&rig);
    let mut flood = Vec::new();
    for _ in 0..2 {
        flood.push(rig.client.begin_call("task_exec", json!({"alias": "box", "cmd": order.holds("held")})).await?);
    }
    order.has_begun(2).await?;
    for _ in 0..20 {
        flood.push(rig.client.begin_call("task_exec", json!({"alias": "box", "cmd": order.says("flood")})).await?);
    }
    // All of them are waiting before the other one comes.
    for call in flood {
        rig.client.finish(call).await?;
    }
    let theirs = exec(&other, json!("box"), order.says("other")).await?;
    assert_eq!(theirs["state"], "pending", "{theirs:#}");
    order.let_go()?;
    ended(&other, &theirs).await?;
    let place = order.names().iter().position(|name| name == "other");
    assert!(place.is_some_and(|place| place <= 3), "its turn came late: {:?}", order.names());
    Ok(())
}

#[tokio::test]
async fn a_server_with_all_it_may_have_does_not_hold_up_another_and_many_count_for_each() -> Result<()> {
    let rig = rig("10", |launch| launch.env("MAX_JOBS_PER_SERVER", "1")).await?;
    for alias in ["web", "db"] {
        rig.client.call("server_add", rig.server(alias)).await?.ok()?;
    }
    let order = Order::new(&rig);
    let both = exec(&rig.client, json!(["web", "db"]), order.holds("both")).await?;
    assert_eq!(both["state"], "running", "{both:#}");
    for alias in ["web", "db"] {
        let waits = exec(&rig.client, json!(alias), order.says(alias)).await?;
        assert_eq!(waits["state"], "pending", "{alias} has a job at work already: {waits:#}");
    }
    let free = exec(&rig.client, json!("box"), order.says("box")).await?;
    assert_eq!(free["exit_code"], 0, "{free:#}");
    order.let_go()?;
    ended(&rig.client, &both).await?;
    order.has_begun(5).await
}

#[tokio::test]
async fn a_short_call_goes_before_work_on_many_servers() -> Result<()> {
    let rig = rig("1", |launch| launch).await?;
    rig.client.call("server_add", rig.server("web")).await?.ok()?;
    let order = Order::new(&rig);
    exec(&rig.client, json!("box"), order.holds("held")).await?;
    let many = exec(&rig.client, json!(["box", "web"]), order.says("many")).await?;
    let short = exec(&rig.client, json!("box"), order.says("short")).await?;
    assert_eq!((&many["state"], &short["state"]), (&json!("pending"), &json!("pending")));
    order.let_go()?;
    ended(&rig.client, &many).await?;
    assert_eq!(order.names(), ["held", "short", "many", "many"]);
    Ok(())
}
