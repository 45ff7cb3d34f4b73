//! `task_exec echo hi` through the program, and the same over a bare russh channel, in turns, on the same sshd.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use russh::ChannelMsg;
use russh::client::{self, Handle};
use russh::keys::{HashAlg, PrivateKeyWithHashAlg, PublicKeyOrCertificate, load_secret_key};
use serde_json::json;

use crate::client::{Client, Launch};
use crate::place::Place;
use crate::sshd::Sshd;

use super::{Figure, spread};

const WARM_UP: usize = 20;
const ROUNDS: usize = 200;

pub async fn measure() -> Result<Vec<Figure>> {
    let sshd = Sshd::start().await?;
    let place = Place::new()?;
    let program = Launch::new(&place).start().await?;
    add(&program, &sshd).await?;
    let bare = connect(&sshd).await?;
    let (mut through, mut direct) = (Vec::new(), Vec::new());
    for round in 0..WARM_UP + ROUNDS {
        let one = time_program(&program).await?;
        let other = time_bare(&bare).await?;
        if round >= WARM_UP {
            through.push(one);
            direct.push(other);
        }
    }
    program.close().await?;
    let (through, direct) = (spread(&through), spread(&direct));
    Ok(vec![
        Figure::new("warm task_exec", through.median, "ms")
            .note(format!("median of {ROUNDS}, p95 {:.2} ms", through.p95)),
        Figure::new("the same over a bare channel", direct.median, "ms").note(format!("p95 {:.2} ms", direct.p95)),
        Figure::new("what the program adds", through.median - direct.median, "ms")
            .target(1.0)
            .note(format!("{:.2} times the bare channel", through.median / direct.median)),
    ])
}

/// Registers the sshd as `box`.
pub(super) async fn add(program: &Client, sshd: &Sshd) -> Result<()> {
    let server = json!({
        "alias": "box", "host": "127.0.0.1", "port": sshd.port(), "user": sshd.user,
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

async fn time_bare(session: &Handle<Pinned>) -> Result<Duration> {
    let started = Instant::now();
    let mut channel = session.channel_open_session().await?;
    channel.exec(true, "echo hi").await?;
    channel.eof().await?;
    let (mut output, mut status) = (Vec::new(), None);
    while let Some(message) = channel.wait().await {
        match message {
            ChannelMsg::Data { data } => output.extend_from_slice(&data),
            ChannelMsg::ExitStatus { exit_status } => status = Some(exit_status),
            _ => {}
        }
    }
    let took = started.elapsed();
    ensure!(output == b"hi\n" && status == Some(0), "{output:?} {status:?}");
    Ok(took)
}

/// Accepts the one host key that the sshd has.
struct Pinned(String);

impl client::Handler for Pinned {
    type Error = russh::Error;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        Ok(match key {
            PublicKeyOrCertificate::PublicKey { key, .. } => key.fingerprint(HashAlg::Sha256).to_string() == self.0,
            PublicKeyOrCertificate::Certificate(_) => false,
        })
    }
}

async fn connect(sshd: &Sshd) -> Result<Handle<Pinned>> {
    let config = client::Config { nodelay: true, ..client::Config::default() };
    let mut session = client::connect(Arc::new(config), sshd.address, Pinned(sshd.fingerprint().to_owned())).await?;
    let key = load_secret_key(&sshd.client_key.path, None).context("reading the client key")?;
    let login = session.authenticate_publickey(&sshd.user, PrivateKeyWithHashAlg::new(Arc::new(key), None)).await?;
    ensure!(login.success(), "sshd refuses the key of the bench");
    Ok(session)
}
