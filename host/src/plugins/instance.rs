//! One guest: what its store holds, what bounds it, and how a call of it is run and ended.
//! Not which plugin it is or what its failure is called: that is [`call`](super::call).

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, sleep_until, timeout};
use wasmtime::component::ResourceTable;
use wasmtime::{ResourceLimiter, Store, Trap, UpdateDeadline};
use wasmtime_wasi::{I32Exit, WasiCtx, WasiCtxView, WasiView};

use super::bindings::PluginPre;
use super::bindings::exports::orchestrator::plugin::tools::{Output, PluginInfo};
use super::bindings::orchestrator::plugin::types::Problem;
use super::error::Stopped;
use super::grants::Granted;
use super::imports::stdio::LogStream;
use super::imports::{http, kv, log, process, progress, secrets, servers, settings, ssh};
use super::kept::Namespace;
use super::one_line_of;
use super::sandbox::Sandbox;
use super::ticker::Stopwatch;
use crate::call::Call;
use crate::capability::{Http, Processes, Servers};

/// What one call from the guest to the host may carry; the largest legal one is a command with 1 MiB of input.
const TO_HOST: usize = 48 << 20;
/// How long the capability layer may take to stop what it is doing for a call that has ended.
const STOP_WAITING: Duration = Duration::from_secs(2);
/// How long a guest may compute after its deadline, so that it can still tell which step did not end in time.
const STOP_COMPUTING: Duration = Duration::from_millis(100);
/// Handles that a guest may hold: sleeps and streams of WASI. Each costs the host memory.
const MAX_HANDLES: usize = 10_000;
/// Elements of one table of a guest.
const MAX_TABLE: usize = 100_000;

/// What a guest is given: nothing but this.
#[derive(Clone)]
pub struct Capabilities {
    pub granted: Arc<Granted>,
    pub settings: Arc<str>,
    /// None while a plugin describes itself: then it has no capability at all.
    pub servers: Option<Servers>,
    /// None then, too.
    pub http: Option<Http>,
    /// And this.
    pub kept: Option<Namespace>,
    pub call: Call,
}

/// The data of a store: one context per import.
pub struct Guest {
    wasi: WasiCtx,
    table: ResourceTable,
    memory: Memory,
    stderr: LogStream,
    stdout: LogStream,
    pub settings: settings::Context,
    pub servers: servers::Context,
    pub ssh: ssh::Context,
    pub http: http::Context,
    pub kv: kv::Context,
    pub secrets: secrets::Context,
    pub progress: progress::Context,
    pub log: log::Context,
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// Counts the linear memory of a guest and remembers when it wanted more than it may have.
struct Memory {
    limit: usize,
    used: usize,
    exceeded: bool,
}

impl ResourceLimiter for Memory {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let used = self.used.saturating_add(desired.saturating_sub(current));
        if used > self.limit {
            self.exceeded = true;
            return Ok(false);
        }
        self.used = used;
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= MAX_TABLE)
    }
}

/// Why a call of a guest brought no output.
#[derive(Debug)]
pub enum Failure {
    /// The guest's own answer.
    Problem(Problem),
    /// The guest ended itself or did something that WebAssembly forbids. `stderr` is what it said last.
    Trap {
        reason: String,
        stderr: String,
    },
    Memory,
    Compute,
    Deadline,
    /// The deadline came before there was room for one more instance.
    NoRoom,
    Cancelled,
}

/// How the wait for a guest ended without its answer.
enum Ended {
    Error(wasmtime::Error),
    Deadline,
    Cancelled,
}

impl Sandbox {
    /// Asks a plugin what it is.
    pub async fn describe(&self, plugin: &PluginPre<Guest>, given: Capabilities) -> Result<PluginInfo, Failure> {
        let call = given.call.clone();
        let watch = Stopwatch::default();
        let _room = self.enter(&call).await?;
        let mut store = self.store(given, &watch, &Processes::default());
        let work = async {
            let guest = plugin.instantiate_async(&mut store).await?;
            guest.orchestrator_plugin_tools().call_describe(&mut store).await
        };
        let result = self.bounded(&call, &watch, work).await;
        result.map_err(|ended| failure(ended, store.data()))
    }

    /// Calls one tool of a plugin in a fresh instance. The answer comes when the processes of the call have ended, too.
    #[allow(clippy::ptr_arg, reason = "the generated bindings take &String")]
    pub async fn call(
        &self,
        plugin: &PluginPre<Guest>,
        given: Capabilities,
        tool: &String,
        arguments: &String,
    ) -> Result<Output, Failure> {
        let call = given.call.clone();
        let (watch, processes) = (Stopwatch::default(), Processes::default());
        let room = self.enter(&call).await?;
        let mut store = self.store(given, &watch, &processes);
        let work = async {
            let guest = plugin.instantiate_async(&mut store).await?;
            guest.orchestrator_plugin_tools().call_call(&mut store, tool, arguments).await
        };
        let result = self.bounded(&call, &watch, work).await;
        let answer = match result {
            // Words about a call that nobody wants any more are not worth more than that.
            Ok(Err(_)) if call.cancel.is_cancelled() => Err(Failure::Cancelled),
            Ok(answer) => {
                store.data().finish();
                answer.map_err(Failure::Problem)
            }
            Err(ended) => Err(failure(ended, store.data())),
        };
        // With the store go the processes that the guest did not drop.
        drop(store);
        drop(room);
        processes.ended().await;
        answer
    }

    fn store(&self, given: Capabilities, watch: &Stopwatch, processes: &Processes) -> Store<Guest> {
        let Capabilities { granted, settings, servers, http, kept, call } = given;
        let web = http::Web { http, servers: servers.clone(), kept: kept.clone() };
        let keeper = kv::Keeper { kept, call: call.clone(), watch: watch.clone() };
        let lines = log::Lines::new(&granted.plugin, &granted.version, call.job);
        let (stdout, stderr) = (LogStream::stdout(lines.clone()), LogStream::stderr(lines.clone()));
        let wasi = WasiCtx::builder()
            .stdout(stdout.clone())
            .stderr(stderr.clone())
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .build();
        let guest = Guest {
            wasi,
            table: ResourceTable::new(),
            memory: Memory { limit: self.limits.memory, used: 0, exceeded: false },
            stderr,
            stdout,
            settings: settings::Context { json: settings },
            servers: servers::Context { granted: granted.clone(), servers: servers.clone() },
            http: http::Context { granted: granted.clone(), web, call: call.clone(), watch: watch.clone() },
            ssh: ssh::Context {
                runner: ssh::Runner {
                    granted,
                    servers,
                    call: call.clone(),
                    watch: watch.clone(),
                    processes: processes.clone(),
                },
                held: process::Held::default(),
            },
            kv: kv::Context { keeper: keeper.clone() },
            secrets: secrets::Context { keeper },
            progress: progress::Context { call, done: 0.0 },
            log: log::Context { lines },
        };
        let mut store = Store::new(&self.engine, guest);
        store.limiter(|guest| &mut guest.memory);
        store.set_hostcall_fuel(TO_HOST);
        store.set_max_component_handles(MAX_HANDLES);
        store.set_epoch_deadline(1);
        let (watch, allowed) = (watch.clone(), self.limits.compute);
        store.epoch_deadline_callback(move |_| {
            // Yielding lets others run, and whoever waits for this call sees its deadline and its cancel token.
            if watch.used() > allowed { Err(Stopped::Compute.into()) } else { Ok(UpdateDeadline::Yield(1)) }
        });
        store
    }

    /// Waits until there is room for one more instance, which is kept until its store is gone: the allocator refuses one that
    /// comes before that.
    async fn enter(&self, call: &Call) -> Result<SemaphorePermit<'_>, Failure> {
        tokio::select! {
            biased;
            () = call.cancel.cancelled() => Err(Failure::Cancelled),
            room = self.room.acquire() => room.map_err(|_| Failure::Cancelled),
            () = until(call.deadline) => Err(Failure::NoRoom),
        }
    }

    /// Runs a guest until it answers, its deadline passes or its call is cancelled.
    ///
    /// A guest that waits in an import is left a moment in which the capability layer stops what it does on the server.
    async fn bounded<T>(
        &self,
        call: &Call,
        watch: &Stopwatch,
        work: impl Future<Output = wasmtime::Result<T>>,
    ) -> Result<T, Ended> {
        let _ticking = self.ticker.activate();
        let work = pin!(work);
        let mut work = pin!(watch.count(work));
        let cancelled = tokio::select! {
            biased;
            result = &mut work => return result.map_err(Ended::Error),
            () = call.cancel.cancelled() => true,
            () = until(call.deadline) => false,
        };
        let grace = match (watch.is_waiting(), cancelled) {
            (true, _) => STOP_WAITING,
            (false, true) => Duration::ZERO,
            (false, false) => STOP_COMPUTING,
        };
        match timeout(grace, work).await {
            // What it had by then.
            Ok(Ok(answer)) => Ok(answer),
            _ if cancelled => Err(Ended::Cancelled),
            Ok(result) => result.map_err(Ended::Error),
            Err(_) => Err(Ended::Deadline),
        }
    }
}

/// Waits for the deadline, for ever when there is none.
async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

impl Guest {
    /// Writes unfinished lines of the standard streams and returns the last ones of standard error.
    fn finish(&self) -> String {
        self.stdout.finish();
        self.stderr.finish()
    }
}

fn failure(ended: Ended, guest: &Guest) -> Failure {
    let stderr = guest.finish();
    let error = match ended {
        Ended::Error(error) => error,
        Ended::Deadline => return Failure::Deadline,
        Ended::Cancelled => return Failure::Cancelled,
    };
    match error.downcast_ref::<Stopped>() {
        Some(Stopped::Compute) => return Failure::Compute,
        Some(Stopped::Cancelled) => return Failure::Cancelled,
        None => {}
    }
    if guest.memory.exceeded {
        return Failure::Memory;
    }
    let reason = if let Some(trap) = error.downcast_ref::<Trap>() {
        trap.to_string().trim_start_matches("wasm trap: ").to_owned()
    } else if let Some(exit) = error.downcast_ref::<I32Exit>() {
        format!("it called exit({})", exit.0)
    } else {
        one_line_of(&error)
    };
    Failure::Trap { reason, stderr }
}
