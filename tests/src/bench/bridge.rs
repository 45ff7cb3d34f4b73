//! What the bridge costs: a start with a running daemon, and a message through it beside one without it.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;

use crate::client::{Client, Launch};
use crate::daemon::Daemon;
use crate::place::Place;

use super::{Figure, spread};

const STARTS: usize = 20;
const WARM_UP: usize = 50;
const ROUNDS: usize = 1000;

pub async fn measure() -> Result<Vec<Figure>> {
    let (place, other) = (Place::new()?, Place::new()?);
    let _daemon = Daemon::of(&place);
    let cold = Instant::now();
    let bridged = Launch::new(&place).shared().start().await?;
    let cold = cold.elapsed();
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        let started = Instant::now();
        let client = Launch::new(&place).shared().start().await?;
        starts.push(started.elapsed());
        client.close().await?;
    }
    let alone = Launch::new(&other).start().await?;
    let (mut through, mut direct) = (Vec::new(), Vec::new());
    for round in 0..WARM_UP + ROUNDS {
        let one = ping(&bridged).await?;
        let two = ping(&alone).await?;
        if round >= WARM_UP {
            through.push(one);
            direct.push(two);
        }
    }
    let resident = super::size::resident_mb(bridged.pid())?;
    bridged.close().await?;
    alone.close().await?;
    let (starts, through, direct) = (spread(&starts), spread(&through), spread(&direct));
    Ok(vec![
        Figure::new("start to initialize, daemon running", starts.median, "ms").target(50.0).note(format!(
            "median of {STARTS}, p95 {:.1} ms; {:.1} ms with the daemon's own start",
            starts.p95,
            ms(cold)
        )),
        Figure::new("what the bridge adds to a message", through.median - direct.median, "ms").target(0.1).note(
            format!("ping: {:.3} ms through it, {:.3} ms without; {ROUNDS} in turns", through.median, direct.median),
        ),
        Figure::new("resident memory of a bridge", resident, "MB")
            .note("most of it is the program's own pages, shared"),
    ])
}

async fn ping(client: &Client) -> Result<Duration> {
    let started = Instant::now();
    client.request("ping", json!({})).await?;
    Ok(started.elapsed())
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
