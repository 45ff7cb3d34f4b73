//! An SSH server in this process that does what the command says: stall, lie, refuse, break off.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use russh::keys::{Algorithm, HashAlg, PrivateKey};
use russh::server::{Auth, ChannelOpenHandle, Config, Handler, Msg, Response, Session};
use russh::{Channel, ChannelId, ChannelOpenFailure, Disconnect, MethodKind, MethodSet, Preferred, Sig, cipher};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;
use zeroize::Zeroizing;

use super::super::{Login, Target};

/// What the server does besides what commands tell it.
#[derive(Clone, Default)]
pub struct Manners {
    /// Session channels per connection; 0 is no limit.
    pub max_sessions: usize,
    /// Opening a channel is never answered on the first so many connections.
    pub deaf_connections: usize,
    /// Closes the channel that is opened as the so manieth, before anything runs on it.
    pub closes: Option<usize>,
    /// Asks for the password through keyboard-interactive only.
    pub interactive: bool,
    /// Asks this too, which [`CODE`] answers; beside the password, or where there are two factors in its place.
    pub question: Option<&'static str>,
    /// Asks it after the password, in a request of its own.
    pub in_turn: bool,
    /// Wants both: first a key, then the password or what the question asks.
    pub two_factors: bool,
    /// Would take a key, too, but not this one.
    pub refuses_keys: bool,
    /// Encrypts nothing, so that somebody between can change what is said.
    pub clear: bool,
}

/// The right answer to the question.
pub const CODE: &str = "246810";

/// What was seen.
#[derive(Default)]
pub struct Seen {
    /// Every answer to the question.
    pub codes: Mutex<Vec<String>>,
    pub connections: AtomicUsize,
    pub logins: AtomicUsize,
    pub passwords: AtomicUsize,
    pub refused: AtomicUsize,
    pub open: AtomicUsize,
    /// Channels that were opened, all in all.
    pub opened: AtomicUsize,
    pub most_open: AtomicUsize,
    pub signals: Mutex<Vec<String>>,
}

pub struct Fake {
    pub seen: Arc<Seen>,
    pub target: Target,
    _task: AbortOnDropHandle<()>,
}

pub async fn start(manners: Manners) -> Fake {
    let key = PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519).unwrap();
    let pin = key.public_key().fingerprint(HashAlg::Sha256).to_string();
    let methods: &[MethodKind] = match (manners.interactive, manners.two_factors) {
        (true, _) if manners.refuses_keys => &[MethodKind::PublicKey, MethodKind::KeyboardInteractive],
        (true, _) => &[MethodKind::KeyboardInteractive],
        (_, true) => &[MethodKind::PublicKey],
        _ => &[MethodKind::Password, MethodKind::PublicKey],
    };
    let config = Arc::new(Config {
        keys: vec![key],
        methods: MethodSet::from(methods),
        auth_rejection_time: std::time::Duration::from_millis(1),
        nodelay: true,
        preferred: match manners.clear {
            true => Preferred { cipher: Cow::Borrowed(&[cipher::NONE]), ..Preferred::DEFAULT },
            false => Preferred::DEFAULT,
        },
        ..Config::default()
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::new(Seen::default());
    let shared = seen.clone();
    let task = tokio::spawn(async move {
        let mut sessions = tokio::task::JoinSet::new();
        while let Ok((socket, _)) = listener.accept().await {
            let number = shared.connections.fetch_add(1, Ordering::SeqCst);
            let peer = Peer {
                manners: manners.clone(),
                seen: shared.clone(),
                number,
                key_done: false,
                password_done: false,
                channels: HashSet::new(),
                commands: Vec::new(),
            };
            let config = config.clone();
            sessions.spawn(async move {
                if let Ok(session) = russh::server::run_stream(config, socket, peer).await {
                    let _ = session.await;
                }
            });
        }
    });
    let target = Target {
        alias: "fake".to_owned(),
        host: "127.0.0.1".to_owned(),
        port,
        user: "tester".to_owned(),
        logins: vec![Login::Password(Zeroizing::new("right".to_owned()))],
        pin: Some(pin),
        proxy: None,
        jump: None,
        legacy: Vec::new(),
    };
    Fake { seen, target, _task: AbortOnDropHandle::new(task) }
}

struct Peer {
    manners: Manners,
    seen: Arc<Seen>,
    number: usize,
    key_done: bool,
    password_done: bool,
    channels: HashSet<ChannelId>,
    commands: Vec<(ChannelId, String)>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.seen.open.fetch_sub(self.channels.len(), Ordering::SeqCst);
    }
}

impl Peer {
    fn command(&self, channel: ChannelId) -> &str {
        self.commands.iter().rev().find(|(id, _)| *id == channel).map_or("", |(_, line)| line)
    }

    fn finish(&mut self, session: &mut Session, channel: ChannelId, code: u32) -> Result<(), russh::Error> {
        session.exit_status_request(channel, code)?;
        session.eof(channel)?;
        self.close(session, channel)
    }

    /// The library does not call `channel_close` for what we close ourselves.
    fn close(&mut self, session: &mut Session, channel: ChannelId) -> Result<(), russh::Error> {
        self.forget(channel);
        session.close(channel)
    }

    fn forget(&mut self, channel: ChannelId) {
        if self.channels.remove(&channel) {
            self.seen.open.fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn password(&self, password: &str) -> Auth {
        self.seen.passwords.fetch_add(1, Ordering::SeqCst);
        self.judge(password == "right" && (!self.manners.two_factors || self.key_done))
    }

    fn code(&self, code: String) -> bool {
        let right = code == CODE;
        self.seen.codes.lock().unwrap().push(code);
        right
    }

    fn judge(&self, right: bool) -> Auth {
        if !right {
            return Auth::reject();
        }
        self.seen.logins.fetch_add(1, Ordering::SeqCst);
        Auth::Accept
    }
}

impl Handler for Peer {
    type Error = russh::Error;

    async fn auth_password(&mut self, _user: &str, password: &str) -> Result<Auth, russh::Error> {
        // Some servers listen to methods that they do not offer; this one does not.
        Ok(if self.manners.interactive { Auth::reject() } else { self.password(password) })
    }

    async fn auth_publickey(
        &mut self,
        _user: &str,
        _key: russh::server::VerifiedPublicKey<'_>,
    ) -> Result<Auth, russh::Error> {
        if !self.manners.two_factors {
            return Ok(Auth::reject());
        }
        self.key_done = true;
        let second =
            if self.manners.question.is_some() { MethodKind::KeyboardInteractive } else { MethodKind::Password };
        let wanted = MethodSet::from(&[second][..]);
        Ok(Auth::Reject { proceed_with_methods: Some(wanted), partial_success: true })
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        _user: &str,
        _submethods: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, russh::Error> {
        let ask = |prompts: Vec<(&'static str, bool)>| {
            let prompts: Vec<(Cow<'static, str>, bool)> =
                prompts.into_iter().map(|(text, echo)| (text.into(), echo)).collect();
            Auth::Partial { name: "".into(), instructions: "".into(), prompts: prompts.into() }
        };
        let password = ("Password: ", false);
        let answers: Option<Vec<String>> =
            response.map(|texts| texts.map(|text| String::from_utf8_lossy(text.as_ref()).into_owned()).collect());
        let manners = self.manners.clone();
        Ok(match (answers.as_deref(), manners.question) {
            (None, Some(question)) if manners.two_factors => ask(vec![(question, false)]),
            (Some([code]), Some(_)) if manners.two_factors => {
                let right = self.code(code.clone());
                self.judge(right && self.key_done)
            }
            (None, Some(question)) if !manners.in_turn => ask(vec![password, (question, true)]),
            (None, _) => ask(vec![password]),
            (Some([given, code]), Some(_)) => {
                self.seen.passwords.fetch_add(1, Ordering::SeqCst);
                let right = self.code(code.clone());
                self.judge(right && given == "right")
            }
            // The password is judged with the rest, as PAM does it.
            (Some([given]), Some(question)) if !std::mem::replace(&mut self.password_done, true) => {
                self.seen.passwords.fetch_add(1, Ordering::SeqCst);
                self.key_done = given == "right";
                ask(vec![(question, false)])
            }
            (Some([code]), Some(_)) => {
                let right = self.code(code.clone());
                self.judge(right && self.key_done)
            }
            (Some([given, ..]), None) => self.password(given),
            (Some(_), _) => Auth::reject(),
        })
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        if self.number < self.manners.deaf_connections {
            std::future::pending::<()>().await;
        }
        if self.manners.max_sessions > 0 && self.channels.len() >= self.manners.max_sessions {
            self.seen.refused.fetch_add(1, Ordering::SeqCst);
            reply.reject(ChannelOpenFailure::ConnectFailed).await;
            return Ok(());
        }
        self.channels.insert(channel.id());
        let number = self.seen.opened.fetch_add(1, Ordering::SeqCst) + 1;
        let open = self.seen.open.fetch_add(1, Ordering::SeqCst) + 1;
        self.seen.most_open.fetch_max(open, Ordering::SeqCst);
        let id = channel.id();
        reply.accept().await;
        if self.manners.closes == Some(number) {
            self.forget(id);
            let handle = session.handle();
            tokio::spawn(async move { handle.close(id).await });
        }
        Ok(())
    }

    async fn channel_close(&mut self, channel: ChannelId, _session: &mut Session) -> Result<(), russh::Error> {
        self.forget(channel);
        Ok(())
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        line: &[u8],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        let line = String::from_utf8_lossy(line).into_owned();
        self.commands.push((channel, line.clone()));
        let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
        if word == "refuse" {
            return session.channel_failure(channel);
        }
        session.channel_success(channel)?;
        match word {
            "echo" => {
                session.data(channel, format!("{rest}\n").into_bytes())?;
                self.finish(session, channel, 0)?;
            }
            "fail" => {
                session.extended_data(channel, 1, b"no\n".to_vec())?;
                self.finish(session, channel, rest.parse().unwrap())?;
            }
            "signalled" => {
                session.exit_signal_request(channel, Sig::SEGV, false, "", "")?;
                self.close(session, channel)?;
            }
            // Takes its time, which is not counted as an open channel.
            "late" => {
                self.forget(channel);
                let (handle, rest) = (session.handle(), rest.to_owned());
                tokio::spawn(async move {
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                    let _ = handle.data(channel, format!("{rest}\n").into_bytes()).await;
                    let _ = handle.exit_status_request(channel, 0).await;
                    let _ = handle.eof(channel).await;
                    handle.close(channel).await
                });
            }
            // So many mebibytes.
            "flood" => {
                let (handle, blocks) = (session.handle(), rest.parse::<u32>().unwrap() * 32);
                tokio::spawn(async move {
                    for _ in 0..blocks {
                        if handle.data(channel, vec![b'x'; 32 << 10]).await.is_err() {
                            return;
                        }
                    }
                    let _ = handle.exit_status_request(channel, 0).await;
                    let _ = handle.eof(channel).await;
                    let _ = handle.close(channel).await;
                });
            }
            // Breaks the connection in the middle of the output.
            "cut" => {
                session.data(channel, b"half".to_vec())?;
                session.disconnect(Disconnect::ByApplication, "cut", "")?;
            }
            "no-status" => {
                session.data(channel, b"all".to_vec())?;
                session.eof(channel)?;
                self.close(session, channel)?;
            }
            // The command ends, but something it left behind keeps the channel open.
            "daemon" => {
                session.data(channel, b"started".to_vec())?;
                session.exit_status_request(channel, 0)?;
            }
            // Answers nothing any more, on the whole connection.
            "freeze" => std::future::pending().await,
            // `hang`, `deaf`, `cat`: wait for what comes.
            _ => {}
        }
        Ok(())
    }

    async fn data(&mut self, channel: ChannelId, data: &[u8], session: &mut Session) -> Result<(), russh::Error> {
        if self.command(channel) == "cat" {
            session.data(channel, data.to_vec())?;
        }
        Ok(())
    }

    async fn channel_eof(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), russh::Error> {
        if self.command(channel) == "cat" { self.finish(session, channel, 0) } else { Ok(()) }
    }

    async fn signal(&mut self, channel: ChannelId, signal: Sig, session: &mut Session) -> Result<(), russh::Error> {
        self.seen.signals.lock().unwrap().push(format!("{signal:?}"));
        // `hang SIGNAL` ends with this signal only.
        if self.command(channel).strip_prefix("hang ") == Some(&format!("{signal:?}")) {
            session.exit_signal_request(channel, signal, false, "", "")?;
            self.close(session, channel)?;
        }
        Ok(())
    }
}
