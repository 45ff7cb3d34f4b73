//! Process start to the first answers, with what an earlier start left behind and without.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;

use crate::client::Launch;
use crate::place::Place;

use super::{Figure, spread};

const WARM: usize = 20;
const COLD: usize = 7;

pub async fn measure() -> Result<Vec<Figure>> {
    let place = Place::new()?;
    let first = Launch::new(&place).start().await?;
    first.list_tools().await?;
    // A call compiles the plugin and fills the cache, whether there is such a server or not.
    first.call("get_system_resources", json!({"alias": "none"})).await?;
    first.close().await?;

    let mut warm = Vec::new();
    for _ in 0..WARM {
        let started = Instant::now();
        let client = Launch::new(&place).start().await?;
        warm.push(started.elapsed());
        client.close().await?;
    }
    let mut cold: Vec<Duration> = Vec::new();
    for _ in 0..COLD {
        let place = Place::new()?;
        let started = Instant::now();
        let client = Launch::new(&place).start().await?;
        client.list_tools().await?;
        cold.push(started.elapsed());
        client.close().await?;
    }
    let (warm, cold) = (spread(&warm), spread(&cold));
    Ok(vec![
        Figure::new("start to initialize, warm cache", warm.median, "ms")
            .target(50.0)
            .note(format!("median of {WARM}, p95 {:.1} ms; the Node peers need 335–450 ms", warm.p95)),
        Figure::new("first start to tools/list, no cache", cold.median, "ms")
            .note(format!("median of {COLD}, p95 {:.1} ms; nothing waits for compilation", cold.p95)),
    ])
}
