//! Who may use which connection of one server, and who may open another: the pool's bookkeeping, without any I/O.
//!
//! One lock per server guards plain data and is never held across an await. Whoever has to wait stands in one queue, first
//! come, first served, and is handed what he waits for: a place on a connection, the permission to open a connection, or the
//! error that everybody got who waited for the same connection.

mod ahead;
mod capacity;
mod circuit;
mod opening;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

pub use self::ahead::Ahead;
use self::capacity::Capacity;
use self::circuit::Circuit;
pub use self::opening::Opening;
use super::fleet::{Counted, Fleet};
use crate::ssh::bounds::Bounds;
use crate::ssh::error::{Endpoint, SshError, Step};

/// A connection that takes longer to come up no longer keeps those who wait for it from opening their own. The same time
/// passes between two looks at whether a new connection may be tried again.
const SLOW_CONNECT: Duration = Duration::from_secs(2);
/// A channel opened ahead that nobody needed for this long is given back to the server.
const SPARE_TIMEOUT: Duration = Duration::from_secs(60);

/// What a pool shares.
pub trait Connection: Send + Sync + 'static {
    /// A channel that was opened ahead; dropping it gives it back to the server, and does nothing else that could wait.
    type Spare: Send + 'static;

    /// Known to be dead.
    fn is_closed(&self) -> bool;

    /// A person had to answer for it, as for any other to the same server.
    fn is_personal(&self) -> bool {
        false
    }
}

/// The connections of one server.
pub struct Places<C: Connection> {
    max: usize,
    min: usize,
    /// A time-out after this says something about the server, a shorter one only about a call.
    connect_limit: Duration,
    fleet: Arc<Fleet>,
    state: Mutex<State<C>>,
}

struct State<C: Connection> {
    links: Vec<Link<C>>,
    /// Connections that are being opened.
    opening: usize,
    capacity: Capacity,
    circuit: Circuit,
    /// The server asks a person at each login, as far as known.
    personal: bool,
    queue: VecDeque<Waiter<C>>,
    next: u64,
    /// Counted up by `clear`: what was begun before it is not taken in any more.
    epoch: u64,
    no_open_before: Option<Instant>,
    at: Arc<Endpoint>,
}

struct Link<C: Connection> {
    id: u64,
    connection: Arc<C>,
    used: usize,
    /// Opened ahead, at most one. It has a slot of its own at the server, so `used` and this stay within the capacity.
    spare: Option<C::Spare>,
    idle_since: Instant,
    _counted: Counted,
}

struct Waiter<C: Connection> {
    id: u64,
    reply: oneshot::Sender<Grant<C>>,
}

/// What a caller gets.
pub enum Grant<C: Connection> {
    Place(Place<C>),
    /// Open a connection.
    Open(Opening<C>),
    /// The connection that was waited for could not be opened.
    Failed(SshError),
}

/// One channel's place on a connection; given back when dropped.
pub struct Place<C: Connection> {
    places: Arc<Places<C>>,
    link: u64,
    connection: Arc<C>,
    /// Opened before it was needed: the place's own channel, if it is still good.
    pub spare: Option<C::Spare>,
    /// Taken from a connection that was opened for this caller just now.
    pub fresh: bool,
    held: bool,
}

/// How a connection is used.
pub struct Usage<C> {
    pub connection: Arc<C>,
    pub channels: usize,
    /// Opened ahead.
    pub ready: usize,
    pub capacity: usize,
    pub idle_since: Option<Instant>,
}

impl<C: Connection> Places<C> {
    pub fn new(alias: &str, max: usize, min: usize, connect_limit: Duration, fleet: Arc<Fleet>) -> Self {
        Places {
            max: max.max(1),
            min,
            connect_limit,
            fleet,
            state: Mutex::new(State {
                links: Vec::new(),
                opening: 0,
                capacity: Capacity::default(),
                circuit: Circuit::default(),
                personal: false,
                queue: VecDeque::new(),
                next: 0,
                epoch: 0,
                no_open_before: None,
                at: Arc::new(Endpoint { alias: alias.to_owned(), host: String::new(), port: 0 }),
            }),
        }
    }

    /// The data is plain counters, right at every moment: a panic elsewhere does not spoil it.
    fn lock(&self) -> MutexGuard<'_, State<C>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many connections there may be.
    pub fn max(&self) -> usize {
        self.max
    }

    /// The server as errors name it: with its address once somebody has connected.
    pub fn endpoint(&self) -> Arc<Endpoint> {
        self.lock().at.clone()
    }

    pub fn set_endpoint(&self, at: Arc<Endpoint>) {
        self.lock().at = at;
    }

    /// A place on a connection, or the permission to open one; waits in the queue where neither is free.
    /// `again` goes in front of those who wait: the caller had his turn and was refused by the server.
    pub async fn acquire(self: &Arc<Self>, bounds: &Bounds, again: bool) -> Result<Grant<C>, SshError> {
        let (id, mut receiver) = {
            let mut state = self.lock();
            if (state.queue.is_empty() || again)
                && let Some(place) = self.take(&mut state)
            {
                return Ok(Grant::Place(place));
            }
            let nobody_else = state.opening == 0 && !state.links.iter().any(|link| !link.connection.is_closed());
            if nobody_else && let Some(error) = state.circuit.refuses(&state.at, Instant::now()) {
                return Ok(Grant::Failed(error));
            }
            if self.wants_connection(&state, state.queue.len() + 1) {
                return Ok(Grant::Open(self.open(&mut state)));
            }
            let (reply, receiver) = oneshot::channel();
            state.next += 1;
            let id = state.next;
            let waiter = Waiter { id, reply };
            if again {
                state.queue.push_front(waiter)
            } else {
                state.queue.push_back(waiter)
            }
            (id, receiver)
        };
        let _leave = Leave { places: self, id };
        let at = self.endpoint();
        bounds
            .step(&at, Step::Pool, async {
                loop {
                    tokio::select! {
                        biased;
                        granted = &mut receiver => {
                            return granted.map_err(|_| SshError::PoolClosed { at: at.clone() });
                        }
                        () = sleep_until(Instant::now() + SLOW_CONNECT) => {
                            if let Some(opening) = self.lose_patience(id) {
                                return Ok(Grant::Open(opening));
                            }
                        }
                    }
                }
            })
            .await?
    }

    /// A place on a connection that is there, if half of all places are free and nobody waits: who holds places for what goes
    /// on without them must leave some to those who cannot begin without one.
    pub fn offer(self: &Arc<Self>) -> Option<Place<C>> {
        let mut state = self.lock();
        let used: usize = state.links.iter().map(|link| link.used).sum();
        if !state.queue.is_empty() || 2 * (used + state.opening) >= self.max * state.capacity.now {
            return None;
        }
        self.take(&mut state)
    }

    /// A free place: with a channel that was opened ahead, which saves a round trip, else on the connection that is used
    /// least, so that no channel shares more than it must.
    fn take(self: &Arc<Self>, state: &mut State<C>) -> Option<Place<C>> {
        let capacity = state.capacity.now;
        let free = state.links.iter_mut().filter(|link| link.used < capacity && !link.connection.is_closed());
        let link = free.min_by_key(|link| (link.spare.is_none(), link.used))?;
        link.used += 1;
        Some(Place {
            places: self.clone(),
            link: link.id,
            connection: link.connection.clone(),
            spare: link.spare.take(),
            fresh: false,
            held: true,
        })
    }

    fn may_open(&self, state: &State<C>) -> bool {
        let live = state.links.iter().filter(|link| !link.connection.is_closed()).count();
        // Each connection to a server that asks costs a person an answer: one has to do for everybody.
        let max = if state.personal { 1 } else { self.max };
        live + state.opening < max && state.no_open_before.is_none_or(|time| time <= Instant::now())
    }

    /// Whether so many waiting callers need one more connection than those that are being opened: each of these will serve
    /// its opener and `capacity - 1` others.
    fn wants_connection(&self, state: &State<C>, waiting: usize) -> bool {
        self.may_open(state) && waiting > state.opening * (state.capacity.now - 1)
    }

    fn open(self: &Arc<Self>, state: &mut State<C>) -> Opening<C> {
        state.opening += 1;
        Opening { places: self.clone(), epoch: state.epoch, held: true }
    }

    /// The waiter `id` has waited long: he may open his own connection, where there is room for one. Where there is none, and
    /// nobody has given anything back either, the connections are given one channel more.
    fn lose_patience(self: &Arc<Self>, id: u64) -> Option<Opening<C>> {
        let mut state = self.lock();
        if !self.may_open(&state) {
            let stuck = state.opening == 0 && state.links.iter().all(|link| link.idle_since.elapsed() >= SLOW_CONNECT);
            let stretched = stuck && state.capacity.stretch();
            drop(state);
            if stretched {
                self.serve();
            }
            return None;
        }
        let position = state.queue.iter().position(|waiter| waiter.id == id)?;
        state.queue.remove(position);
        Some(self.open(&mut state))
    }

    /// Hands out what is free, to the first in the queue first.
    fn serve(self: &Arc<Self>) {
        // What somebody who left at this moment was given; dropped only after the lock is released, since that takes it again.
        let mut undeliverable = Vec::new();
        {
            let mut state = self.lock();
            while !state.queue.is_empty() {
                let grant = if let Some(place) = self.take(&mut state) {
                    Grant::Place(place)
                } else if self.wants_connection(&state, state.queue.len()) {
                    Grant::Open(self.open(&mut state))
                } else {
                    break;
                };
                if let Some(waiter) = state.queue.pop_front()
                    && let Err(grant) = waiter.reply.send(grant)
                {
                    undeliverable.push(grant);
                }
            }
        }
        drop(undeliverable);
    }

    /// Whoever comes next may connect, however often it failed before.
    pub fn forgive(&self) {
        self.lock().circuit.succeeded();
    }

    /// Forgets a connection that is dead.
    pub fn forget(self: &Arc<Self>, connection: &Arc<C>) {
        let gone = {
            let mut state = self.lock();
            let position = state.links.iter().position(|link| Arc::ptr_eq(&link.connection, connection));
            position.map(|position| state.links.swap_remove(position))
        };
        drop(gone);
        self.serve();
    }

    /// Takes every connection out, for the caller to close. Those that wait go on to open new ones.
    pub fn clear(self: &Arc<Self>) -> Vec<Arc<C>> {
        let links = {
            let mut state = self.lock();
            state.epoch += 1;
            state.no_open_before = None;
            state.circuit.succeeded();
            state.personal = false;
            std::mem::take(&mut state.links)
        };
        self.serve();
        links.into_iter().map(|link| link.connection).collect()
    }

    /// Sends everybody away who waits.
    pub fn close(&self) {
        let queue = std::mem::take(&mut self.lock().queue);
        drop(queue);
    }

    /// Takes out the connections that were idle for `timeout`, but the last ones that are kept, and gives back channels that
    /// were opened ahead for nobody. Also says when to look again: whatever falls idle in the meantime is not due before.
    pub fn expire(&self, timeout: Duration) -> (Vec<Arc<C>>, Option<Instant>) {
        let now = Instant::now();
        let mut state = self.lock();
        let (expired, mut next) = self.expire_connections(&mut state, timeout, now);
        let patience = timeout.min(SPARE_TIMEOUT);
        for link in state.links.iter_mut().filter(|link| link.used == 0 && link.spare.is_some()) {
            let due = link.idle_since + patience;
            if due <= now {
                link.spare = None;
            } else {
                next = Some(next.map_or(due, |next| next.min(due)));
            }
        }
        (expired, next.map(|next| next.min(now + patience)))
    }

    fn expire_connections(
        &self,
        state: &mut State<C>,
        timeout: Duration,
        now: Instant,
    ) -> (Vec<Arc<C>>, Option<Instant>) {
        let mut expired = Vec::new();
        loop {
            if state.links.len() <= self.fleet.keeps(self.min) {
                return (expired, None);
            }
            let idle = state.links.iter().enumerate().filter(|(_, link)| link.used == 0);
            let Some((position, due)) =
                idle.map(|(index, link)| (index, link.idle_since + timeout)).min_by_key(|(_, due)| *due)
            else {
                return (expired, None);
            };
            if due > now {
                return (expired, Some(due));
            }
            expired.push(state.links.swap_remove(position).connection);
        }
    }

    pub fn usage(&self) -> (Vec<Usage<C>>, usize) {
        let state = self.lock();
        let usage = state.links.iter().map(|link| Usage {
            connection: link.connection.clone(),
            channels: link.used,
            ready: usize::from(link.spare.is_some()),
            capacity: state.capacity.now,
            idle_since: (link.used == 0).then_some(link.idle_since),
        });
        (usage.collect(), state.queue.len())
    }

    fn leave(self: &Arc<Self>, id: u64) {
        self.lock().queue.retain(|waiter| waiter.id != id);
    }
}

/// Takes a waiter out of the queue, however the waiting ends.
struct Leave<'a, C: Connection> {
    places: &'a Arc<Places<C>>,
    id: u64,
}

impl<C: Connection> Drop for Leave<'_, C> {
    fn drop(&mut self) {
        self.places.leave(self.id);
    }
}

impl<C: Connection> Place<C> {
    pub fn connection(&self) -> &Arc<C> {
        &self.connection
    }

    /// Gives the place back; `retire`: nobody gets a new place on this connection, which ends with its last channel.
    pub fn give_back(self, retire: bool) {
        if retire {
            self.places.forget(&self.connection);
        }
    }

    /// The server opened a channel on this place.
    pub fn succeeded(&self) {
        let grown = {
            let mut state = self.places.lock();
            let Some(used) = state.links.iter().find(|link| link.id == self.link).map(|link| link.used) else { return };
            let before = state.capacity.now;
            state.capacity.succeeded(used);
            state.capacity.now > before
        };
        if grown {
            self.places.serve();
        }
    }

    /// The server refused a channel on this place, which is given back. Returns how many other channels the connection had:
    /// with none at all, it is not this place that was one too many.
    pub fn refused(self) -> usize {
        let mut state = self.places.lock();
        let link = state.links.iter().find(|link| link.id == self.link);
        let others = link.map_or(0, |link| (link.used + usize::from(link.spare.is_some())).saturating_sub(1));
        state.capacity.refused(others);
        others
    }

    /// For opening the next channel while this one is in use.
    pub fn ahead(&self) -> Ahead<C> {
        Ahead { places: self.places.clone(), link: self.link, connection: self.connection.clone() }
    }
}

impl<C: Connection> Drop for Place<C> {
    fn drop(&mut self) {
        if !std::mem::take(&mut self.held) {
            return;
        }
        let idle = {
            let mut state = self.places.lock();
            let links = state.links.len();
            let Some(link) = state.links.iter_mut().find(|link| link.id == self.link) else { return };
            link.used = link.used.saturating_sub(1);
            link.idle_since = Instant::now();
            // Nobody has used it.
            if link.spare.is_none() {
                link.spare = self.spare.take();
            }
            link.used == 0 && (links > self.places.fleet.keeps(self.places.min) || link.spare.is_some())
        };
        self.places.serve();
        if idle {
            self.places.fleet.fell_idle();
        }
    }
}

#[cfg(test)]
mod tests;
