//! The composition root: builds the parts of the program from the bottom up, and takes them down again.
//! Whom they serve, one client or many, is not known here.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{files, memory};
use crate::audit::Audit;
use crate::capability::{Http, Servers, Ways};
use crate::config::{Proxy, Settings};
use crate::http::Tls;
use crate::inventory::Inventory;
use crate::jobs::Jobs;
use crate::logs::Logs;
use crate::plugins::{self, Kept, Plugins, Setup};
use crate::secrets::Vault;
use crate::sftp::Commons;
use crate::ssh::{HostKeys, Pool, PoolSettings};
use crate::store::Store;
use crate::tools::{self, Core, Registry};

/// How long running work gets to end when the process has to.
const GRACE: Duration = Duration::from_secs(3);

/// The running parts that somebody outside must know.
pub struct Program {
    pub registry: Arc<Registry>,
    pub jobs: Jobs,
    pool: Pool,
    /// Compiles what is not compiled yet, and looks after the memory from then on.
    warming: JoinHandle<()>,
}

impl Program {
    /// Builds everything on the data directory, which no other process may have open.
    pub async fn build(settings: Arc<Settings>, logs: Logs) -> Result<Program> {
        files::allow_many();
        let at = |name: &str| settings.data_dir.join(name);
        let store = Store::open(&at("orchestrator.redb"))?;
        let vault = Vault::new(store.clone(), &settings.data_dir, settings.master_key.as_deref());
        let kept = Kept::open(store.clone(), vault.clone()).await.context("opening what plugins keep")?;
        let inventory = Inventory::open(store.clone()).await.context("reading the servers")?;
        let audit = Audit::open(&at("audit.jsonl"))?;
        let keys = HostKeys::new(&settings.data_dir, settings.host_keys, &settings.known_hosts);
        let pool = Pool::new(PoolSettings::from(&*settings), keys);
        let commons = Commons::new(settings.allowed_roots.clone(), &settings.data_dir);
        let servers = Servers::new(inventory, vault, pool.clone(), Ways::from(&*settings), audit.clone(), commons);
        let jobs = Jobs::start(store.clone(), &settings).await.context("recovering the jobs of an earlier process")?;
        let plugins = Plugins::load(Setup {
            bundled: plugins::bundled(),
            directory: at("plugins"),
            cache: at("cache"),
            configs: settings.plugins.clone(),
            limits: settings.plugin_limits,
            reserved_tools: Registry::core_names(),
            http: Http::new(servers.clone(), Tls::new(settings.ca_file.clone()))
                .beside_proxy(settings.proxy.as_ref().is_some_and(|proxy| *proxy != Proxy::Direct)),
            servers: servers.clone(),
            kept,
        })
        .await
        .context("starting the sandbox for plugins")?;
        let plugins = Arc::new(plugins);
        let core = Core::new(settings, store, jobs.clone(), servers, Arc::clone(&plugins), logs, audit);
        tools::reattach(&core).context("finding the detached jobs of an earlier process")?;
        let registry = Registry::new(core);
        // Compiles in the background what the cache does not hold, so that a first call need not wait for it.
        let warming = tokio::spawn(async move {
            plugins.warm_up().await;
            memory::give_back_from_now_on().await;
        });
        Ok(Program { registry, jobs, pool, warming })
    }

    /// Ends what runs, or marks it as interrupted, and closes every connection.
    pub async fn shutdown(self) {
        self.warming.abort();
        self.jobs.shutdown(GRACE).await;
        self.pool.shutdown().await;
    }
}

/// Fires `stop` when the system asks the process to end.
pub async fn stop_on_signal(stop: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::warn!("signals can't be caught: the process ends without taking leave when it is told to");
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("asked to end");
    stop.cancel();
}
