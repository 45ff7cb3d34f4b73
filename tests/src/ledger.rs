//! The model of a queue that loses nothing: many jobs are handed in, the program dies, and what it then knows of each job is
//! held against what it had told of it and against what its server saw.
//!
//! Every job writes its number to a file on the server. Afterwards each is handed in once more under the same idempotency
//! key, as a client does that has had no answer: a job that was there is told, one that was not runs now, and none runs twice.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use futures::stream::{FuturesUnordered, StreamExt};
use serde_json::{Value, json};

use crate::client::Client;
use crate::result::ToolResult;

/// How many calls are under way at once while everything is handed in again.
const AT_ONCE: usize = 40;

/// How many calls are under way at once the first time: most wait for their turn, and none is handed over for their number.
const WAITED_FOR: usize = 200;

/// What was told of a job that had not ended when its call was answered: that it is there.
const HANDED_OVER: &str = "handed over";

/// What was handed in and what was told of it.
#[derive(Debug)]
pub struct Ledger {
    /// Each run of a job is one line, its number.
    runs: PathBuf,
    jobs: usize,
    told: BTreeMap<usize, Told>,
}

/// What is known of one job.
#[derive(Clone, Debug, PartialEq)]
struct Told {
    id: String,
    status: String,
}

impl Ledger {
    /// A ledger of so many jobs, whose servers can write to `folder`.
    pub fn new(folder: &Path, jobs: usize) -> Ledger {
        Ledger { runs: folder.join("runs"), jobs, told: BTreeMap::new() }
    }

    /// How many jobs the program has answered for.
    pub fn answers(&self) -> usize {
        self.told.len()
    }

    /// Hands in every job, many at once, and notes each answer, until the program dies. With `kill_after` it is killed when so many
    /// have been answered.
    pub async fn hand_in(&mut self, client: &Client, kill_after: Option<usize>) -> Result<()> {
        client.expect_death();
        let mut pending = FuturesUnordered::new();
        let mut numbers = 0..self.jobs;
        loop {
            while pending.len() < WAITED_FOR
                && let Some(number) = numbers.next()
            {
                // It died before it could read this one.
                let Ok(call) = client.begin_call("task_exec", self.arguments(number)).await else {
                    numbers = 0..0;
                    break;
                };
                pending.push(async move { (number, client.finish(call).await) });
            }
            let Some((number, answer)) = pending.next().await else { return Ok(()) };
            let Ok(answer) = answer else { continue };
            let result = ToolResult::parse("task_exec", &answer)?;
            self.told.insert(number, told(number, &result)?);
            if kill_after == Some(self.told.len()) {
                client.kill().await?;
            }
        }
    }

    /// Holds what the program knows after its restart against the ledger.
    pub async fn check(&self, client: &Client) -> Result<()> {
        let mut ids = HashSet::new();
        let calls = futures::stream::iter(0..self.jobs).map(|number| async move {
            let again = client.call("task_exec", self.arguments(number)).await?;
            let id = told(number, &again)?.id;
            let job = client.call("task_status", json!({"id": id})).await?.structured;
            anyhow::Ok((number, again, job))
        });
        let mut known = calls.buffer_unordered(AT_ONCE);
        let mut found = Vec::new();
        while let Some(one) = known.next().await {
            found.push(one?);
        }
        let runs = self.runs()?;
        for (number, again, job) in found {
            let now = told(number, &again)?;
            let status = job["status"].as_str().unwrap_or_default();
            let times = runs.get(&number).copied().unwrap_or_default();
            let story = || format!("job {number} ran {times} times, told {:?}: {job:#}", self.told.get(&number));
            ensure!(ids.insert(now.id.clone()), "two jobs have one id; {}", story());
            ensure!(status == now.status, "it is in two states, {} and {status}; {}", now.status, story());
            let kept = |told: &Told| told.id == now.id && (told.status == HANDED_OVER || told.status == now.status);
            ensure!(self.told.get(&number).is_none_or(kept), "it is not what was told; {}", story());
            ensure!(times <= 1, "it ran more than once; {}", story());
            let never_began = again.structured["retryable"] == true;
            match status {
                "completed" | "failed" => ensure!(times == 1, "it ended and never ran; {}", story()),
                "crashed" if never_began => ensure!(times == 0, "it is said never to have begun; {}", story()),
                "crashed" => {}
                _ => bail!("it has not ended; {}", story()),
            }
        }
        self.check_figures(client).await
    }

    /// The counts are those of the jobs: none is lost, none is counted twice.
    async fn check_figures(&self, client: &Client) -> Result<()> {
        let stats = client.call("queue_stats", json!({})).await?.ok()?.structured;
        let sum: u64 =
            stats["byStatus"].as_object().into_iter().flatten().filter_map(|(_, count)| count.as_u64()).sum();
        ensure!(stats["total"] == self.jobs && sum == self.jobs as u64, "{} jobs were handed in: {stats:#}", self.jobs);
        let active = [&stats["byStatus"]["running"], &stats["byStatus"]["pending"]];
        ensure!(
            active.iter().all(|count| count.as_u64().unwrap_or(0) == 0),
            "something is counted as at work: {stats:#}"
        );
        Ok(())
    }

    /// A mix: plain, bad news, more output than is kept in the database, slow, with input.
    fn arguments(&self, number: usize) -> Value {
        let work = ["true", "exit 3", "head -c 100000 /dev/zero | tr '\\0' x", "sleep 0.2", "cat"];
        let work = work.get(number % work.len()).copied().unwrap_or_default();
        let mut arguments = json!({
            "alias": "box",
            "cmd": format!("echo {number} >> {}; {work}", self.runs.display()),
            "idempotencyKey": format!("job {number}"),
        });
        if work == "cat" {
            arguments["stdin"] = json!("input");
        }
        arguments
    }

    fn runs(&self) -> Result<BTreeMap<usize, usize>> {
        let mut runs = BTreeMap::new();
        // Without a single run there is no file.
        let text = fs::read_to_string(&self.runs).unwrap_or_default();
        for line in text.lines() {
            *runs.entry(line.parse().with_context(|| format!("{line:?} is no job"))?).or_default() += 1;
        }
        Ok(runs)
    }
}

/// What an answer says of its job.
fn told(number: usize, result: &ToolResult) -> Result<Told> {
    let (id, status) = match result.structured["error"] == true {
        true => (&result.structured["details"]["id"], "crashed"),
        false if result.structured["next"] == "task_wait" => (&result.structured["id"], HANDED_OVER),
        false if result.is_error => (&result.structured["id"], "failed"),
        false => (&result.structured["id"], "completed"),
    };
    let id = id.as_str().with_context(|| format!("the answer to job {number} names none: {}", result.text))?;
    Ok(Told { id: id.to_owned(), status: status.to_owned() })
}
