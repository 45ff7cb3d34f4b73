//! `task_transfer` and `task_transfer_multi`: files between this machine and servers, or between two servers.
//!
//! Not how they are moved: that is `sftp`.

mod answer;

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::answer::{ItemResult, Kept, Manner, TransferResult};
use super::typed::{Job, JobArguments};
use super::{Annotations, Core, Execution, Tool, ToolSpec};
use crate::call::{Call, Reply};
use crate::capability::{Pair, Place, TransferOptions};
use crate::error::Problem;

/// More are better put into a directory or a pattern.
const MAX_ITEMS: usize = 1000;

pub fn tools(core: &Arc<Core>) -> Vec<Box<dyn Tool>> {
    vec![one(core), many(core)]
}

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    Upload,
    Download,
    ServerToServer,
}

#[derive(Deserialize, JsonSchema)]
struct TransferArguments {
    /// As in server_list.
    alias: String,
    direction: Direction,
    /// On this machine, absolute or ~/…; for server_to_server on source_alias.
    local: String,
    /// On alias.
    remote: String,
    /// For server_to_server.
    source_alias: Option<String>,
    /// Replace equal files, and links by files.
    force: Option<bool>,
    /// Go on with partial files.
    resume: Option<bool>,
    /// Compare SHA-256.
    verify: Option<bool>,
    /// Keep times and special mode bits.
    preserve: Option<bool>,
    /// Sync to disk.
    durable: Option<bool>,
    /// Only say what would be done.
    #[serde(rename = "dryRun")]
    dry_run: Option<bool>,
    /// Seconds until a reminder.
    rappel: Option<u64>,
}

impl TransferArguments {
    fn ends(&self) -> Result<(Place, Place), Problem> {
        let server = Place::Server(self.alias.clone());
        match (self.direction, &self.source_alias) {
            (Direction::Upload, None) => Ok((Place::Here, server)),
            (Direction::Download, None) => Ok((server, Place::Here)),
            (Direction::ServerToServer, Some(source)) => Ok((Place::Server(source.clone()), server)),
            (Direction::ServerToServer, None) => {
                Err(wrong("task_transfer", "source_alias", "is needed for server_to_server: the server to copy from"))
            }
            (_, Some(_)) => Err(wrong("task_transfer", "source_alias", "is for direction \"server_to_server\" only")),
        }
    }
}

fn wrong(tool: &str, argument: &str, why: &str) -> Problem {
    Problem::invalid(format!("{tool}: argument {argument:?} {why}")).detail("argument", argument)
}

fn check_path(tool: &str, argument: &str, path: &str) -> Result<(), Problem> {
    if path.trim().is_empty() {
        return Err(wrong(tool, argument, "is empty"));
    }
    if path.contains('\0') {
        return Err(wrong(tool, argument, "holds a NUL character, which no path can"));
    }
    Ok(())
}

/// A path on this machine. The directory that a client was started in is not known here, and is seldom what is meant.
fn check_local(tool: &str, argument: &str, path: &str) -> Result<(), Problem> {
    check_path(tool, argument, path)?;
    if ["/", "~", "$HOME", "${HOME}"].iter().any(|start| path.starts_with(start)) {
        return Ok(());
    }
    Err(wrong(tool, argument, &format!("is {path:?}: give an absolute path, or one that begins with ~/")))
}

impl JobArguments for TransferArguments {
    fn check(&self) -> Result<(), Problem> {
        let (from, to) = self.ends()?;
        let tool = "task_transfer";
        if from == Place::Here || to == Place::Here {
            check_local(tool, "local", &self.local)?;
        }
        check_path(tool, "local", &self.local)?;
        check_path(tool, "remote", &self.remote)
    }

    fn server(&self) -> Option<String> {
        Some(self.alias.clone())
    }

    fn servers(&self) -> Vec<String> {
        self.source_alias.iter().cloned().collect()
    }

    fn rappel(&self) -> Option<u64> {
        self.rappel
    }

    fn idempotency_key(&self) -> Option<String> {
        None
    }
}

fn one(core: &Arc<Core>) -> Box<dyn Tool> {
    let core = Arc::clone(core);
    Job::tool(
        ToolSpec::core::<TransferArguments, TransferResult>(
            "task_transfer",
            "Copy files",
            "Copies a file or a directory's content to, from or between servers (SFTP). Atomic per file; equal files are \
             skipped.",
            Execution::Job,
            Annotations::ACTS,
        ),
        move |arguments: TransferArguments, call, _spool| {
            let core = Arc::clone(&core);
            async move { transfer(&core, arguments, call).await }
        },
    )
}

async fn transfer(core: &Core, arguments: TransferArguments, call: Call) -> Result<Reply, Problem> {
    let (from, to) = arguments.ends()?;
    let is_download = arguments.direction == Direction::Download;
    let pair = pair(&arguments.local, &arguments.remote, is_download);
    let is_set = |option: Option<bool>| option.unwrap_or(false);
    let options = TransferOptions {
        force: is_set(arguments.force),
        resume: is_set(arguments.resume),
        verify: is_set(arguments.verify),
        preserve: is_set(arguments.preserve),
        durable: is_set(arguments.durable),
        dry_run: is_set(arguments.dry_run),
        globs: false,
    };
    let manner = Manner { from: from.clone(), to: to.clone(), pair: pair.clone(), dry_run: options.dry_run };
    let outcomes = core.servers.transfer(&call, (&from, &to), vec![pair], options).await?;
    let outcome = outcomes.into_iter().next().ok_or_else(|| Problem::internal("a transfer without an outcome"))?;
    answer::one(&manner, arguments.direction, outcome?)
}

fn pair(local: &str, remote: &str, is_download: bool) -> Pair {
    let (local, remote) = (local.to_owned(), remote.to_owned());
    if is_download { Pair { from: remote, to: local } } else { Pair { from: local, to: remote } }
}

/// One item of many.
#[derive(Clone, Deserialize, JsonSchema)]
struct FilePair {
    local: String,
    remote: String,
}

/// What many items go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum ManyDirection {
    Upload,
    Download,
}

#[derive(Deserialize, JsonSchema)]
struct ManyArguments {
    /// As in server_list.
    alias: String,
    direction: ManyDirection,
    /// The source side may be a glob (*, ?, [], **, {a,b}): its tree is kept below the other side.
    files: Vec<FilePair>,
    /// Replace equal files, and links by files.
    force: Option<bool>,
    /// Seconds until a reminder.
    rappel: Option<u64>,
}

impl JobArguments for ManyArguments {
    fn check(&self) -> Result<(), Problem> {
        let tool = "task_transfer_multi";
        if self.files.is_empty() || self.files.len() > MAX_ITEMS {
            let why = format!("takes 1 to {MAX_ITEMS} items, not {}; a glob or a directory is one", self.files.len());
            return Err(wrong(tool, "files", &why));
        }
        for (index, file) in self.files.iter().enumerate() {
            check_local(tool, &format!("files[{index}].local"), &file.local)?;
            check_path(tool, &format!("files[{index}].remote"), &file.remote)?;
        }
        Ok(())
    }

    fn server(&self) -> Option<String> {
        Some(self.alias.clone())
    }

    fn rappel(&self) -> Option<u64> {
        self.rappel
    }

    fn idempotency_key(&self) -> Option<String> {
        None
    }
}

fn many(core: &Arc<Core>) -> Box<dyn Tool> {
    let core = Arc::clone(core);
    Job::tool(
        ToolSpec::core::<ManyArguments, answer::ManyResult>(
            "task_transfer_multi",
            "Copy many files",
            "Like task_transfer for a list of files, directories or globs, with a result for each.",
            Execution::Job,
            Annotations::ACTS,
        ),
        move |arguments: ManyArguments, call, _spool| {
            let core = Arc::clone(&core);
            async move { transfer_many(&core, arguments, call).await }
        },
    )
}

async fn transfer_many(core: &Core, arguments: ManyArguments, call: Call) -> Result<Reply, Problem> {
    let server = Place::Server(arguments.alias.clone());
    let (from, to, direction) = match arguments.direction {
        ManyDirection::Upload => (Place::Here, server, Direction::Upload),
        ManyDirection::Download => (server, Place::Here, Direction::Download),
    };
    let is_download = direction == Direction::Download;
    let pairs: Vec<Pair> = arguments.files.iter().map(|file| pair(&file.local, &file.remote, is_download)).collect();
    let options =
        TransferOptions { force: arguments.force.unwrap_or(false), globs: true, ..TransferOptions::default() };
    let outcomes = core.servers.transfer(&call, (&from, &to), pairs, options).await?;
    let kept = arguments.files.into_iter().zip(outcomes).map(|(file, outcome)| match outcome {
        Ok(outcome) => ItemResult::of(file.local, file.remote, Kept::from(outcome)),
        Err(error) => ItemResult::failed(file.local, file.remote, error),
    });
    Ok(answer::many(arguments.alias, direction, kept.collect()))
}
