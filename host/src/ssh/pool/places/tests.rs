//! The bookkeeping of places, with connections that are only numbers and time that is paused.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::call::Call;
use crate::ssh::Attempt;
use crate::ssh::question::tests::question;

#[derive(Default, Debug)]
struct Fake {
    closed: AtomicBool,
    asks: bool,
}

impl Connection for Fake {
    type Spare = &'static str;

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    fn is_personal(&self) -> bool {
        self.asks
    }
}

fn places(max: usize) -> Arc<Places<Fake>> {
    Arc::new(Places::new("web", max, 1, Duration::from_secs(20), Fleet::new(256)))
}

async fn acquire(places: &Arc<Places<Fake>>) -> Grant<Fake> {
    places.acquire(&Bounds::of(&Call::new("test", "test")), false).await.unwrap()
}

async fn opening(places: &Arc<Places<Fake>>) -> Opening<Fake> {
    let Grant::Open(opening) = acquire(places).await else { panic!("no permission to open") };
    opening
}

#[tokio::test(start_paused = true)]
async fn one_connection_is_opened_for_four_callers_and_another_for_the_fifth() {
    let places = places(5);
    let first = opening(&places).await;
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            tokio::spawn({
                let places = places.clone();
                async move { acquire(&places).await }
            })
        })
        .collect();
    tokio::task::yield_now().await;
    let second = opening(&places).await;
    let place = first.opened(Fake::default()).unwrap();
    let mut held = Vec::new();
    for waiter in waiting {
        let Grant::Place(place) = waiter.await.unwrap() else { panic!("no place") };
        held.push(place);
    }
    assert_eq!(places.usage().0[0].channels, 4);
    drop((place, held, second));
    assert_eq!(places.usage().0[0].channels, 0);
}

#[tokio::test(start_paused = true)]
async fn a_slow_connection_does_not_hold_up_those_who_wait_for_it() {
    let places = places(5);
    let _stalled = opening(&places).await;
    let started = Instant::now();
    let _own = opening(&places).await;
    assert_eq!(started.elapsed(), SLOW_CONNECT);
}

#[tokio::test(start_paused = true)]
async fn who_comes_first_is_served_first_and_who_leaves_is_passed_over() {
    let places = places(1);
    let place = opening(&places).await.opened(Fake::default()).unwrap();
    let mut held: Vec<Place<Fake>> = Vec::new();
    for _ in 0..3 {
        let Grant::Place(place) = acquire(&places).await else { panic!("no place") };
        held.push(place);
    }
    let (order, mut served) = tokio::sync::mpsc::channel(8);
    let mut waiting = Vec::new();
    for number in 0..3 {
        let (places, order) = (places.clone(), order.clone());
        waiting.push(tokio::spawn(async move {
            let grant = acquire(&places).await;
            order.send(number).await.unwrap();
            grant
        }));
        tokio::task::yield_now().await;
    }
    waiting[0].abort();
    let _ = (&mut waiting[0]).await;
    drop(place);
    assert_eq!(served.recv().await, Some(1));
    held.pop();
    assert_eq!(served.recv().await, Some(2));
}

#[tokio::test(start_paused = true)]
async fn what_goes_on_without_a_place_is_offered_one_only_while_half_are_free() {
    let places = places(1);
    assert!(places.offer().is_none(), "a connection would have been waited for");
    let _needed = opening(&places).await.opened(Fake::default()).unwrap();
    let offered = places.offer().unwrap();
    assert!(places.offer().is_none(), "half of the four places are taken");
    let held = [acquire(&places).await, acquire(&places).await];
    drop(offered);
    assert!(places.offer().is_none());
    drop(held);
    assert!(places.offer().is_some());
}

#[tokio::test(start_paused = true)]
async fn who_waits_behind_what_runs_on_is_given_a_further_channel_unless_the_server_refused_one() {
    let places = places(1);
    let mut held = vec![opening(&places).await.opened(Fake::default()).unwrap()];
    let started = Instant::now();
    for used in 2..=10 {
        let Grant::Place(place) = acquire(&places).await else { panic!("no place") };
        held.push(place);
        assert_eq!(started.elapsed(), SLOW_CONNECT * (used - 4_u32.min(used)), "{used}");
    }
    let patience = Duration::from_secs(30);
    let eleventh = tokio::time::timeout(patience, acquire(&places)).await;
    assert!(eleventh.is_err(), "OpenSSH allows ten");
    // One that was refused is not asked for again, until a minute has passed.
    assert_eq!(held.pop().unwrap().refused(), 9);
    let refused = Instant::now();
    let Grant::Place(_place) = acquire(&places).await else { panic!("no place") };
    assert!(refused.elapsed() >= Duration::from_secs(60), "{:?}", refused.elapsed());
}

#[tokio::test(start_paused = true)]
async fn refusals_lower_what_a_connection_is_given_and_success_raises_it_again() {
    let places = places(1);
    let first = opening(&places).await.opened(Fake::default()).unwrap();
    let Grant::Place(second) = acquire(&places).await else { panic!("no place") };
    let Grant::Place(third) = acquire(&places).await else { panic!("no place") };
    assert_eq!(third.refused(), 2);
    assert_eq!(places.usage().0[0].capacity, 2);
    for _ in 0..32 {
        second.succeeded();
    }
    assert_eq!(places.usage().0[0].capacity, 3);
    drop((first, second));
}

#[tokio::test(start_paused = true)]
async fn a_channel_opened_ahead_goes_to_the_next_caller() {
    let places = places(5);
    let first = opening(&places).await.opened(Fake::default()).unwrap();
    let other = opening_of_a_full(&places, &first).await;
    first.ahead().keep(|| "spare");
    assert_eq!(places.usage().0[0].ready, 1);
    first.ahead().keep(|| panic!("there is one already"));
    // The other connection is used less.
    let Grant::Place(mut next) = acquire(&places).await else { panic!("no place") };
    assert!(Arc::ptr_eq(next.connection(), first.connection()) && !Arc::ptr_eq(next.connection(), other.connection()));
    assert_eq!((next.spare.take(), places.usage().0[0].ready), (Some("spare"), 0));
}

/// A second connection with one place in use, while the first has two.
async fn opening_of_a_full(places: &Arc<Places<Fake>>, first: &Place<Fake>) -> Place<Fake> {
    let mut held = Vec::new();
    for _ in 0..3 {
        let Grant::Place(place) = acquire(places).await else { panic!("no place") };
        assert!(Arc::ptr_eq(place.connection(), first.connection()));
        held.push(place);
    }
    let other = opening(places).await.opened(Fake::default()).unwrap();
    held.truncate(1);
    other
}

#[tokio::test(start_paused = true)]
async fn a_channel_opened_ahead_that_was_not_used_is_kept_for_another() {
    let places = places(1);
    let first = opening(&places).await.opened(Fake::default()).unwrap();
    first.ahead().keep(|| "spare");
    let Grant::Place(given_up) = acquire(&places).await else { panic!("no place") };
    assert_eq!(places.usage().0[0].ready, 0);
    drop(given_up);
    assert_eq!(places.usage().0[0].ready, 1);
}

#[tokio::test(start_paused = true)]
async fn no_channel_is_opened_ahead_of_those_who_wait_or_beyond_what_the_server_allows() {
    let places = places(1);
    let first = opening(&places).await.opened(Fake::default()).unwrap();
    first.ahead().keep(|| "spare");
    first.ahead().refused();
    assert_eq!((places.usage().0[0].ready, places.usage().0[0].capacity), (0, 1));
    first.ahead().keep(|| panic!("the server allows one"));
    let waiting = tokio::spawn({
        let places = places.clone();
        async move { acquire(&places).await }
    });
    tokio::task::yield_now().await;
    for _ in 0..32 {
        first.succeeded();
    }
    assert_eq!(places.usage().0[0].capacity, 2);
    let Grant::Place(second) = waiting.await.unwrap() else { panic!("no place") };
    second.ahead().keep(|| panic!("the server allows two"));
    drop(first);
    second.ahead().keep(|| "spare");
    assert_eq!(places.usage().0[0].ready, 1);
}

#[tokio::test(start_paused = true)]
async fn a_channel_opened_ahead_for_nobody_is_given_back_and_its_connection_stays() {
    let places = places(5);
    let first = opening(&places).await.opened(Fake::default()).unwrap();
    first.ahead().keep(|| "spare");
    tokio::time::advance(SPARE_TIMEOUT * 2).await;
    assert_eq!(places.expire(SPARE_TIMEOUT * 5).1, None, "the connection is in use");
    drop(first);
    let (expired, due) = places.expire(SPARE_TIMEOUT * 5);
    assert_eq!((expired.len(), due), (0, Some(Instant::now() + SPARE_TIMEOUT)));
    assert_eq!(places.usage().0[0].ready, 1);
    tokio::time::advance(SPARE_TIMEOUT).await;
    let (expired, due) = places.expire(SPARE_TIMEOUT * 5);
    assert_eq!((expired.len(), due), (0, None));
    assert_eq!((places.usage().0.len(), places.usage().0[0].ready), (1, 0));
}

/// The failure of a login that came to a question.
fn asked() -> SshError {
    let question = Arc::new(question(&[("Code: ", false)]));
    let attempts = vec![Attempt::Questions(Arc::clone(&question))];
    SshError::Login { at: question.at.clone(), user: "ada".to_owned(), attempts, accepts: Vec::new() }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_asks_a_person_gets_one_connection_on_which_everybody_queues() {
    let places = places(5);
    assert!(!opening(&places).await.failed(&asked()), "nobody else is connecting: the caller is told");
    let only = opening(&places).await;
    let waiting: Vec<_> = (0..6)
        .map(|_| {
            tokio::spawn({
                let places = places.clone();
                async move { acquire(&places).await }
            })
        })
        .collect();
    tokio::time::advance(SLOW_CONNECT * 2).await;
    let mut held = vec![only.opened(Fake { asks: true, ..Fake::default() }).unwrap()];
    for waiter in waiting {
        let Grant::Place(place) = waiter.await.unwrap() else { panic!("a second connection was to be opened") };
        held.push(place);
    }
    assert_eq!(places.usage().0.len(), 1);
    // The next one asked nothing: the server has changed its mind.
    let gone = held[0].connection().clone();
    places.forget(&gone);
    held.push(opening(&places).await.opened(Fake::default()).unwrap());
    for _ in 1..places.usage().0[0].capacity {
        let Grant::Place(place) = acquire(&places).await else { panic!("no place") };
        held.push(place);
    }
    let _second = opening(&places).await;
}

#[tokio::test(start_paused = true)]
async fn who_was_asked_while_another_login_is_under_way_waits_for_that() {
    let places = places(5);
    let first = opening(&places).await;
    // Whoever waits for long opens a connection of his own.
    let second = opening(&places).await;
    assert!(second.failed(&asked()), "the other one may have the answer");
    assert!(!first.failed(&asked()));
}

#[tokio::test(start_paused = true)]
async fn a_server_keeps_its_idle_connection_only_while_there_are_few_over_all_servers() {
    let fleet = Fleet::new(2);
    let server = |alias| Arc::new(Places::new(alias, 5, 1, Duration::from_secs(20), fleet.clone()));
    let (first, second, third) = (server("first"), server("second"), server("third"));
    let timeout = SPARE_TIMEOUT * 5;
    for places in [&first, &second] {
        drop(opening(places).await.opened(Fake::default()).unwrap());
    }
    tokio::time::advance(timeout).await;
    assert_eq!((first.expire(timeout).0.len(), second.expire(timeout).0.len()), (0, 0));

    let busy = opening(&third).await.opened(Fake::default()).unwrap();
    assert_eq!(first.expire(timeout).0.len(), 1);
    assert_eq!(second.expire(timeout).0.len(), 0, "two are open again");
    drop(busy);
    assert_eq!(third.expire(timeout).1, None, "it is kept");
    drop(opening(&first).await.opened(Fake::default()).unwrap());
    let woken = tokio::time::timeout(Duration::from_secs(1), fleet.idle()).await;
    assert!(woken.is_ok(), "one of three fell idle, and nobody was told");
    let (expired, due) = third.expire(timeout);
    assert!(expired.is_empty() && due.is_some(), "three are open, and it is not looked at again: {due:?}");
    tokio::time::advance(timeout).await;
    assert_eq!(third.expire(timeout).0.len(), 1);
}
