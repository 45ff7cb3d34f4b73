//! `task_exec echo hi` through the program, and the same over a bare russh channel, in turns, on the same sshd.

use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use russh::ChannelMsg;
use russh::client::{self, Handle};
use russh::keys::{HashAlg, PrivateKeyWithHashAlg, PublicKeyOrCertificate, load_secret_key};
use serde_json::json;

use crate::client::{Client, Launch};
use crate::far::Far;
use crate::place::Place;
use crate::sshd::Sshd;

use super::{Figure, compiled, spread};

const WARM_UP: usize = 20;
const ROUNDS: usize = 200;

/// What one commit of a job's state writes, as `strace` shows it.
const PAGES: usize = 11;
const PAGE: usize = 4096;
const FILE_PAGES: usize = 1024;

/// Round trips as they are within a continent, across an ocean, and round the world.
const ROUND_TRIPS: [(&str, &str, u64); 3] = [
    ("task_exec at 20 ms round trip", "the same over a bare channel at 20 ms", 20),
    ("task_exec at 50 ms round trip", "the same over a bare channel at 50 ms", 50),
    ("task_exec at 150 ms round trip", "the same over a bare channel at 150 ms", 150),
];
const FAR_ROUNDS: usize = 15;

/// A far server: the command's own time is what a near one takes, so what is left is the way.
pub async fn measure_far() -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (name, bare_name, millis) in ROUND_TRIPS {
        let sshd = Sshd::start().await?;
        let near = connect(&sshd, sshd.address).await?;
        let far = Far::start(sshd.address, Duration::from_millis(millis)).await?;
        let place = Place::new()?;
        let program = Launch::new(&place).start().await?;
        add(&program, &sshd, far.address.port()).await?;
        compiled(&program, "box").await?;
        let bare = connect(&sshd, far.address).await?;
        let (mut through, mut direct, mut own) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..2 + FAR_ROUNDS {
            let times = (time_program(&program).await?, time_bare(&bare).await?, time_bare(&near).await?);
            if round >= 2 {
                through.push(times.0);
                direct.push(times.1);
                own.push(times.2);
            }
        }
        program.close().await?;
        let (through, direct, own) = (spread(&through).median, spread(&direct).median, spread(&own).median);
        let trips = |time: f64| (time - own) / millis as f64;
        figures.push(
            Figure::new(name, trips(through), "round trips")
                .target(1.4)
                .note(format!("{through:.1} ms, of which {own:.1} ms are the command's own")),
        );
        figures.push(Figure::new(bare_name, trips(direct), "round trips").note(format!("{direct:.1} ms")));
    }
    Ok(figures)
}

pub async fn measure() -> Result<Vec<Figure>> {
    let sshd = Sshd::start().await?;
    let (program, place) = started(&sshd, Place::new()?).await?;
    // What is left without a disk is the program's own.
    let diskless = match Place::in_memory()? {
        Some(memory) => Some(started(&sshd, memory).await?),
        None => None,
    };
    let bare = connect(&sshd, sshd.address).await?;
    let (mut through, mut alone, mut direct) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..WARM_UP + ROUNDS {
        let times = (time_program(&program).await?, time_bare(&bare).await?);
        let without = match &diskless {
            Some((diskless, _)) => Some(time_program(diskless).await?),
            None => None,
        };
        if round >= WARM_UP {
            through.push(times.0);
            direct.push(times.1);
            alone.extend(without);
        }
    }
    program.close().await?;
    let syncs = spread(&time_commits(&place.data(), Duration::from_secs_f64(spread(&direct).median / 1000.0))?).median;
    let (through, direct) = (spread(&through), spread(&direct));
    let mut figures = vec![
        Figure::new("warm task_exec", through.median, "ms")
            .note(format!("median of {ROUNDS}, p95 {:.2} ms", through.p95)),
        Figure::new("the same over a bare channel", direct.median, "ms").note(format!("p95 {:.2} ms", direct.p95)),
        Figure::new("what the program adds", through.median - direct.median, "ms")
            .target(1.0)
            .note(format!("{:.2} times the bare channel", through.median / direct.median)),
        Figure::new("of which this disk syncs two commits", syncs, "ms")
            .note(format!("twice {PAGES} pages and fdatasync, {:.2} times the bare channel", syncs / direct.median)),
    ];
    if let Some((diskless, _place)) = diskless {
        diskless.close().await?;
        let alone = spread(&alone).median;
        figures.extend([
            Figure::new("the same without a disk, by a bare channel", alone / direct.median, "of its time")
                .target(1.15)
                .note(format!("{alone:.2} ms with the data directory in memory")),
            Figure::new("what the disk adds, by the two syncs", (through.median - alone) / syncs, "of their time")
                .target(1.0)
                .note(format!("{:.2} ms", through.median - alone)),
        ]);
    }
    Ok(figures)
}

/// A program that knows the sshd as `box` and has all its plugins compiled.
pub(super) async fn started(sshd: &Sshd, place: Place) -> Result<(Client, Place)> {
    let program = Launch::new(&place).start().await?;
    add(&program, sshd, sshd.port()).await?;
    compiled(&program, "box").await?;
    Ok((program, place))
}

/// What the disk alone takes for the two commits of a job: as many pages, as scattered, as the database writes. A command's
/// time is waited in between: a disk and a processor that are asleep take longer than busy ones.
pub(super) fn time_commits(folder: &Path, pause: Duration) -> Result<Vec<Duration>> {
    let mut file = tempfile::tempfile_in(folder)?;
    file.write_all(&vec![0; PAGE * FILE_PAGES])?;
    file.sync_data()?;
    let page = [1; PAGE];
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        let mut took = Duration::ZERO;
        for commit in 0..2 {
            std::thread::sleep(pause);
            let started = Instant::now();
            for number in 0..PAGES {
                // Steps of a prime number visit every page and no two neighbours.
                let place = ((round * 2 + commit) * PAGES + number) * 37 % FILE_PAGES;
                file.write_all_at(&page, (place * PAGE) as u64)?;
            }
            file.sync_data()?;
            took += started.elapsed();
        }
        times.push(took);
    }
    Ok(times)
}

/// Registers the sshd as `box`, at a port of its own or of a proxy.
pub(super) async fn add(program: &Client, sshd: &Sshd, port: u16) -> Result<()> {
    let server = json!({
        "alias": "box", "host": "127.0.0.1", "port": port, "user": sshd.user,
        "keyPath": sshd.client_key.path, "hostKey": sshd.fingerprint(),
    });
    program.call("server_add", server).await?.ok()?;
    Ok(())
}

async fn time_program(program: &Client) -> Result<Duration> {
    let started = Instant::now();
    let call = json!({"name": "task_exec", "arguments": {"alias": "box", "cmd": "echo hi"}});
    let answer = program.request("tools/call", call).await?;
    let took = started.elapsed();
    ensure!(answer["structuredContent"]["stdout"] == "hi\n", "{answer}");
    Ok(took)
}

pub(super) async fn time_bare(session: &Handle<Pinned>) -> Result<Duration> {
    let (took, output, status) = run_bare(session, "echo hi").await?;
    ensure!(output == b"hi\n" && status == Some(0), "{output:?} {status:?}");
    Ok(took)
}

/// A command over a channel of its own: how long it took, what it printed and how it ended.
pub(super) async fn run_bare(session: &Handle<Pinned>, command: &str) -> Result<(Duration, Vec<u8>, Option<u32>)> {
    let started = Instant::now();
    let mut channel = session.channel_open_session().await?;
    channel.exec(true, command).await?;
    channel.eof().await?;
    let (mut output, mut status) = (Vec::new(), None);
    while let Some(message) = channel.wait().await {
        match message {
            ChannelMsg::Data { data } => output.extend_from_slice(&data),
            ChannelMsg::ExitStatus { exit_status } => status = Some(exit_status),
            _ => {}
        }
    }
    Ok((started.elapsed(), output, status))
}

/// Accepts the one host key that the sshd has.
pub(super) struct Pinned(String);

impl client::Handler for Pinned {
    type Error = russh::Error;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        Ok(match key {
            PublicKeyOrCertificate::PublicKey { key, .. } => key.fingerprint(HashAlg::Sha256).to_string() == self.0,
            PublicKeyOrCertificate::Certificate(_) => false,
        })
    }
}

pub(super) async fn connect(sshd: &Sshd, address: SocketAddr) -> Result<Handle<Pinned>> {
    log_in(address, sshd.fingerprint(), &sshd.user, &sshd.client_key.path).await
}

/// A connection that nobody has logged in on.
pub(super) async fn reach(address: SocketAddr, host_key: &str) -> Result<Handle<Pinned>> {
    let config = client::Config { nodelay: true, ..client::Config::default() };
    Ok(client::connect(Arc::new(config), address, Pinned(host_key.to_owned())).await?)
}

pub(super) async fn log_in(address: SocketAddr, host_key: &str, user: &str, key: &Path) -> Result<Handle<Pinned>> {
    let mut session = reach(address, host_key).await?;
    let key = load_secret_key(key, None).context("reading the client key")?;
    let login = session.authenticate_publickey(user, PrivateKeyWithHashAlg::new(Arc::new(key), None)).await?;
    ensure!(login.success(), "sshd refuses the key of the bench");
    Ok(session)
}
