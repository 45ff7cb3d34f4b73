//! Proving who we are (RFC 4252): the configured logins in their order, until the server is content.
//!
//! Not reading key files (`key_file`) and not the connection (`session`).

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use russh::client::{AuthResult, Handle};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::{Algorithm, Certificate, HashAlg, PrivateKey, PrivateKeyWithHashAlg};
use russh::{AgentAuthError, MethodKind, MethodSet, Signer};
use tokio::net::UnixStream;

use super::algorithms::SSH_RSA;
use super::answers::Answers;
use super::client::Client;
use super::error::{Endpoint, SshError, Step};
use super::key_file::{self, KeyFileError};
use super::keyboard::{self, Ended};
use super::question::Question;
use super::rsa::RsaSigner;
use super::target::{Login, Target};

/// One way that was tried, or could not be, and what came of it. Never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// The file could not be used.
    KeyFile(KeyFileError),
    /// The server does not take this key for this user.
    KeyRefused(PathBuf),
    /// Neither the certificate beside it; with the reason as far as it can be told here.
    CertificateRefused {
        path: PathBuf,
        why: &'static str,
    },
    /// The server ended the connection instead of refusing once more. With the number of keys that it was shown, and what it
    /// said.
    CutOff {
        keys: usize,
        says: Option<String>,
    },
    PasswordRefused,
    /// The server asks for something that only a person can answer: a second factor, a new password.
    Questions(Arc<Question>),
    /// More than a person is asked.
    TooManyQuestions,
    /// What a person answered was wrong, or is no longer right.
    AnswersRefused,
    AgentMissing,
    AgentFailed(String),
    AgentEmpty,
    /// The agent's keys, counted, were all refused.
    AgentRefused(usize),
    /// The method is not among those that the server accepts.
    NotAccepted(&'static str),
    /// The server took this one but wants another one too.
    Partial(&'static str),
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Attempt::KeyFile(error) => error.fmt(f),
            Attempt::KeyRefused(path) => write!(f, "the key {} was refused", path.display()),
            Attempt::CertificateRefused { path, why } => {
                write!(f, "the key {} was refused, and its certificate {why}", path.display())
            }
            Attempt::CutOff { keys, says } => {
                match keys {
                    0 => f.write_str("the server ended the connection")?,
                    1 => f.write_str("the server ended the connection after 1 key")?,
                    keys => write!(f, "the server ended the connection after {keys} keys")?,
                }
                says.as_ref().map_or(Ok(()), |says| write!(f, " and says {says:?}"))
            }
            Attempt::PasswordRefused => f.write_str("the password was refused"),
            Attempt::Questions(question) => {
                write!(f, "the server asked {}, which a person has to answer", question.shown())
            }
            Attempt::TooManyQuestions => f.write_str("the server asked more than anybody would answer"),
            Attempt::AnswersRefused => f.write_str("the server refused what was answered to its questions"),
            Attempt::AgentMissing => f.write_str("there is no ssh-agent (SSH_AUTH_SOCK is not set)"),
            Attempt::AgentFailed(cause) => write!(f, "the ssh-agent failed: {cause}"),
            Attempt::AgentEmpty => f.write_str("the ssh-agent holds no key"),
            Attempt::AgentRefused(count) => write!(f, "all keys of the ssh-agent ({count}) were refused"),
            Attempt::NotAccepted(method) => write!(f, "{method} was not tried, the server does not accept it"),
            Attempt::Partial(method) => write!(f, "{method} was accepted, but the server wants more"),
        }
    }
}

impl Attempt {
    /// What to do about it, where that is particular.
    pub fn hint(&self) -> Option<String> {
        match self {
            Attempt::KeyFile(error) => Some(error.hint()),
            Attempt::KeyRefused(_) => Some(
                "Check user, and that the key's public half is in the server's ~/.ssh/authorized_keys of that user."
                    .to_owned(),
            ),
            Attempt::CertificateRefused { .. } => Some(
                "Look at the certificate (ssh-keygen -L -f): its principals must name the user, its time must not be over, and \
                 the server must trust its authority (TrustedUserCAKeys)."
                    .to_owned(),
            ),
            Attempt::CutOff { .. } => Some(
                "A server lets one try a few times only (MaxAuthTries, mostly 6; a certificate and its key are two): name the right \
                 key first in keyPath, and leave out what does not fit, the agent's keys too."
                    .to_owned(),
            ),
            Attempt::AgentMissing => Some("Start this program with SSH_AUTH_SOCK set, or use keyPath.".to_owned()),
            Attempt::AgentEmpty => Some("Load the key with ssh-add.".to_owned()),
            Attempt::TooManyQuestions => Some("Log in with a key: this cannot be answered here.".to_owned()),
            Attempt::AnswersRefused => Some(
                "A code may have been wrong, too old or used before; where a password is stored, it may be that. Call again to \
                 be asked again."
                    .to_owned(),
            ),
            _ => None,
        }
    }

    /// The login ended with it, so it matters more than what was tried before.
    pub fn is_last_word(&self) -> bool {
        matches!(self, Attempt::Questions(_) | Attempt::TooManyQuestions | Attempt::AnswersRefused)
    }

    /// A short word for programs.
    pub fn reason(&self) -> &'static str {
        match self {
            Attempt::KeyFile(error) => error.reason(),
            Attempt::KeyRefused(_) => "KEY_REFUSED",
            Attempt::CertificateRefused { .. } => "CERTIFICATE_REFUSED",
            Attempt::CutOff { .. } => "TOO_MANY_FAILURES",
            Attempt::PasswordRefused => "PASSWORD_REFUSED",
            Attempt::Questions(_) | Attempt::TooManyQuestions => "QUESTION_UNANSWERED",
            Attempt::AnswersRefused => "ANSWER_REFUSED",
            Attempt::AgentMissing => "AGENT_MISSING",
            Attempt::AgentFailed(_) => "AGENT_FAILED",
            Attempt::AgentEmpty => "AGENT_EMPTY",
            Attempt::AgentRefused(_) => "AGENT_KEYS_REFUSED",
            Attempt::NotAccepted(_) => "METHOD_NOT_ACCEPTED",
            Attempt::Partial(_) => "MORE_WANTED",
        }
    }
}

/// What one login came to.
enum Outcome {
    In,
    /// Took this one, wants more (RFC 4252, 5.1).
    Partial(&'static str),
    Not(Attempt),
    /// Nothing else can be tried on this connection.
    Stuck(Attempt),
}

struct Conversation<'a> {
    handle: &'a mut Handle<Client>,
    user: &'a str,
    at: &'a Arc<Endpoint>,
    answers: &'a Answers,
    /// What the server accepts, as far as it has said so.
    accepts: Option<MethodSet>,
    watch: &'a Watch,
    /// The keys and certificates that the server was shown.
    keys: usize,
    /// The operator allows signatures with SHA-1 here.
    sha1: bool,
    /// Its questions were answered, with whatever result.
    answered: bool,
    /// A person answered some of them.
    by_person: bool,
}

/// What is seen of a login from outside, while it goes on.
pub struct Watch {
    /// What the server says when it ends the connection.
    pub farewell: Arc<OnceLock<String>>,
    /// The agent is being waited for, and maybe the person in front of it.
    pub agent: AtomicBool,
}

/// An agent whose work is seen from outside.
struct Watched<'a> {
    agent: AgentClient<UnixStream>,
    watch: &'a Watch,
}

impl Signer for Watched<'_> {
    type Error = AgentAuthError;

    async fn auth_sign(
        &mut self,
        key: &AgentIdentity,
        hash: Option<HashAlg>,
        data: Vec<u8>,
    ) -> Result<Vec<u8>, AgentAuthError> {
        Ok(self.watch.the_agent(self.agent.sign_request(key, hash, data)).await?)
    }
}

impl Watch {
    async fn the_agent<T>(&self, work: impl Future<Output = T>) -> T {
        self.agent.store(true, Ordering::Relaxed);
        let done = work.await;
        self.agent.store(false, Ordering::Relaxed);
        done
    }
}

/// Whether a certificate is good at this time, as a predicate. The server decides; this only helps to understand it.
fn validity(certificate: &Certificate) -> &'static str {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    if now >= certificate.valid_before() {
        "has expired"
    } else if now < certificate.valid_after() {
        "is not valid yet"
    } else {
        "was refused, too"
    }
}

/// Logs in, or says what was tried and what the server accepts. `true`: it took the answers of a person.
pub async fn login(
    handle: &mut Handle<Client>,
    target: &Target,
    at: &Arc<Endpoint>,
    watch: &Watch,
    answers: &Answers,
) -> Result<bool, SshError> {
    let user = &target.user;
    let sha1 = target.legacy.iter().any(|name| name == SSH_RSA);
    let accepts = None;
    let mut talk =
        Conversation { handle, user, at, answers, accepts, watch, keys: 0, sha1, answered: false, by_person: false };
    let mut waiting: Vec<&Login> = target.logins.iter().collect();
    let mut attempts = Vec::new();
    let mut partial = false;
    // Each partial success takes one login away and starts over: what was not accepted before may be what is wanted now.
    'again: loop {
        for (index, login) in waiting.iter().enumerate() {
            let outcome = match talk.attempt(login).await {
                Err(SshError::Lost { .. }) if talk.was_cut_off() => {
                    attempts.insert(0, talk.cut_off());
                    break 'again;
                }
                outcome => outcome?,
            };
            match outcome {
                Outcome::In => return Ok(talk.by_person),
                Outcome::Partial(method) => {
                    (attempts, partial, talk.answered) = (vec![Attempt::Partial(method)], true, false);
                    waiting.remove(index);
                    continue 'again;
                }
                Outcome::Not(attempt) => {
                    tracing::debug!(alias = %at.alias, %attempt, "login");
                    attempts.push(attempt);
                }
                Outcome::Stuck(attempt) => {
                    attempts.push(attempt);
                    break 'again;
                }
            }
        }
        if !talk.wants_questions(partial) {
            break;
        }
        let outcome = match talk.questions(None).await {
            Err(SshError::Lost { .. }) if talk.was_cut_off() => {
                attempts.insert(0, talk.cut_off());
                break;
            }
            outcome => outcome?,
        };
        match outcome {
            Some(Outcome::In) => return Ok(talk.by_person),
            Some(Outcome::Partial(method)) => (attempts, partial) = (vec![Attempt::Partial(method)], true),
            Some(Outcome::Not(attempt) | Outcome::Stuck(attempt)) => {
                attempts.push(attempt);
                break;
            }
            None => break,
        }
    }
    let accepts = talk.accepts.iter().flat_map(|set| set.iter()).map(<&'static str>::from).collect();
    Err(SshError::Login { at: at.clone(), user: user.clone(), attempts, accepts })
}

impl Conversation<'_> {
    fn accepts(&self, method: MethodKind) -> bool {
        self.accepts.as_ref().is_none_or(|set| set.contains(&method))
    }

    /// What came of it.
    fn cut_off(&self) -> Attempt {
        Attempt::CutOff { keys: self.keys, says: self.watch.farewell.get().cloned() }
    }

    /// Whether a connection that is gone was ended by the server because of what it was shown, and not by accident: it says
    /// something, or has refused a key before. Such a login is not repeated, since that would count against us, too.
    fn was_cut_off(&self) -> bool {
        self.watch.farewell.get().is_some() || self.keys > 1
    }

    fn lost(&self, cause: russh::Error) -> SshError {
        SshError::Lost { at: self.at.clone(), step: Step::Login, cause: Arc::new(cause) }
    }

    async fn attempt(&mut self, login: &Login) -> Result<Outcome, SshError> {
        match login {
            Login::Key { path, passphrase } => {
                if !self.accepts(MethodKind::PublicKey) {
                    return Ok(Outcome::Not(Attempt::NotAccepted("publickey")));
                }
                let (file, secret) = (path.clone(), passphrase.clone());
                // Reading and above all decrypting a key would hold up everybody else on this thread.
                let loaded = tokio::task::spawn_blocking(move || {
                    let key = key_file::load(&file, secret.as_ref().map(|text| text.as_str()))?;
                    Ok((key, key_file::certificate(&file)?))
                })
                .await;
                let (key, certificate) = match loaded {
                    Ok(Ok((key, certificate))) => (Arc::new(key), certificate),
                    Ok(Err(error)) => return Ok(Outcome::Not(Attempt::KeyFile(error))),
                    Err(error) => {
                        let cause = error.to_string();
                        return Ok(Outcome::Not(Attempt::KeyFile(KeyFileError::Unreadable {
                            path: path.clone(),
                            cause,
                        })));
                    }
                };
                let mut refused = Attempt::KeyRefused(path.clone());
                if let Some(certificate) = certificate {
                    // Before the plain key, as OpenSSH does: it may carry restrictions that the plain key lacks.
                    refused = Attempt::CertificateRefused { path: path.clone(), why: validity(&certificate) };
                    self.keys += 1;
                    let result = self.certificate(&key, certificate).await?;
                    match self.judge(result, "publickey", refused.clone())? {
                        Outcome::Not(_) => {}
                        outcome => return Ok(outcome),
                    }
                }
                let hash = self.hash_for(&key.algorithm()).await?;
                self.keys += 1;
                let result = self.handle.authenticate_publickey(self.user, PrivateKeyWithHashAlg::new(key, hash)).await;
                let result = result.map_err(|error| self.lost(error))?;
                self.judge(result, "publickey", refused)
            }
            Login::Password(password) => self.password(password.as_str()).await,
            Login::Agent => self.agent().await,
        }
    }

    async fn certificate(&mut self, key: &Arc<PrivateKey>, certificate: Certificate) -> Result<AuthResult, SshError> {
        if !matches!(certificate.algorithm(), Algorithm::Rsa { .. }) {
            let result = self.handle.authenticate_openssh_cert(self.user, key.clone(), certificate).await;
            return result.map_err(|error| self.lost(error));
        }
        let hash = self.hash_for(&key.algorithm()).await?;
        let mut signer = RsaSigner(key.clone());
        let result = self.handle.authenticate_certificate_with(self.user, certificate, hash, &mut signer).await;
        result.map_err(|error| match error {
            AgentAuthError::Send(_) => self.lost(russh::Error::SendError),
            AgentAuthError::Key(error) => self.lost(error.into()),
        })
    }

    /// RSA keys sign with SHA-2 wherever the server does not say that it only knows SHA-1 (RFC 8332).
    async fn hash_for(&self, algorithm: &Algorithm) -> Result<Option<HashAlg>, SshError> {
        if !matches!(algorithm, Algorithm::Rsa { .. }) {
            return Ok(None);
        }
        let best = self.handle.best_supported_rsa_hash().await.map_err(|error| self.lost(error))?;
        // An old server says nothing, and then only SHA-1 may be what it takes.
        let silent = if self.sha1 { None } else { Some(HashAlg::Sha512) };
        Ok(best.unwrap_or(silent))
    }

    async fn password(&mut self, password: &str) -> Result<Outcome, SshError> {
        // A person has just answered what this server asks: the password alone would only count as one more failure.
        if self.answers.any(self.at, self.user)
            && let Some(outcome) = self.questions(Some(password)).await?
        {
            return Ok(outcome);
        }
        let mut refused = Attempt::NotAccepted("password");
        if self.accepts(MethodKind::Password) {
            let result =
                self.handle.authenticate_password(self.user, password).await.map_err(|error| self.lost(error))?;
            match self.judge(result, "password", Attempt::PasswordRefused)? {
                Outcome::Not(attempt) => refused = attempt,
                outcome => return Ok(outcome),
            }
        }
        Ok(self.questions(Some(password)).await?.unwrap_or(Outcome::Not(refused)))
    }

    /// Whether questions are to be expected where no login of ours leads to them: as the further proof that the server wants
    /// after one of ours (`partial`), or because it takes nothing else. A key that is refused where another would do is no
    /// reason to ask a person for a password.
    fn wants_questions(&self, partial: bool) -> bool {
        let takes = |method| self.accepts.as_ref().is_some_and(|set| set.contains(&method));
        !self.answered && takes(MethodKind::KeyboardInteractive) && (partial || !takes(MethodKind::PublicKey))
    }

    /// Keyboard-interactive. `None`: the server does not accept it, or asked nothing.
    async fn questions(&mut self, password: Option<&str>) -> Result<Option<Outcome>, SshError> {
        if !self.accepts(MethodKind::KeyboardInteractive) {
            return Ok(None);
        }
        let held = keyboard::interact(self.handle, self.at, self.user, password, self.answers).await;
        let (ended, by_person) = held.map_err(|error| self.lost(error))?;
        self.by_person |= by_person;
        let (remaining_methods, partial_success, what) = match ended {
            Ended::In => return Ok(Some(Outcome::In)),
            Ended::Stuck(attempt) => return Ok(Some(Outcome::Stuck(attempt))),
            Ended::Refused { remaining, partial, what } => (remaining, partial, what),
        };
        let asked_nothing = what.is_none() && !partial_success;
        self.answered |= !asked_nothing;
        let result = AuthResult::Failure { remaining_methods, partial_success };
        let refused = what.unwrap_or(Attempt::NotAccepted("keyboard-interactive"));
        let outcome = self.judge(result, "keyboard-interactive", refused)?;
        Ok((!asked_nothing).then_some(outcome))
    }

    async fn agent(&mut self) -> Result<Outcome, SshError> {
        if !self.accepts(MethodKind::PublicKey) {
            return Ok(Outcome::Not(Attempt::NotAccepted("publickey")));
        }
        let failed = |error: russh::keys::Error| match error {
            russh::keys::Error::EnvVar(_) => Attempt::AgentMissing,
            other => Attempt::AgentFailed(other.to_string()),
        };
        let asked = async {
            let mut agent = AgentClient::connect_env().await?;
            let identities = agent.request_identities().await?;
            Ok::<_, russh::keys::Error>((agent, identities))
        };
        let (agent, identities) = match self.watch.the_agent(asked).await {
            Ok(answer) => answer,
            Err(error) => return Ok(Outcome::Not(failed(error))),
        };
        let mut agent = Watched { agent, watch: self.watch };
        if identities.is_empty() {
            return Ok(Outcome::Not(Attempt::AgentEmpty));
        }
        let mut last = Attempt::AgentRefused(identities.len());
        for identity in identities {
            let hash = self.hash_for(&identity.public_key().algorithm()).await?;
            self.keys += 1;
            let result = match identity {
                AgentIdentity::PublicKey { key, .. } => {
                    self.handle.authenticate_publickey_with(self.user, key, hash, &mut agent).await
                }
                AgentIdentity::Certificate { certificate, .. } => {
                    self.handle.authenticate_certificate_with(self.user, certificate, hash, &mut agent).await
                }
            };
            match result {
                Ok(result) => match self.judge(result, "publickey", last.clone())? {
                    Outcome::Not(_) => {}
                    outcome => return Ok(outcome),
                },
                // One key that the agent does not sign with (locked, not confirmed) does not spoil the others.
                Err(AgentAuthError::Key(error)) => last = Attempt::AgentFailed(error.to_string()),
                Err(AgentAuthError::Send(_)) => return Err(self.lost(russh::Error::SendError)),
            }
        }
        Ok(Outcome::Not(last))
    }

    /// Reads the server's answer, and remembers what it accepts from now on.
    fn judge(&mut self, result: AuthResult, method: &'static str, refused: Attempt) -> Result<Outcome, SshError> {
        match result {
            AuthResult::Success => Ok(Outcome::In),
            AuthResult::Failure { remaining_methods, partial_success } => {
                // The library reports a connection that broke as a failure that accepts nothing.
                if remaining_methods.is_empty() && self.handle.is_closed() {
                    return Err(self.lost(russh::Error::Disconnect));
                }
                self.accepts = Some(remaining_methods);
                Ok(if partial_success { Outcome::Partial(method) } else { Outcome::Not(refused) })
            }
        }
    }
}
