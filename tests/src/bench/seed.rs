//! The same files through the Node project that this one replaces, in turns, on the same sshd. Nothing where it is not
//! installed.
//!
//! Its uploads are slow on the loopback, whose packets are of 64 KiB: Nagle's algorithm and delayed acknowledgements wait for
//! each other. So the big file is a small one here.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;

use super::exec::add;
use super::transfer::{Bench, SMALL_FILES, bytes_rate, files_rate, random_file, share, small_files};
use super::{Figure, compiled};
use crate::client::Client;
use crate::place::Place;
use crate::seed;

const BIG: usize = 16 << 20;
const ROUNDS: usize = 2;

async fn theirs(node: &Client, direction: &str, local: &Path, remote: &Path) -> Result<Duration> {
    let started = Instant::now();
    let arguments = json!({"alias": "box", "direction": direction, "local": local, "remote": remote, "force": true});
    let answer = node.request("tools/call", json!({"name": "task_transfer", "arguments": arguments})).await?;
    let text = answer["content"][0]["text"].as_str().unwrap_or_default();
    ensure!(answer["isError"] != true && !text.to_lowercase().contains("error"), "the Node project: {text}");
    Ok(started.elapsed())
}

pub async fn measure() -> Result<Vec<Figure>> {
    let (bench, _known) = Bench::start().await?;
    let sshd = &bench.sshd;
    let known = json!({"box": {
        "host": "127.0.0.1", "port": sshd.port(), "user": sshd.user, "keyPath": sshd.client_key.path,
    }});
    let place = Place::new()?;
    let Some(node) = seed::start(&place, &known).await? else {
        eprintln!("the Node project is not installed, so nothing is compared with it: cargo xtask compare");
        return Ok(Vec::new());
    };
    add(&bench.program, sshd, sshd.port()).await?;
    compiled(&bench.program, "box").await?;
    let (big, small) = (bench.at("big"), bench.at("small"));
    random_file(&big, BIG)?;
    small_files(&small, SMALL_FILES)?;
    let mut times = [vec![], vec![], vec![], vec![]];
    for _ in 0..ROUNDS {
        for (index, direction, here) in
            [(0, "upload", &big), (1, "download", &big), (2, "upload", &small), (3, "download", &small)]
        {
            let mut took = Vec::with_capacity(2);
            for ours in [true, false] {
                let copy = bench.clear("copy")?;
                let (local, remote) = if direction == "upload" { (here, &copy) } else { (&copy, here) };
                took.push(match ours {
                    true => bench.ours(direction, local, remote).await?,
                    false => theirs(&node, direction, local, remote).await?,
                });
                let whole = if here.is_dir() { copy.join("file0") } else { copy.clone() };
                ensure!(whole.exists(), "nothing has arrived as {}", whole.display());
            }
            if let (Some(times), [ours, theirs]) = (times.get_mut(index), took.as_slice()) {
                times.push((*ours, *theirs));
            }
        }
    }
    node.kill().await?;
    bench.program.close().await?;
    let (bytes, files) = (bytes_rate(BIG), files_rate(SMALL_FILES));
    let [up, down, small_up, small_down] = &times;
    Ok(vec![
        share("16 MiB up, by the Node project", up, 1.0, &bytes),
        share("16 MiB down, by the Node project", down, 1.0, &bytes),
        share("2,000 files up, by the Node project", small_up, 1.0, &files),
        share("2,000 files down, by the Node project", small_down, 1.0, &files),
    ])
}
