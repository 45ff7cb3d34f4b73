//! Connections shared by all calls: reuse first, open more up to the limit, else wait in turn.
//!
//! Not the bookkeeping of who waits for what (`places`) and not what is done with a channel (`exec`).

mod channel;
mod fleet;
mod places;
mod asked;
mod settings;
mod stats;
mod spare;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::channel::{Opened, Trouble, Wanted};
use self::fleet::{Fleet, WARM_CONNECTIONS};
pub use self::places::Place;
use self::places::{Connection, Grant, Opening, Places};
pub use self::settings::{PoolSettings, Purpose};
pub use self::spare::Next;
use self::spare::Spare;
pub use self::stats::{ConnectionStats, ServerStats};
use super::answers::Answers;
use super::bounds::Bounds;
use super::error::{Endpoint, SshError, Step};
use super::forwarded::Forwarded;
use super::host_key::HostKeys;
use super::lease::Lease;
use super::session::{self, Session};
use super::target::Target;
use super::tuning::Tuning;
use crate::call::Call;
use crate::error::Problem;

/// A server that refuses channels on an idle connection is asked again for this long: it may be late in freeing old ones.
const REFUSAL_LIMIT: Duration = Duration::from_secs(10);
/// How often a call tries to connect.
const ATTEMPTS: u32 = 3;
/// Before the second attempt, give or take half of it; three times as long before the third.
const RETRY_PAUSE: Duration = Duration::from_millis(250);
/// How long a shutdown waits for goodbyes.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(2);

/// Transfers get connections of their own: on a shared one a command would wait behind megabytes. More than two don't make
/// them faster. Processes get as many, see [`Purpose::Processes`].
const FURTHER_CONNECTIONS: usize = 2;

/// The connections to all servers. Cheap to clone; the last clone that goes ends them.
#[derive(Clone)]
pub struct Pool(Arc<Inner>);

struct Inner {
    settings: PoolSettings,
    keys: HostKeys,
    answers: Answers,
    /// By alias and purpose. A plain lock: held for a look-up, never across an await.
    servers: Mutex<Servers>,
    fleet: Arc<Fleet>,
    /// The idle closer was started.
    closer: AtomicBool,
    /// Owns every task of the pool.
    tracker: TaskTracker,
    closed: CancellationToken,
}

type Servers = BTreeMap<(String, Purpose), Arc<Places<Session>>>;

impl Drop for Inner {
    fn drop(&mut self) {
        self.closed.cancel();
    }
}

impl Connection for Session {
    type Spare = Spare;

    fn is_closed(&self) -> bool {
        Session::is_closed(self)
    }

    fn is_personal(&self) -> bool {
        Session::is_personal(self)
    }
}

impl Pool {
    pub fn new(settings: PoolSettings, keys: HostKeys) -> Self {
        Pool(Arc::new(Inner {
            settings,
            keys,
            answers: Answers::default(),
            servers: Mutex::default(),
            fleet: Fleet::new(WARM_CONNECTIONS),
            closer: AtomicBool::new(false),
            tracker: TaskTracker::new(),
            closed: CancellationToken::new(),
        }))
    }

    /// What host keys are judged by.
    pub fn keys(&self) -> &HostKeys {
        &self.0.keys
    }

    fn servers(&self) -> MutexGuard<'_, Servers> {
        self.0.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn places(&self, alias: &str, purpose: Purpose) -> Arc<Places<Session>> {
        let mut servers = self.servers();
        let key = (alias.to_owned(), purpose);
        if let Some(places) = servers.get(&key) {
            return places.clone();
        }
        let settings = &self.0.settings;
        let (max, min) = match purpose {
            Purpose::Commands => (settings.max_connections, settings.min_connections),
            Purpose::Processes | Purpose::Transfers => (settings.max_connections.min(FURTHER_CONNECTIONS), 0),
        };
        let places = Arc::new(Places::new(alias, max, min, settings.connect_limit, self.0.fleet.clone()));
        servers.insert(key, places.clone());
        places
    }

    /// Those of one server, for every purpose.
    fn all_places(&self, alias: &str) -> Vec<Arc<Places<Session>>> {
        let of_server = |(key, places): (&(String, Purpose), &Arc<_>)| (key.0 == alias).then(|| Arc::clone(places));
        self.servers().iter().filter_map(of_server).collect()
    }

    /// Opens a session channel on a connection to `alias`. What failed on the way and may succeed a moment later is tried
    /// up to [`ATTEMPTS`] times: nothing was run yet, so nobody can tell but by the time it takes.
    ///
    /// `target` is asked for only when a new connection is made, so that secrets are resolved no earlier and no more often.
    /// Waits within the call's deadline and until it is cancelled; a new connection takes at most `connect_limit` of the
    /// settings. Dropping the future gives back whatever it held.
    pub async fn channel<F, T>(&self, alias: &str, purpose: Purpose, target: F, call: &Call) -> Result<Lease, SshError>
    where
        F: Fn() -> T,
        T: Future<Output = Result<Target, Problem>>,
    {
        let places = self.places(alias, purpose);
        let Opened { at, channel, place } = self.open_channel(&places, purpose, Wanted::Session, target, call).await?;
        Ok(Lease::new(at, channel, place, self.0.tracker.clone(), self.0.settings.far))
    }

    /// One more channel to a server, for work that goes on without it. Only where nobody has to wait for that, neither the
    /// caller nor others: see [`Places::offer`].
    pub async fn further_channel(&self, alias: &str, purpose: Purpose, call: &Call) -> Option<Lease> {
        let places = self.places(alias, purpose);
        let (place, at) = (places.offer()?, places.endpoint());
        match channel::open(&at, place, &Wanted::Session, &Bounds::of(call), &self.0).await {
            Ok(Opened { at, channel, place }) => {
                Some(Lease::new(at, channel, place, self.0.tracker.clone(), self.0.settings.far))
            }
            Err(Trouble::Refused { place, .. }) => {
                place.refused();
                None
            }
            Err(Trouble::Dead { place, .. }) => {
                places.forget(place.connection());
                None
            }
            Err(Trouble::Out(_) | Trouble::Unreachable(_)) => None,
        }
    }

    /// Has the server connect to a host as it knows it, over a connection to `alias` as [`channel`](Pool::channel) makes it.
    /// A server that does not connect is [`SshError::Forward`].
    pub async fn forward<F, T>(
        &self,
        alias: &str,
        target: F,
        host: &str,
        port: u16,
        call: &Call,
    ) -> Result<Forwarded, SshError>
    where
        F: Fn() -> T,
        T: Future<Output = Result<Target, Problem>>,
    {
        let (purpose, wanted) = (Purpose::Commands, Wanted::Tcp { host: host.to_owned(), port });
        let places = self.places(alias, purpose);
        let Opened { channel, place, .. } = self.open_channel(&places, purpose, wanted, target, call).await?;
        Ok(Forwarded::new(channel, place))
    }

    async fn open_channel<F, T>(
        &self,
        places: &Arc<Places<Session>>,
        purpose: Purpose,
        wanted: Wanted,
        target: F,
        call: &Call,
    ) -> Result<Opened, SshError>
    where
        F: Fn() -> T,
        T: Future<Output = Result<Target, Problem>>,
    {
        let mut attempts = 1;
        loop {
            match self.try_channel(places, purpose, &wanted, &target, call).await {
                Err(error) if attempts < ATTEMPTS && is_passing(&error) => {
                    // Calls that failed together don't come back together.
                    let pause = RETRY_PAUSE * 3u32.pow(attempts - 1);
                    let waited = sleep(pause.mul_f64(rand::random_range(0.5..1.5)));
                    if Bounds::of(call).step(&places.endpoint(), error.step(), waited).await.is_err() {
                        return Err(error);
                    }
                    attempts += 1;
                }
                Err(error @ (SshError::LeftAlone { .. } | SshError::Cancelled { .. })) => return Err(error),
                Err(source) if attempts > 1 => return Err(SshError::Tried { attempts, source: Box::new(source) }),
                result => return result,
            }
        }
    }

    async fn try_channel<F, T>(
        &self,
        places: &Arc<Places<Session>>,
        purpose: Purpose,
        wanted: &Wanted,
        target: &F,
        call: &Call,
    ) -> Result<Opened, SshError>
    where
        F: Fn() -> T,
        T: Future<Output = Result<Target, Problem>>,
    {
        if self.0.closed.is_cancelled() {
            return Err(SshError::PoolClosed { at: places.endpoint() });
        }
        self.start_closer();
        let bounds = Bounds::of(call);
        let mut refusals = Refusals::default();
        let mut again = false;
        loop {
            let place = match places.acquire(&bounds, again).await? {
                Grant::Place(place) => place,
                Grant::Failed(error) => return Err(error),
                Grant::Open(opening) => {
                    // In a box: connecting is rare, and its future ten times the size of all others of a call.
                    let opened = Box::pin(self.open(places, purpose, opening, target, &bounds));
                    match opened.await? {
                        Some(place) => place,
                        None => continue,
                    }
                }
            };
            let at = places.endpoint();
            let fresh = place.fresh;
            match channel::open(&at, place, wanted, &bounds, &self.0).await {
                Ok(opened) => return Ok(opened),
                Err(Trouble::Out(error)) => return Err(error),
                Err(Trouble::Unreachable(cause)) => return Err(unreachable(&at, wanted, cause)),
                Err(Trouble::Refused { place, cause }) => {
                    let others = place.refused();
                    tracing::debug!(alias = %at.alias, others, %cause, "the server refused a channel");
                    again = true;
                    if others == 0 {
                        refusals.wait(&at, cause, &bounds).await?;
                    }
                }
                // Nothing was run on it yet: the call goes on with another connection and nobody notices.
                Err(Trouble::Dead { place, cause }) => {
                    places.forget(place.connection());
                    drop(place);
                    tracing::debug!(alias = %at.alias, %cause, "a connection was found dead");
                    if fresh {
                        return Err(SshError::Lost { at, step: Step::Channel, cause: Arc::new(cause) });
                    }
                    again = true;
                }
            }
        }
    }

    /// Makes a new connection. `None`: it is no longer wanted, or a place on another one is to be waited for.
    async fn open<F, T>(
        &self,
        places: &Arc<Places<Session>>,
        purpose: Purpose,
        opening: Opening<Session>,
        target: &F,
        bounds: &Bounds,
    ) -> Result<Option<Place<Session>>, SshError>
    where
        F: Fn() -> T,
        T: Future<Output = Result<Target, Problem>>,
    {
        let made = async {
            let at = places.endpoint();
            if self.0.closed.is_cancelled() {
                return Err(SshError::PoolClosed { at });
            }
            let target = bounds
                .step(&at, Step::Resolve, target())
                .await?
                .map_err(|problem| SshError::Target(Box::new(problem)))?;
            places.set_endpoint(session::endpoint(&target));
            let settings = &self.0.settings;
            let tuning = Tuning {
                limit: settings.connect_limit,
                keep_alive: settings.keep_alive_interval,
                bulk: purpose == Purpose::Transfers,
            };
            session::connect(&target, &self.0.keys, &self.0.answers, tuning, bounds).await
        };
        match made.await {
            Ok(session) => match opening.opened(session) {
                Ok(place) => {
                    self.watch(places, place.connection());
                    Ok(Some(place))
                }
                // The server was closed or changed while we connected.
                Err(session) => {
                    self.0.tracker.spawn(async move { session.disconnect().await });
                    if self.0.closed.is_cancelled() {
                        Err(SshError::PoolClosed { at: places.endpoint() })
                    } else {
                        Ok(None)
                    }
                }
            },
            Err(error) => {
                let others = opening.failed(&error);
                tracing::debug!(%error, others, "no new connection");
                // Those whose call has ended don't wait on.
                if others
                    && !matches!(error, SshError::Cancelled { .. })
                    && bounds.deadline.is_none_or(|end| end > Instant::now())
                {
                    Ok(None)
                } else {
                    Err(error)
                }
            }
        }
    }

    /// Forgets a connection as soon as it ends, so that nobody is sent to it.
    fn watch(&self, places: &Arc<Places<Session>>, session: &Arc<Session>) {
        let (places, session) = (Arc::downgrade(places), Arc::downgrade(session));
        let closed = self.0.closed.clone();
        self.0.tracker.spawn(async move {
            // Held only while waiting for the end, which comes also when everybody else has dropped the session: its
            // stream is cut then, by the last owner but this one.
            let Some(ended) = session.upgrade().map(|session| session.ended()) else { return };
            tokio::select! {
                () = ended.cancelled() => {}
                () = closed.cancelled() => return,
            }
            if let (Some(places), Some(session)) = (places.upgrade(), session.upgrade()) {
                tracing::debug!(alias = %places.endpoint().alias, "a connection has ended");
                places.forget(&session);
            }
        });
    }

    /// Starts the task that closes idle connections, once.
    fn start_closer(&self) {
        if self.0.closer.swap(true, Ordering::Relaxed) {
            return;
        }
        let inner = Arc::downgrade(&self.0);
        let (fleet, closed) = (self.0.fleet.clone(), self.0.closed.clone());
        self.0.tracker.spawn(async move {
            tokio::select! {
                () = close_idle(inner, fleet) => {}
                () = closed.cancelled() => {}
            }
        });
    }

    /// Closes the connections to a server: it was removed, or its address or login was changed. Commands that run on them
    /// are lost.
    pub fn close(&self, alias: &str) {
        for session in self.all_places(alias).iter().flat_map(|places| places.clear()) {
            self.0.tracker.spawn(async move { session.disconnect().await });
        }
    }

    /// Has the next call connect at once, however often it failed before.
    pub fn forgive(&self, alias: &str) {
        self.all_places(alias).iter().for_each(|places| places.forgive());
    }

    /// Whether a live connection is there.
    pub fn is_connected(&self, alias: &str) -> bool {
        let is_up = |places: &Arc<Places<Session>>| places.usage().0.iter().any(|link| !link.connection.is_closed());
        self.all_places(alias).iter().any(is_up)
    }

    /// Says goodbye to every server and ends every task of the pool. Calls that come later are refused.
    pub async fn shutdown(&self) {
        self.0.closed.cancel();
        let servers: Vec<_> = std::mem::take(&mut *self.servers()).into_values().collect();
        for places in servers {
            places.close();
            for session in places.clear() {
                self.0.tracker.spawn(async move { session.disconnect().await });
            }
        }
        self.0.tracker.close();
        if tokio::time::timeout(SHUTDOWN_LIMIT, self.0.tracker.wait()).await.is_err() {
            tracing::debug!(tasks = self.0.tracker.len(), "connections did not end in time");
        }
    }

    /// The pool's tasks that have not ended.
    #[cfg(test)]
    pub(super) fn tasks(&self) -> usize {
        self.0.tracker.len()
    }
}

/// Whether a failure may be over in a moment: a server that restarts, one that limits connections for an instant
/// (MaxStartups), a connection that broke. A refused login is not, and a time-out has taken long enough.
fn is_passing(error: &SshError) -> bool {
    match error {
        SshError::Connect { cause, .. } => cause.kind() != std::io::ErrorKind::TimedOut,
        SshError::Handshake { .. } | SshError::Lost { .. } => error.is_retryable(),
        SshError::Jump { source, .. } => is_passing(source),
        _ => false,
    }
}

/// The server that we are logged in to does not connect any further.
fn unreachable(by: &Endpoint, wanted: &Wanted, cause: russh::Error) -> SshError {
    let (host, port) = match wanted {
        Wanted::Tcp { host, port } => (host.clone(), *port),
        Wanted::Session => Default::default(),
    };
    let at = Arc::new(Endpoint { alias: host.clone(), host, port });
    SshError::Forward { at, jump: by.alias.clone(), cause: Arc::new(cause) }
}

/// Refusals by a connection that has no channel at all.
#[derive(Default)]
struct Refusals {
    since: Option<Instant>,
    count: u32,
}

impl Refusals {
    /// Waits longer each time, and gives up in the end: such a server will never open one.
    async fn wait(&mut self, at: &Arc<Endpoint>, cause: russh::Error, bounds: &Bounds) -> Result<(), SshError> {
        let since = *self.since.get_or_insert_with(Instant::now);
        if since.elapsed() >= REFUSAL_LIMIT {
            return Err(SshError::ChannelRefused { at: at.clone(), cause: Arc::new(cause) });
        }
        let pause = Duration::from_millis(20 << self.count.min(5));
        self.count += 1;
        bounds.step(at, Step::Channel, sleep(pause)).await
    }
}

/// Closes connections that are idle for too long: sleeps until the next one is due, or until one falls idle.
async fn close_idle(inner: Weak<Inner>, fleet: Arc<Fleet>) {
    loop {
        let due = {
            let Some(inner) = inner.upgrade() else { return };
            let servers: Vec<_> =
                inner.servers.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
            let mut next: Option<Instant> = None;
            for places in servers {
                let (expired, due) = places.expire(inner.settings.idle_timeout);
                for session in expired {
                    inner.tracker.spawn(async move { session.disconnect().await });
                }
                next = match (next, due) {
                    (Some(next), Some(due)) => Some(next.min(due)),
                    (next, due) => next.or(due),
                };
            }
            next
        };
        match due {
            // Whatever falls idle meanwhile is due later than this.
            Some(due) => sleep_until(due).await,
            None => fleet.idle().await,
        }
    }
}
