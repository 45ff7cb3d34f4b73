//! All tools there are, by name: the core's and the plugins', in one stable order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::queue::parse_id;
use super::{Core, JobWork, Tool, ToolSpec, Work, hybrid, plugin};
use crate::call::{Call, JobId, Progress, Reply, Report};
use crate::error::Problem;
use crate::jobs::{AnyJob, NewJob};
use crate::ssh::{Question, Standing};

/// Who calls a tool, and how to reach and stop the call.
#[derive(Clone, Debug)]
pub struct Request {
    /// The MCP client: name and version as it gave them.
    pub caller: Arc<str>,
    /// Fires when the client no longer wants the answer.
    pub cancel: CancellationToken,
    /// Dropped as soon as the call waits for nothing of ours but its end: when its job is on disk, or at once without one.
    pub entering: Option<Arc<OwnedSemaphorePermit>>,
    /// The client has so many calls under way that a job which has to queue is handed over at once.
    pub crowded: bool,
    /// Where the call says how far it has come.
    pub progress: Progress,
    /// The client can look after a job by itself once it has its id, so it need not wait for the end.
    pub follows_tasks: bool,
}

/// What a call came to.
#[derive(Clone, Debug)]
pub enum Answer {
    Reply(Reply),
    /// It goes on as this job, and the client follows it as a task.
    Task(Box<AnyJob>),
}

/// The tools.
pub struct Registry {
    core: Arc<Core>,
    /// Sorted by name, so that `tools/list` is the same in every process and for every client.
    tools: BTreeMap<String, Box<dyn Tool>>,
}

impl Registry {
    /// The names of the core's own tools, which no plugin may take.
    pub fn core_names() -> BTreeSet<String> {
        CORE_NAMES.iter().map(|name| (*name).to_owned()).collect()
    }

    /// The core's tools and those of every plugin that is ready.
    pub fn new(core: Arc<Core>) -> Arc<Registry> {
        let mut tools = BTreeMap::new();
        let families = [
            super::servers::tools(&core),
            super::exec::tools(&core),
            super::transfer::tools(&core),
            super::queue::tools(&core),
            super::history::tools(&core),
            super::diagnostics::tools(&core),
            super::help::tools(&core),
            plugin::tools(&core),
        ];
        for tool in families.into_iter().flatten() {
            tools.insert(tool.spec().name.clone(), tool);
        }
        let registry = Arc::new(Registry { core: Arc::clone(&core), tools });
        core.link(&registry);
        // A job that waits for its turn is made again as a retry of it would be.
        core.jobs.make_again_by({
            let registry = Arc::downgrade(&registry);
            move |head| {
                let registry = registry.upgrade().ok_or_else(|| Problem::internal("the process is ending"))?;
                Ok(registry.again(&head.tool, head.arguments.clone())?.run)
            }
        });
        registry
    }

    /// Every description, sorted by name.
    pub fn specs(&self) -> impl Iterator<Item = &ToolSpec> {
        self.tools.values().map(|tool| tool.spec())
    }

    pub fn spec(&self, name: &str) -> Option<&ToolSpec> {
        self.tools.get(name).map(|tool| tool.spec())
    }

    /// The tool whose name is most like `name`, for "did you mean".
    pub fn nearest(&self, name: &str) -> Option<&str> {
        self.tools
            .keys()
            .map(|known| (strsim::jaro_winkler(known, name), known.as_str()))
            .filter(|(likeness, _)| *likeness > 0.8)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, known)| known)
    }

    /// Calls a tool and waits for its answer, or for as long as a client should have to wait.
    pub async fn call(&self, name: &str, arguments: Map<String, Value>, request: Request) -> Result<Answer, Problem> {
        let Some(tool) = self.tools.get(name) else { return Err(self.unknown(name)) };
        match tool.prepare(arguments)? {
            Work::Direct(run) => {
                let call = Call {
                    cancel: request.cancel.clone(),
                    progress: request.progress.clone(),
                    ..Call::new(name, &request.caller)
                };
                drop(request);
                run(call).await.map(Answer::Reply)
            }
            Work::Job(mut work) => {
                // A server that is not known is a wrong argument, and leaves no job behind either.
                if let Some(alias) = &work.server {
                    self.core.servers.describe(alias)?;
                }
                let servers = self.servers(&work)?;
                let spec = tool.spec();
                let new = NewJob {
                    tool: spec.name.clone(),
                    server: work.server.clone(),
                    bulk: is_bulk(&spec.name, &servers),
                    servers,
                    arguments: std::mem::take(&mut work.arguments),
                    caller: request.caller.to_string(),
                    origin: spec.origin.to_string(),
                    rappel: work.rappel,
                    idempotency_key: work.idempotency_key.clone(),
                    retry_of: None,
                    detach: work.detach,
                    withheld: work.withheld,
                    only_reads: work.only_reads,
                };
                match request.follows_tasks {
                    true => hybrid::run_as_task(&self.core, new, work, request).await,
                    false => hybrid::run(&self.core, new, work, request).await.map(Answer::Reply),
                }
            }
        }
    }

    /// The servers that a call about several is about; all must be known.
    fn servers(&self, work: &JobWork) -> Result<Vec<String>, Problem> {
        let one = work.server.as_slice();
        if work.servers.is_empty() || work.servers == one {
            Ok(one.to_vec())
        } else {
            self.core.servers.select(&work.servers)
        }
    }

    /// Trusts a host key from now on, as the person behind the caller says. `false`: it could not be done.
    pub async fn vouch(&self, caller: &str, line: &str) -> bool {
        let vouched = self.core.servers.vouch(&Call::new("host_key", caller), line).await;
        if let Err(problem) = &vouched {
            tracing::error!("a host key was not trusted: {}", problem.message);
        }
        vouched.is_ok()
    }

    /// What a server's login came to lately and only a person can answer.
    pub fn question(&self, id: &str) -> Option<Standing> {
        self.core.servers.question(id)
    }

    /// Hands over what the person behind the caller answered, for the next login that asks it. `false`: it came too late.
    pub async fn answer(&self, caller: &str, question: &Question, texts: Vec<Zeroizing<String>>) -> bool {
        self.core.servers.answer(&Call::new("login", caller), question, texts).await.is_ok()
    }

    /// The job that a client follows as a task, as it was last committed.
    pub async fn task(&self, id: &str) -> Result<AnyJob, Problem> {
        self.core.jobs.get(parse_id(id)?).await
    }

    /// What the job's call would have been answered, had its client waited for the end.
    pub fn outcome(job: AnyJob) -> Result<Reply, Problem> {
        hybrid::answer(job)
    }

    /// What a job that has not ended last said of itself.
    pub fn last_report(&self, id: JobId) -> Option<Report> {
        self.core.jobs.last_report(id)
    }

    /// Asks the job to stop, without waiting for its end.
    pub async fn stop_task(&self, id: &str) -> Result<(), Problem> {
        let id = parse_id(id)?;
        self.core.jobs.get(id).await?;
        self.core.jobs.ask_to_stop(id);
        Ok(())
    }

    /// How long a job is kept after its end.
    pub fn retention(&self) -> Duration {
        self.core.settings.history_retention
    }

    /// Runs a job's tool with its arguments once more, as the new job that `new` describes.
    pub(super) async fn retry(&self, new: NewJob, request: Request) -> Result<Reply, Problem> {
        let work = self.again(&new.tool, new.arguments.clone())?;
        let origin = self.spec(&new.tool).map(|spec| spec.origin.to_string()).unwrap_or_default();
        let caller = request.caller.to_string();
        let servers = self.servers(&work)?;
        let bulk = is_bulk(&new.tool, &servers);
        let (detach, withheld) = (work.detach, work.withheld);
        let new = NewJob { caller, origin, servers, bulk, detach, withheld, ..new };
        hybrid::run(&self.core, new, work, request).await
    }

    /// The work of a call that was recorded as a job.
    fn again(&self, tool: &str, recorded: Map<String, Value>) -> Result<JobWork, Problem> {
        let Some(known) = self.tools.get(tool) else { return Err(self.unknown(tool)) };
        match known.prepare(recorded)? {
            Work::Direct(_) => Err(Problem::invalid(format!("{tool} does not run as a job"))),
            Work::Job(work) => Ok(work),
        }
    }

    /// Says that there is no such tool, and which one may be meant.
    pub fn unknown(&self, name: &str) -> Problem {
        let shown: String = name.chars().take(64).collect();
        let hint = match self.nearest(name) {
            Some(near) => format!("Did you mean {near:?}? The tool `help` lists them all."),
            None => "The tool `help` lists all tools; `plugin_list` tells which plugins are off or failed.".to_owned(),
        };
        Problem::invalid(format!("there is no tool {shown:?}")).detail("tool", shown).hint(hint)
    }
}

/// Whether a job is long work on much at once, which waits for what somebody waits for.
fn is_bulk(tool: &str, servers: &[String]) -> bool {
    servers.len() > 1 || tool.starts_with("task_transfer")
}

/// Kept beside the families: a test compares it with what they register.
const CORE_NAMES: [&str; 21] = [
    "help",
    "plugin_list",
    "pool_stats",
    "queue_stats",
    "server_add",
    "server_list",
    "server_remove",
    "system_diagnostics",
    "task_cancel",
    "task_exec",
    "task_exec_interactive",
    "task_exec_sequence",
    "task_history",
    "task_logs",
    "task_output",
    "task_queue",
    "task_retry",
    "task_status",
    "task_transfer",
    "task_transfer_multi",
    "task_wait",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use super::*;
    use crate::audit::Audit;
    use crate::capability::{Http, Servers, Ways};
    use crate::config::Settings;
    use crate::http::Tls;
    use crate::inventory::Inventory;
    use crate::jobs::Jobs;
    use crate::logs;
    use crate::plugins::{Kept, Plugins, Setup};
    use crate::secrets::Vault;
    use crate::sftp::Commons;
    use crate::ssh::{HostKeys, Pool, PoolSettings};
    use crate::store::Store;
    use crate::tools::{Execution, Origin};

    async fn registry(directory: &std::path::Path) -> Arc<Registry> {
        let env = BTreeMap::from([("MCP_DATA_DIR".to_owned(), directory.display().to_string())]);
        let settings = Arc::new(Settings::from_sources(&env, &BTreeMap::new(), None).unwrap());
        let at = |name: &str| -> PathBuf { directory.join(name) };
        let store = Store::open(&at("orchestrator.redb")).unwrap();
        let vault = Vault::new(store.clone(), directory, None);
        let audit = Audit::open(&at("audit.jsonl")).unwrap();
        let kept = Kept::open(store.clone(), vault.clone()).await.unwrap();
        let pool = Pool::new(PoolSettings::from(&*settings), HostKeys::from_files(Vec::new()));
        let servers = Servers::new(
            Inventory::open(store.clone()).await.unwrap(),
            vault,
            pool,
            Ways::default(),
            audit.clone(),
            Commons::new(Vec::new(), &at(".")),
        );
        let jobs = Jobs::start(store.clone(), &settings).await.unwrap();
        let setup = Setup {
            bundled: &[],
            directory: at("plugins"),
            cache: at("cache"),
            configs: BTreeMap::new(),
            limits: settings.plugin_limits,
            reserved_tools: Registry::core_names(),
            http: Http::new(servers.clone(), Tls::new(None)),
            servers: servers.clone(),
            kept,
        };
        let plugins = Arc::new(Plugins::load(setup).await.unwrap());
        let logs = logs::start(directory, "error");
        Registry::new(Core::new(settings, store, jobs, servers, plugins, logs, audit))
    }

    #[tokio::test]
    async fn every_core_tool_has_a_reserved_name_and_a_full_description() {
        let directory = tempfile::tempdir().unwrap();
        let registry = registry(directory.path()).await;
        let names: BTreeSet<String> = registry.specs().map(|spec| spec.name.clone()).collect();
        assert_eq!(names, Registry::core_names());
        for spec in registry.specs() {
            assert_eq!(spec.origin, Origin::Core);
            assert!(!spec.title.is_empty() && !spec.description.is_empty(), "{}", spec.name);
            assert!(spec.output_schema.is_some(), "{}", spec.name);
            let properties = spec.input_schema["properties"].as_object().unwrap();
            for (argument, schema) in properties {
                assert!(schema.get("description").is_some(), "{}: {argument} is not described", spec.name);
            }
            let required: &[&str] = match spec.name.as_str() {
                "server_add" | "server_remove" => &["alias"],
                "task_exec" | "task_exec_interactive" => &["alias", "cmd"],
                "task_exec_sequence" => &["alias", "commands"],
                "task_transfer" => &["alias", "direction", "local", "remote"],
                "task_transfer_multi" => &["alias", "direction", "files"],
                "task_status" | "task_wait" | "task_output" | "task_cancel" | "task_retry" => &["id"],
                _ => &[],
            };
            let said = spec.input_schema.get("required").cloned().unwrap_or_else(|| serde_json::json!([]));
            assert_eq!(said, serde_json::json!(required), "{}", spec.name);
        }
    }

    #[tokio::test]
    async fn a_wrong_call_is_refused_before_a_job_exists() {
        let directory = tempfile::tempdir().unwrap();
        let registry = registry(directory.path()).await;
        assert_eq!(registry.spec("task_exec").unwrap().execution, Execution::Job);
        for arguments in [
            serde_json::json!({"alias": "web"}),
            serde_json::json!({"alias": "web", "cmd": " "}),
            serde_json::json!({"alias": "nowhere", "cmd": "id"}),
        ] {
            let request = Request {
                caller: "test".into(),
                cancel: CancellationToken::new(),
                entering: None,
                crowded: false,
                progress: Progress::default(),
                follows_tasks: false,
            };
            let arguments = arguments.as_object().unwrap().clone();
            registry.call("task_exec", arguments, request).await.unwrap_err();
        }
        assert_eq!(registry.core.jobs.stats().await.unwrap().total, 0);
        assert_eq!(registry.nearest("task_exe"), Some("task_exec"));
        assert_eq!(registry.nearest("zzz"), None);
    }
}
