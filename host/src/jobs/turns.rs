//! Whose turn it is: how many jobs are at work at once, in all and on one server, and who is next when one ends.
//!
//! First what somebody waits for, then bulk; among these the client with the fewest jobs at work, then the server with the
//! fewest, then who has waited longest. So neither a client nor a server that floods the queue holds up the others.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// After so many turns for what somebody waits for, one is for bulk if any can have it: it is slow, and never starved.
const BEFORE_BULK: u32 = 8;

/// What counts for a job's turn.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kind {
    /// Long work on much at once, such as a command on many servers.
    pub bulk: bool,
    pub caller: Arc<str>,
    /// A job about none or about several counts for no server.
    pub server: Option<Arc<str>>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub all: usize,
    pub per_server: usize,
}

impl Limits {
    /// A quarter of the places is kept from bulk, so that a short call finds one. With a single place there is no quarter.
    fn bulk(self) -> usize {
        self.all - self.all / 4
    }
}

/// The places at work and the queue before them. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Turns {
    limits: Limits,
    /// A plain mutex, held for a choice among groups.
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    running: usize,
    bulk: usize,
    by_caller: HashMap<Arc<str>, usize>,
    by_server: HashMap<Arc<str>, usize>,
    /// First come first served within a kind. There are as many kinds as clients times servers, and a queue of any length.
    waiting: BTreeMap<Kind, VecDeque<Waiting>>,
    /// Numbers whoever waits.
    next: u64,
    since_bulk: u32,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    /// Closed when the job was cancelled meanwhile.
    turn: oneshot::Sender<Place>,
}

/// A place at work; free again when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    turns: Turns,
    kind: Kind,
}

impl Turns {
    pub(super) fn new(limits: Limits) -> Turns {
        Turns { limits, state: Arc::default() }
    }

    /// A place, if there is one. Whoever waits could not have had it, so nobody is passed over.
    pub(super) fn try_take(&self, kind: &Kind) -> Option<Place> {
        let mut state = self.state();
        state.has_place(kind, self.limits).then(|| self.seat(&mut state, kind.clone()))
    }

    /// Waits for a place. Dropping the future gives the turn up.
    pub(super) async fn take(&self, kind: Kind) -> Option<Place> {
        let (turn, mine) = oneshot::channel();
        {
            let mut state = self.state();
            let number = state.next;
            state.next += 1;
            let queue = state.waiting.entry(kind).or_default();
            // Those that were cancelled while they waited; looked for ever more seldom, so that it costs nothing.
            if queue.len().is_power_of_two() {
                queue.retain(|waiting| !waiting.turn.is_closed());
            }
            queue.push_back(Waiting { number, turn });
        }
        self.serve();
        mine.await.ok()
    }

    /// Gives the free places to those whose turn it is.
    fn serve(&self) {
        loop {
            let mut state = self.state();
            let Some(kind) = state.choose(self.limits) else { return };
            let Some(waiting) = state.pop(&kind) else { continue };
            if waiting.turn.is_closed() {
                continue;
            }
            state.since_bulk = if kind.bulk { 0 } else { state.since_bulk.saturating_add(1) };
            let place = self.seat(&mut state, kind);
            // The lock goes first: a job that was cancelled just now leaves the place to be dropped here, which takes it.
            drop(state);
            let _ = waiting.turn.send(place);
        }
    }

    fn seat(&self, state: &mut State, kind: Kind) -> Place {
        state.running += 1;
        state.bulk += usize::from(kind.bulk);
        *state.by_caller.entry(Arc::clone(&kind.caller)).or_default() += 1;
        if let Some(server) = &kind.server {
            *state.by_server.entry(Arc::clone(server)).or_default() += 1;
        }
        Place { turns: self.clone(), kind }
    }

    fn free(&self, kind: &Kind) {
        let mut state = self.state();
        state.running = state.running.saturating_sub(1);
        state.bulk = state.bulk.saturating_sub(usize::from(kind.bulk));
        leave(&mut state.by_caller, &kind.caller);
        if let Some(server) = &kind.server {
            leave(&mut state.by_server, server);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.turns.free(&self.kind);
        self.turns.serve();
    }
}

impl State {
    fn has_place(&self, kind: &Kind, limits: Limits) -> bool {
        self.running < limits.all
            && (!kind.bulk || self.bulk < limits.bulk())
            && kind.server.as_ref().is_none_or(|server| count(&self.by_server, server) < limits.per_server)
    }

    /// The kind whose first one is next.
    fn choose(&self, limits: Limits) -> Option<Kind> {
        let bulk_first = self.since_bulk >= BEFORE_BULK;
        self.waiting
            .iter()
            .filter(|(kind, _)| self.has_place(kind, limits))
            .min_by_key(|(kind, queue)| {
                let on_server = kind.server.as_ref().map_or(0, |server| count(&self.by_server, server));
                let number = queue.front().map_or(u64::MAX, |waiting| waiting.number);
                (kind.bulk != bulk_first, count(&self.by_caller, &kind.caller), on_server, number)
            })
            .map(|(kind, _)| kind.clone())
    }

    fn pop(&mut self, kind: &Kind) -> Option<Waiting> {
        let queue = self.waiting.get_mut(kind)?;
        let first = queue.pop_front();
        if queue.is_empty() {
            self.waiting.remove(kind);
        }
        first
    }
}

fn count(counts: &HashMap<Arc<str>, usize>, name: &Arc<str>) -> usize {
    counts.get(name).copied().unwrap_or_default()
}

/// Names are forgotten with their last job, so that the counts do not grow with every client there ever was.
fn leave(counts: &mut HashMap<Arc<str>, usize>, name: &Arc<str>) {
    if let Some(count) = counts.get_mut(name) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use futures::future::BoxFuture;

    use super::*;

    fn kind(caller: &str, server: &str) -> Kind {
        Kind { bulk: false, caller: caller.into(), server: Some(server.into()) }
    }

    fn bulk(caller: &str, server: &str) -> Kind {
        Kind { bulk: true, ..kind(caller, server) }
    }

    fn turns(all: usize, per_server: usize) -> Turns {
        Turns::new(Limits { all, per_server })
    }

    /// A job that waits, under a name.
    struct Queued(&'static str, BoxFuture<'static, Option<Place>>);

    fn queue(turns: &Turns, name: &'static str, kind: Kind) -> Queued {
        let own = turns.clone();
        let mut waiting = async move { own.take(kind).await }.boxed();
        assert!((&mut waiting).now_or_never().is_none(), "{name} has a place at once");
        Queued(name, waiting)
    }

    /// The names in the order in which they get the one place that is handed on.
    fn order(mut place: Place, mut queued: Vec<Queued>) -> Vec<&'static str> {
        let mut names = Vec::new();
        loop {
            drop(place);
            let next =
                queued.iter_mut().enumerate().find_map(|(at, queued)| Some((at, (&mut queued.1).now_or_never()??)));
            let Some((at, given)) = next else { return names };
            names.push(queued.remove(at).0);
            place = given;
        }
    }

    #[test]
    fn one_kind_is_served_in_the_order_of_its_coming() {
        let turns = turns(1, 1);
        let place = turns.try_take(&kind("a", "web")).unwrap();
        let queued = ["1", "2", "3"].map(|name| queue(&turns, name, kind("a", "web"))).into();
        assert_eq!(order(place, queued), ["1", "2", "3"]);
        assert_eq!(turns.state().running, 0);
        assert!(turns.state().by_caller.is_empty() && turns.state().by_server.is_empty());
    }

    #[test]
    fn a_client_with_fewer_jobs_at_work_is_served_before_one_that_floods() {
        let turns = turns(3, 3);
        let _held = [turns.try_take(&kind("flood", "web")).unwrap(), turns.try_take(&kind("flood", "web")).unwrap()];
        let place = turns.try_take(&kind("flood", "web")).unwrap();
        let queued = vec![
            queue(&turns, "flood", kind("flood", "web")),
            queue(&turns, "flood too", kind("flood", "web")),
            queue(&turns, "other", kind("other", "web")),
        ];
        assert_eq!(order(place, queued), ["other", "flood", "flood too"]);
    }

    #[test]
    fn a_full_server_does_not_hold_up_the_others() {
        let turns = turns(10, 2);
        let _full = [turns.try_take(&kind("a", "slow")).unwrap(), turns.try_take(&kind("a", "slow")).unwrap()];
        assert!(turns.try_take(&kind("a", "slow")).is_none());
        let _waits = queue(&turns, "slow", kind("a", "slow"));
        assert!(turns.try_take(&kind("a", "quick")).is_some());
    }

    #[test]
    fn what_somebody_waits_for_goes_before_bulk_which_is_not_starved() {
        let turns = turns(1, 1);
        let place = turns.try_take(&kind("a", "web")).unwrap();
        let mut queued = vec![queue(&turns, "bulk", bulk("a", "web"))];
        queued.extend((0..10).map(|_| queue(&turns, "short", kind("a", "web"))));
        let order = order(place, queued);
        assert_eq!(order.iter().position(|name| *name == "bulk"), Some(BEFORE_BULK as usize), "{order:?}");
        assert_eq!(order.len(), 11);
    }

    #[test]
    fn bulk_leaves_a_quarter_of_the_places() {
        let turns = turns(4, 4);
        let bulks: Vec<_> = std::iter::from_fn(|| turns.try_take(&bulk("a", "web"))).collect();
        assert_eq!(bulks.len(), 3);
        assert!(turns.try_take(&kind("a", "web")).is_some());
    }

    #[test]
    fn who_gave_up_takes_no_place_and_no_memory() {
        let turns = turns(1, 1);
        let place = turns.try_take(&kind("a", "web")).unwrap();
        for _ in 0..1_000 {
            drop(queue(&turns, "gone", kind("a", "web")));
        }
        assert!(turns.state().waiting.values().map(VecDeque::len).sum::<usize>() <= 2);
        let last = queue(&turns, "last", kind("a", "web"));
        // Given the place and gone before it looked: the place is free again.
        drop(place);
        drop(last);
        assert!(turns.try_take(&kind("a", "web")).is_some());
    }
}
