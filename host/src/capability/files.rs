//! Files to and from servers, for core tools: who may is asked here, and what was done is written down here.

use std::sync::Arc;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};

use super::{Argv, Servers};
use crate::call::Call;
use crate::error::Problem;
use crate::sftp::{self, FileError, Local, Meter, Options, Outcome, Reach, Remote};
use crate::ssh::{Lease, Purpose};

/// How many items of one call are transferred at the same time.
const AT_ONCE: usize = 8;

/// Where files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// This machine.
    Here,
    /// The server of that alias.
    Server(String),
}

/// What goes where, both as the user wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    pub from: String,
    pub to: String,
}

/// What came of each pair, in their order.
type Outcomes = Vec<Result<Outcome, FileError>>;

impl Servers {
    /// Transfers each pair from one place to the other; at least one of them is a server.
    ///
    /// `Err` is for what concerns all of them. Cancelling leaves nothing unfinished behind.
    pub async fn transfer(
        &self,
        call: &Call,
        (from, to): (&Place, &Place),
        pairs: Vec<Pair>,
        options: Options,
    ) -> Result<Outcomes, Problem> {
        let what = describe(&pairs, options);
        let (download, upload) = match (from, to) {
            (Place::Here, Place::Here) => {
                return Err(Problem::invalid("a transfer needs a server at one of its ends"));
            }
            (Place::Server(source), Place::Server(target)) => (Some(source), Some(target)),
            (Place::Server(source), Place::Here) => (Some(source), None),
            (Place::Here, Place::Server(target)) => (None, Some(target)),
        };
        let (servers, through) = (self.clone(), call.clone());
        let ends = (download.cloned(), upload.cloned());
        let act = self.parts().bulk.run(async move { servers.copy(&through, ends, pairs, options).await });
        let act = async {
            match upload {
                Some(target) => self.audited(call, Some(target), "upload", Some(what.clone()), act, failures).await,
                None => act.await,
            }
        };
        match download {
            Some(source) => self.audited(call, Some(source), "download", Some(what.clone()), act, failures).await,
            None => act.await,
        }
    }

    async fn copy(
        &self,
        call: &Call,
        (source, target): (Option<String>, Option<String>),
        pairs: Vec<Pair>,
        options: Options,
    ) -> Result<Outcomes, Problem> {
        match (source, target) {
            (Some(source), Some(target)) => {
                let (source, target) = self.reach_both(call, &source, &target).await?;
                self.each(call, source, target, pairs, options).await
            }
            (Some(source), None) => {
                let source = self.reach(call, &source).await?;
                self.each(call, source, self.here(), pairs, options).await
            }
            (None, Some(target)) => {
                let target = self.reach(call, &target).await?;
                self.each(call, self.here(), target, pairs, options).await
            }
            (None, None) => Ok(Vec::new()),
        }
    }

    fn here(&self) -> Arc<Local> {
        Arc::new(self.parts().commons.local.clone())
    }

    /// Everybody asks for two servers in the same order: otherwise those who hold one of them and those who hold the other
    /// could wait for each other for ever.
    async fn reach_both(&self, call: &Call, from: &str, to: &str) -> Result<(Arc<Remote>, Arc<Remote>), Problem> {
        let first = self.reach(call, from.min(to)).await?;
        let second = if from == to { first.clone() } else { self.reach(call, from.max(to)).await? };
        Ok(if from <= to { (first, second) } else { (second, first) })
    }

    async fn reach(&self, call: &Call, alias: &str) -> Result<Arc<Remote>, Problem> {
        let door = Door { servers: self.clone(), alias: alias.to_owned(), call: call.clone() };
        let connecting = Remote::open(alias, Arc::new(door));
        let remote = tokio::select! {
            remote = connecting => remote?,
            () = call.cancel.cancelled() => {
                return Err(Problem::new(crate::error::Code::Cancelled, "the transfer was cancelled before it began"));
            }
        };
        Ok(Arc::new(remote))
    }

    async fn each<S: sftp::Files, T: sftp::Files>(
        &self,
        call: &Call,
        source: Arc<S>,
        target: Arc<T>,
        pairs: Vec<Pair>,
        options: Options,
    ) -> Result<Outcomes, Problem> {
        let commons = &self.parts().commons;
        let meter = Arc::new(Meter::new(call.progress.clone()));
        let running = pairs.into_iter().map(async |pair| {
            let ends = ((source.clone(), pair.from.as_str()), (target.clone(), pair.to.as_str()));
            sftp::run(ends.0, ends.1, options, commons, meter.clone(), &call.cancel).await
        });
        let outcomes: Outcomes = stream::iter(running).buffered(AT_ONCE).collect().await;
        match outcomes.iter().find_map(|outcome| outcome.as_ref().err().filter(|error| error.concerns_all())) {
            Some(error) => Err(error.clone().into()),
            None => Ok(outcomes),
        }
    }
}

/// For the audit line.
fn describe(pairs: &[Pair], options: Options) -> String {
    let pairs: Vec<String> = pairs.iter().map(|pair| format!("{} -> {}", pair.from, pair.to)).collect();
    format!("{}{}", if options.dry_run { "dry run: " } else { "" }, pairs.join(", "))
}

/// As an exit code would say it: 1 if anything failed.
fn failures(outcomes: &Outcomes) -> Option<String> {
    let failed = |outcome: &Result<Outcome, FileError>| !outcome.as_ref().is_ok_and(|outcome| outcome.failures == 0);
    outcomes.iter().any(failed).then(|| "exit 1".to_owned())
}

/// The way to one server for one call.
struct Door {
    servers: Servers,
    alias: String,
    call: Call,
}

impl Reach for Door {
    fn channel(&self) -> BoxFuture<'_, Result<Lease, Problem>> {
        async {
            let servers = &self.servers;
            let server = servers.find(&self.alias)?;
            let pool = &servers.parts().pool;
            let lease = pool.channel(&self.alias, Purpose::Transfers, || servers.target(&server), &self.call).await?;
            // From here on files may change, so the job must be on disk.
            self.call.recorded.wait().await?;
            Ok(lease)
        }
        .boxed()
    }

    fn further(&self) -> BoxFuture<'_, Option<Lease>> {
        self.servers.parts().pool.further_channel(&self.alias, Purpose::Transfers, &self.call).boxed()
    }

    fn output(&self, program: &'static str, args: Vec<String>) -> BoxFuture<'_, Result<Option<Vec<u8>>, Problem>> {
        async move {
            let argv = Argv { program: program.to_owned(), args, ..Argv::default() };
            match self.servers.capture(&self.call, &self.alias, argv, 4096).await {
                Ok(captured) if captured.finished.exit_code == Some(0) => Ok(Some(captured.stdout)),
                // A login that may only use SFTP cannot run programs: there are other ways.
                Ok(_) => Ok(None),
                Err(problem) if problem.code == crate::error::Code::Cancelled => Err(problem),
                Err(_) => Ok(None),
            }
        }
        .boxed()
    }
}
