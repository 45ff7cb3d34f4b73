//! A command while a big file moves on the same server: by the same program, and by OpenSSH's `sftp`, which shows what of it
//! is the machine's share.
//!
//! In turns with commands that have nothing beside them: what a machine makes of an idle second changes from one to the next.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::json;

use super::exec::add;
use super::transfer::{BIG, Bench, random_file};
use super::{Figure, compiled, spread};

const ROUNDS: usize = 4;
/// Of each round.
const IDLE: usize = 60;

/// Samples of one kind of neighbour, and of the same minutes without one.
#[derive(Default)]
struct Samples {
    idle: Vec<Duration>,
    busy: Vec<Duration>,
}

async fn command(bench: &Bench) -> Result<Duration> {
    let started = Instant::now();
    bench.program.call("task_exec", json!({"alias": "box", "cmd": "true"})).await?.ok()?;
    Ok(started.elapsed())
}

/// Runs commands until the neighbour is done.
async fn beside(bench: &Bench, neighbour: impl Future<Output = Result<Duration>>, samples: &mut Samples) -> Result<()> {
    for _ in 0..IDLE {
        samples.idle.push(command(bench).await?);
    }
    tokio::pin!(neighbour);
    loop {
        tokio::select! {
            done = &mut neighbour => return done.map(drop),
            time = command(bench) => samples.busy.push(time?),
        }
    }
}

pub async fn measure() -> Result<Vec<Figure>> {
    let (bench, known) = Bench::start().await?;
    let (known, port) = (known.path(), bench.sshd.port());
    add(&bench.program, &bench.sshd, port).await?;
    compiled(&bench.program, "box").await?;
    let big = bench.at("big");
    random_file(&big, BIG)?;
    let (mut up, mut down, mut by_sftp) = (Samples::default(), Samples::default(), Samples::default());
    for _ in 0..ROUNDS {
        let copy = bench.clear("copy")?;
        beside(&bench, bench.ours("upload", &big, &copy), &mut up).await?;
        let copy = bench.clear("copy")?;
        beside(&bench, bench.ours("download", &copy, &big), &mut down).await?;
        let copy = bench.clear("copy")?;
        let order = format!("put {} {}\n", big.display(), copy.display());
        beside(&bench, bench.sftp(known, port, &order), &mut by_sftp).await?;
    }
    bench.program.close().await?;
    let figure = |name, samples: &Samples| {
        let (idle, busy) = (spread(&samples.idle), spread(&samples.busy));
        if samples.busy.is_empty() {
            bail!("{name}: no command ended while the file moved");
        }
        let note = format!("median {:.1} ms against {:.1} ms", busy.median, idle.median);
        Ok(Figure::new(name, busy.median / idle.median, "of idle").note(note))
    };
    Ok(vec![
        figure("a command beside 512 MiB up", &up)?.target(1.3),
        figure("a command beside 512 MiB down", &down)?.target(1.3),
        figure("a command beside 512 MiB up by sftp", &by_sftp)?,
    ])
}
