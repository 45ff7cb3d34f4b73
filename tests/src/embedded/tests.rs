//! The embedded server seen through russh's own client: it must be right before anything else is tested against it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use russh::client::{self, Handle};
use russh::keys::{PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh::{ChannelMsg, Sig};

use super::*;

struct Anything;

impl client::Handler for Anything {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _key: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        Ok(true)
    }
}

struct Run {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    status: Option<u32>,
    signal: Option<Sig>,
}

async fn server() -> Result<(Embedded, PrivateKey)> {
    let key = new_key()?;
    let accounts =
        Accounts { user: "ada".into(), password: Some("engine".into()), keys: vec![key.public_key().clone()] };
    Ok((Embedded::start(accounts).await?, key))
}

async fn connect(server: &Embedded) -> Result<Handle<Anything>> {
    Ok(client::connect(Arc::default(), server.address, Anything).await?)
}

async fn login(server: &Embedded) -> Result<Handle<Anything>> {
    let mut session = connect(server).await?;
    assert!(session.authenticate_password("ada", "engine").await?.success());
    Ok(session)
}

async fn run<H: client::Handler>(session: &Handle<H>, command: &str, stdin: &[u8], signal: Option<Sig>) -> Result<Run> {
    let mut channel = session.channel_open_session().await?;
    channel.exec(true, command).await?;
    channel.data(stdin).await?;
    channel.eof().await?;
    let mut run = Run { stdout: vec![], stderr: vec![], status: None, signal: None };
    while let Some(message) = channel.wait().await {
        match message {
            ChannelMsg::Success => {
                if let Some(signal) = signal.clone() {
                    channel.signal(signal).await?;
                }
            }
            ChannelMsg::Data { data } => run.stdout.extend_from_slice(&data),
            ChannelMsg::ExtendedData { data, .. } => run.stderr.extend_from_slice(&data),
            ChannelMsg::ExitStatus { exit_status } => run.status = Some(exit_status),
            ChannelMsg::ExitSignal { signal_name, .. } => run.signal = Some(signal_name),
            _ => {}
        }
    }
    Ok(run)
}

#[tokio::test]
async fn a_command_gets_its_input_and_both_outputs_come_back_with_the_status() -> Result<()> {
    let (server, _) = server().await?;
    let session = login(&server).await?;
    let run = run(&session, "tr a-z A-Z; echo aside >&2; exit 7", b"hello", None).await?;
    assert_eq!(run.stdout, b"HELLO");
    assert_eq!(run.stderr, b"aside\n");
    assert_eq!(run.status, Some(7));
    assert_eq!(server.seen().commands.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_large_output_arrives_whole() -> Result<()> {
    let (server, _) = server().await?;
    let session = login(&server).await?;
    let run = run(&session, "head -c 9000000 /dev/zero", b"", None).await?;
    assert_eq!(run.stdout.len(), 9_000_000);
    assert_eq!(run.status, Some(0));
    Ok(())
}

#[tokio::test]
async fn a_key_logs_in_and_anything_else_is_refused() -> Result<()> {
    let (server, key) = server().await?;
    let with = |key: PrivateKey| PrivateKeyWithHashAlg::new(Arc::new(key), None);
    let mut session = connect(&server).await?;
    assert!(!session.authenticate_password("ada", "wrong").await?.success());
    assert!(!session.authenticate_publickey("ada", with(new_key()?)).await?.success());
    assert!(!session.authenticate_publickey("eve", with(key.clone())).await?.success());
    assert!(session.authenticate_publickey("ada", with(key)).await?.success());
    Ok(())
}

#[tokio::test]
async fn a_signal_ends_the_whole_command() -> Result<()> {
    let (server, _) = server().await?;
    let session = login(&server).await?;
    let run = run(&session, "sleep 60; true", b"", Some(Sig::TERM)).await?;
    assert!(matches!(run.signal, Some(Sig::TERM)), "{:?} {:?}", run.status, run.signal);
    Ok(())
}

#[tokio::test]
async fn logins_are_refused_on_demand() -> Result<()> {
    let (server, _) = server().await?;
    server.set_faults(Faults { refuse_logins: true, ..Faults::default() });
    let mut session = connect(&server).await?;
    assert!(!session.authenticate_password("ada", "engine").await?.success());
    server.set_faults(Faults::default());
    assert!(session.authenticate_password("ada", "engine").await?.success());
    assert_eq!(server.seen().logins, [("password", false), ("password", true)]);
    Ok(())
}

#[tokio::test]
async fn every_step_can_stall() -> Result<()> {
    for stall in [Stall::Banner, Stall::Login, Stall::Channel, Stall::Exec] {
        let (server, _) = server().await?;
        server.set_faults(Faults { stall: Some(stall), ..Faults::default() });
        let whole = async {
            let session = login(&server).await?;
            run(&session, "true", b"", None).await
        };
        assert!(tokio::time::timeout(Duration::from_millis(500), whole).await.is_err(), "{stall:?} does not stall");
    }
    Ok(())
}

#[tokio::test]
async fn a_connection_is_cut_in_the_middle_of_an_output() -> Result<()> {
    let (server, _) = server().await?;
    server.set_faults(Faults { cut_after: Some(100_000), ..Faults::default() });
    let session = login(&server).await?;
    let run = run(&session, "head -c 1000000 /dev/zero; sleep 60", b"", None).await?;
    assert_eq!(run.stdout.len(), 100_000);
    assert_eq!(run.status, None);
    Ok(())
}

#[tokio::test]
async fn a_channel_is_closed_without_a_status() -> Result<()> {
    let (server, _) = server().await?;
    server.set_faults(Faults { no_exit_status: true, ..Faults::default() });
    let session = login(&server).await?;
    let run = run(&session, "echo done", b"", None).await?;
    assert_eq!(run.stdout, b"done\n");
    assert_eq!(run.status, None);
    Ok(())
}

/// Counts the key exchanges of its connection.
struct Counting(Arc<AtomicUsize>);

impl client::Handler for Counting {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _key: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        Ok(true)
    }

    async fn kex_done(
        &mut self,
        _shared_secret: Option<&[u8]>,
        _names: &russh::Names,
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

#[tokio::test]
async fn keys_are_exchanged_anew_in_the_middle_of_an_output() -> Result<()> {
    let accounts = Accounts { user: "ada".into(), password: Some("engine".into()), keys: vec![] };
    let faults = Faults { rekey_after: Some(100_000), ..Faults::default() };
    let server = Embedded::start_with(accounts, faults).await?;
    let exchanges = Arc::new(AtomicUsize::new(0));
    let mut session = client::connect(Arc::default(), server.address, Counting(exchanges.clone())).await?;
    assert!(session.authenticate_password("ada", "engine").await?.success());
    let run = run(&session, "head -c 2000000 /dev/zero", b"", None).await?;
    assert_eq!(run.stdout.len(), 2_000_000);
    let exchanges = exchanges.load(Ordering::SeqCst);
    assert!(exchanges > 3, "only {exchanges} key exchanges");
    Ok(())
}

#[tokio::test]
async fn a_step_is_refused_on_demand() -> Result<()> {
    let (server, _) = server().await?;
    let session = login(&server).await?;
    server.set_faults(Faults { refuse: Some(Refuse::Channel), ..Faults::default() });
    assert!(session.channel_open_session().await.is_err());
    server.set_faults(Faults { refuse: Some(Refuse::Exec), ..Faults::default() });
    let mut channel = session.channel_open_session().await?;
    channel.exec(true, "echo hi").await?;
    assert!(matches!(channel.wait().await, Some(ChannelMsg::Failure)));
    Ok(())
}
