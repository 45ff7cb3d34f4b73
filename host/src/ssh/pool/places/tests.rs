//! The bookkeeping of places, with connections that are only numbers and time that is paused.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::call::Call;

#[derive(Default, Debug)]
struct Fake(AtomicBool);

impl Connection for Fake {
    fn is_closed(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

fn places(max: usize) -> Arc<Places<Fake>> {
    Arc::new(Places::new("web", max, 1, Arc::new(Notify::new())))
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
