//! Whose turn it is: how many jobs are at work at once, in all and on one server, and who is next when one ends.
//!
//! First what somebody waits for, then bulk; among these the client with the fewest jobs at work, then the server with the
//! fewest, then who has waited longest. So neither a client nor a server that floods the queue holds up the others.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::store::Haste;

use super::queue::NewJob;

/// After so many turns for what somebody waits for, one is for bulk if any can have it: it is slow, and never starved.
const BEFORE_BULK: u32 = 8;

/// With so many jobs on a server, at work and before it, each takes so long that its number per second is what counts.
const CROWD: usize = 32;

/// What counts for a job's turn.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kind {
    /// Long work on much at once, such as a command on many servers.
    pub bulk: bool,
    pub caller: Arc<str>,
    /// A job about several counts for each of them, one about none for no server.
    pub servers: Arc<[Arc<str>]>,
}

impl Kind {
    pub(super) fn of(job: &NewJob) -> Kind {
        let servers = job.server.iter().chain(&job.servers).map(|name| name.as_str().into());
        let servers: std::collections::BTreeSet<Arc<str>> = servers.collect();
        Kind { bulk: job.bulk, caller: job.caller.as_str().into(), servers: servers.into_iter().collect() }
    }
}

/// Somebody who waits for a turn.
pub(super) trait Waiter: Sized {
    /// `false` once the turn is not wanted any more.
    fn is_waiting(&self) -> bool;
    /// It is this one's turn. Gives the place back if it is not wanted any more.
    fn begin(self, place: Place<Self>) -> Option<Place<Self>>;
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
#[derive(Debug)]
pub(super) struct Turns<W> {
    limits: Limits,
    /// A plain mutex, held for a choice among groups.
    state: Arc<Mutex<State<W>>>,
}

#[derive(Debug)]
struct State<W> {
    running: usize,
    bulk: usize,
    by_caller: HashMap<Arc<str>, usize>,
    by_server: HashMap<Arc<str>, usize>,
    /// First come first served within a kind. There are as many kinds as clients times servers, and a queue of any length.
    waiting: BTreeMap<Kind, VecDeque<Waiting<W>>>,
    /// Numbers whoever waits.
    next: u64,
    since_bulk: u32,
}

struct Waiting<W> {
    number: u64,
    who: W,
}

impl<W> std::fmt::Debug for Waiting<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "#{}", self.number)
    }
}

/// A place at work; free again when it is dropped.
#[derive(Debug)]
pub(super) struct Place<W: Waiter> {
    turns: Turns<W>,
    /// `None` once it was given back.
    kind: Option<Kind>,
}

impl<W> Clone for Turns<W> {
    fn clone(&self) -> Self {
        Turns { limits: self.limits, state: Arc::clone(&self.state) }
    }
}

impl<W: Waiter> Turns<W> {
    pub(super) fn new(limits: Limits) -> Turns<W> {
        let state = State {
            running: 0,
            bulk: 0,
            by_caller: HashMap::new(),
            by_server: HashMap::new(),
            waiting: BTreeMap::new(),
            next: 0,
            since_bulk: 0,
        };
        Turns { limits, state: Arc::new(Mutex::new(state)) }
    }

    /// A place, if there is one. Whoever waits could not have had it, so nobody is passed over.
    pub(super) fn try_take(&self, kind: &Kind) -> Option<Place<W>> {
        let mut state = self.state();
        state.has_place(kind, self.limits).then(|| self.seat(&mut state, kind.clone()))
    }

    /// Lets somebody wait for a place, who has one when this returns if there is one.
    pub(super) fn wait(&self, kind: Kind, who: W) {
        {
            let mut state = self.state();
            let number = state.next;
            state.next += 1;
            let queue = state.waiting.entry(kind).or_default();
            // Those that were cancelled while they waited; looked for ever more seldom, so that it costs nothing.
            if queue.len().is_power_of_two() {
                queue.retain(|waiting| waiting.who.is_waiting());
            }
            queue.push_back(Waiting { number, who });
        }
        self.serve();
    }

    /// Gives the free places to those whose turn it is.
    fn serve(&self) {
        loop {
            let mut state = self.state();
            let Some(kind) = state.choose(self.limits) else { return };
            let Some(waiting) = state.pop(&kind) else { continue };
            let since_bulk = state.since_bulk;
            state.since_bulk = if kind.bulk { 0 } else { since_bulk.saturating_add(1) };
            let place = self.seat(&mut state, kind);
            // The lock goes first: what begins may want it.
            drop(state);
            if let Some(place) = waiting.who.begin(place) {
                // Cancelled while it waited. Not dropped, which would serve the next one inside of this turn, and so on.
                self.state().since_bulk = since_bulk;
                place.give_back();
            }
        }
    }

    /// How urgent what is committed for a job is: not urgent in a crowd, which waits for its server and not for our disk.
    pub(super) fn haste(&self, kind: &Kind) -> Haste {
        if self.state().is_crowded(kind) { Haste::Soon } else { Haste::Now }
    }

    fn seat(&self, state: &mut State<W>, kind: Kind) -> Place<W> {
        state.running += 1;
        state.bulk += usize::from(kind.bulk);
        *state.by_caller.entry(Arc::clone(&kind.caller)).or_default() += 1;
        for server in kind.servers.iter() {
            *state.by_server.entry(Arc::clone(server)).or_default() += 1;
        }
        Place { turns: self.clone(), kind: Some(kind) }
    }

    fn free(&self, kind: &Kind) {
        let mut state = self.state();
        state.running = state.running.saturating_sub(1);
        state.bulk = state.bulk.saturating_sub(usize::from(kind.bulk));
        leave(&mut state.by_caller, &kind.caller);
        for server in kind.servers.iter() {
            leave(&mut state.by_server, server);
        }
    }

    fn state(&self) -> MutexGuard<'_, State<W>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W: Waiter> Place<W> {
    /// As that of [`Turns`], for the one who has this place.
    pub(super) fn haste(&self) -> Haste {
        self.kind.as_ref().map_or(Haste::Now, |kind| self.turns.haste(kind))
    }

    /// Frees the place and leaves it to the caller who is next.
    fn give_back(mut self) {
        if let Some(kind) = self.kind.take() {
            self.turns.free(&kind);
        }
    }
}

impl<W: Waiter> Drop for Place<W> {
    fn drop(&mut self) {
        if let Some(kind) = self.kind.take() {
            self.turns.free(&kind);
            self.turns.serve();
        }
    }
}

impl<W> State<W> {
    fn has_place(&self, kind: &Kind, limits: Limits) -> bool {
        self.running < limits.all
            && (!kind.bulk || self.bulk < limits.bulk())
            && kind.servers.iter().all(|server| count(&self.by_server, server) < limits.per_server)
    }

    fn is_crowded(&self, kind: &Kind) -> bool {
        let waiting = self.waiting.get(kind).map_or(0, VecDeque::len);
        kind.servers.iter().any(|server| count(&self.by_server, server) + waiting >= CROWD)
    }

    /// The kind whose first one is next.
    fn choose(&self, limits: Limits) -> Option<Kind> {
        let bulk_first = self.since_bulk >= BEFORE_BULK;
        self.waiting
            .iter()
            .filter(|(kind, _)| self.has_place(kind, limits))
            .min_by_key(|(kind, queue)| {
                let on_server = kind.servers.iter().map(|server| count(&self.by_server, server)).max().unwrap_or(0);
                let number = queue.front().map_or(u64::MAX, |waiting| waiting.number);
                (kind.bulk != bulk_first, count(&self.by_caller, &kind.caller), on_server, number)
            })
            .map(|(kind, _)| kind.clone())
    }

    fn pop(&mut self, kind: &Kind) -> Option<Waiting<W>> {
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
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn kind(caller: &str, server: &str) -> Kind {
        on(caller, &[server])
    }

    fn on(caller: &str, servers: &[&str]) -> Kind {
        let servers = servers.iter().map(|name| Arc::from(*name)).collect();
        Kind { bulk: false, caller: caller.into(), servers }
    }

    fn bulk(caller: &str, server: &str) -> Kind {
        Kind { bulk: true, ..kind(caller, server) }
    }

    fn turns(all: usize, per_server: usize) -> Turns<Arc<Queued>> {
        Turns::new(Limits { all, per_server })
    }

    /// A job that waits, under a name.
    struct Queued {
        name: &'static str,
        gone: AtomicBool,
        place: Mutex<Option<Seat>>,
    }

    type Seat = Place<Arc<Queued>>;

    impl Queued {
        fn place(&self) -> Option<Seat> {
            self.place.lock().unwrap().take()
        }

        fn give_up(&self) {
            self.gone.store(true, Ordering::SeqCst);
        }
    }

    impl Waiter for Arc<Queued> {
        fn is_waiting(&self) -> bool {
            !self.gone.load(Ordering::SeqCst)
        }

        fn begin(self, place: Seat) -> Option<Seat> {
            if !self.is_waiting() {
                return Some(place);
            }
            *self.place.lock().unwrap() = Some(place);
            None
        }
    }

    fn queue(turns: &Turns<Arc<Queued>>, name: &'static str, kind: Kind) -> Arc<Queued> {
        let queued = Arc::new(Queued { name, gone: AtomicBool::new(false), place: Mutex::default() });
        turns.wait(kind, Arc::clone(&queued));
        assert!(queued.place.lock().unwrap().is_none(), "{name} has a place at once");
        queued
    }

    /// The names in the order in which they get the one place that is handed on.
    fn order(mut place: Seat, mut queued: Vec<Arc<Queued>>) -> Vec<&'static str> {
        let mut names = Vec::new();
        loop {
            drop(place);
            let next = queued.iter().enumerate().find_map(|(at, queued)| Some((at, queued.place()?)));
            let Some((at, given)) = next else { return names };
            names.push(queued.remove(at).name);
            place = given;
        }
    }

    #[test]
    fn nothing_is_urgent_in_a_crowd_on_one_server() {
        let turns = turns(100, 20);
        let mut places: Vec<Seat> = (0..20).map_while(|_| turns.try_take(&kind("a", "web"))).collect();
        assert_eq!(places.last().unwrap().haste(), Haste::Now);
        let _queued: Vec<_> = (20..CROWD).map(|_| queue(&turns, "one more", kind("a", "web"))).collect();
        assert_eq!(places.last().unwrap().haste(), Haste::Soon);
        assert_eq!(turns.haste(&kind("a", "web")), Haste::Soon);
        assert_eq!(turns.haste(&kind("a", "db")), Haste::Now, "a server with nothing to do");
        places.clear();
        assert_eq!(turns.haste(&kind("a", "web")), Haste::Now);
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
            queue(&turns, "gone", kind("a", "web")).give_up();
        }
        assert!(turns.state().waiting.values().map(VecDeque::len).sum::<usize>() <= 2);
        queue(&turns, "last", kind("a", "web")).give_up();
        // Whoever is called and gone leaves the place to the next one, or free.
        drop(place);
        assert!(turns.try_take(&kind("a", "web")).is_some());
        assert!(turns.state().waiting.is_empty());
    }

    #[test]
    fn very_many_who_gave_up_are_passed_over_one_by_one() {
        let turns = turns(1, 1);
        let place = turns.try_take(&kind("a", "web")).unwrap();
        let queued: Vec<_> = (0..100_000).map(|_| queue(&turns, "gone", kind("a", "web"))).collect();
        queued.iter().for_each(|queued| queued.give_up());
        let last = queue(&turns, "last", kind("a", "web"));
        drop(place);
        assert!(last.place().is_some());
    }

    #[test]
    fn a_job_on_several_servers_counts_for_each_of_them() {
        let turns = turns(10, 2);
        let both = turns.try_take(&on("a", &["web", "db"])).unwrap();
        let one = turns.try_take(&kind("a", "db")).unwrap();
        assert!(turns.try_take(&kind("b", "db")).is_none(), "the job on both is one of the two");
        let waits = queue(&turns, "both", on("b", &["web", "db"]));
        assert!(turns.try_take(&kind("b", "web")).is_some());
        drop(one);
        assert!(waits.place().is_some());
        drop(both);
        assert!(turns.state().by_server.is_empty(), "{:?}", turns.state().by_server);
    }
}
