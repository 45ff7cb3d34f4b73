//! What to do about an error of the wire, in a sentence for whoever reads it. What failed is said in `error.rs`.

use std::io;

use super::algorithms;
use super::auth::Attempt;
use super::error::{Endpoint, Loss, SshError, Step, reported};
use super::proxy::ProxyError;

impl SshError {
    /// What to do next.
    pub(super) fn hint(&self) -> Option<String> {
        Some(match self {
            SshError::Target(problem) => return problem.hint.clone(),
            SshError::Resolve { at, .. } => {
                format!("Check the spelling of {:?} (server_add changes host), or give the address as a number.", at.host)
            }
            SshError::Connect { cause, .. } => match cause.kind() {
                io::ErrorKind::ConnectionRefused => {
                    "The host answers, but nothing listens on this port: check port and that sshd runs there.".to_owned()
                }
                io::ErrorKind::TimedOut | io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                    "The host does not answer: check host, network and firewall.".to_owned()
                }
                _ => "Check host, port and network.".to_owned(),
            },
            SshError::Proxy { cause, .. } if matches!(**cause, ProxyError::LoginRefused { .. }) => {
                "Correct the user in proxy and proxyPassword (server_add), or MCP_PROXY and MCP_PROXY_PASSWORD, the ones of all servers.".to_owned()
            }
            SshError::Proxy { cause, .. } if matches!(**cause, ProxyError::LoginWanted) => {
                "Write the user into proxy (socks5://USER@host:port) and give proxyPassword (server_add); for the proxy of all servers it \
                 is MCP_PROXY and MCP_PROXY_PASSWORD.".to_owned()
            }
            SshError::Proxy { at, .. } => format!(
                "Check that the proxy runs and may connect to {} on port {}; server_add changes proxy, MCP_PROXY is the one of \
                 all servers, and \"none\" goes without.",
                at.host, at.port
            ),
            SshError::Forward { jump, at, .. } => {
                format!("Check that {jump} allows TCP forwarding and can reach {} on port {}.", at.host, at.port)
            }
            SshError::Handshake { at, cause } => match &**cause {
                russh::Error::NoCommonAlgo { theirs, .. } => no_agreement(at, theirs),
                _ => "Check that this port speaks SSH; a server that limits connections (MaxStartups, fail2ban) closes them at this point.".to_owned(),
            },
            SshError::HostKeyUnknown { at, fingerprint, authority_only, .. } => {
                unknown(&at.alias, at, fingerprint, *authority_only)
            }
            SshError::HostKeyChanged { at, fingerprint, file, .. } => {
                let place = match file {
                    Some((file, line)) => format!("line {line} of {}", file.display()),
                    None => format!("the pinned hostKey of {:?} (server_add)", at.alias),
                };
                format!(
                    "Somebody may be listening in, or the server was reinstalled. Do not go on before somebody who knows the server has \
                     confirmed {fingerprint}; then correct {place}."
                )
            }
            SshError::HostKeyRevoked { .. } => {
                "This key was withdrawn on purpose: do not connect before the server has a new one.".to_owned()
            }
            SshError::HostCertificate { .. } => {
                "Do not connect before the authority has issued a certificate that is valid for the name in `host` (server_add); or \
                 pin the key itself with hostKey, once somebody who knows the server has confirmed it."
                    .to_owned()
            }
            SshError::HostKeyShort { .. } => "Make the server a longer key, or one of another type: ssh-keygen -A.".to_owned(),
            SshError::KnownHosts { file, .. } => format!("Make {} readable for the user who runs this.", file.display()),
            SshError::Login { at, .. } if self.question().is_some() => answerable(&at.alias),
            SshError::Login { attempts, .. } => {
                let hint = reported(attempts).and_then(Attempt::hint).or_else(|| attempts.iter().find_map(Attempt::hint));
                return hint.or_else(|| {
                    Some("Check user, keyPath, password or agent of this server (server_add changes them).".to_owned())
                });
            }
            SshError::Lost { .. } => "Try again: nothing was run.".to_owned(),
            SshError::Timeout { step: Step::Pool, .. } => {
                "All connections to this server are busy: wait for running jobs, or raise MAX_CONNECTIONS_PER_SERVER.".to_owned()
            }
            SshError::Timeout { step: Step::Agent, .. } => {
                "Unlock the agent, or touch or confirm the key when it asks; MCP_CONNECT_TIMEOUT_S gives more time.".to_owned()
            }
            SshError::Timeout { step: Step::Connect | Step::Resolve, .. } => "The host does not answer: check host, port, network and firewall.".to_owned(),
            SshError::Timeout { .. } => "The server answers too slowly: check its load, then try again.".to_owned(),
            SshError::ChannelRefused { .. } => "Check MaxSessions and the login user's restrictions in the server's sshd_config.".to_owned(),
            SshError::RequestRefused { .. } => "Check the login user's restrictions (ForceCommand, PermitTTY) on the server.".to_owned(),
            SshError::CommandLost { loss: Loss::Status, .. } => "Look on the server what came of the command before running it again. dropbear loses the exit status of commands that run at the same time.".to_owned(),
            SshError::CommandLost { loss: Loss::Connection, .. } => "Look on the server whether the command still runs before running it again.".to_owned(),
            SshError::CommandTimeout { stop, .. } | SshError::CommandCancelled { stop, .. } if !stop.confirmed => {
                "Look on the server whether the command still runs before running it again.".to_owned()
            }
            SshError::CommandTimeout { .. } => "Give it a longer timeout if it needs one.".to_owned(),
            SshError::Sink { problem, .. } => return problem.hint.clone(),
            SshError::Jump { at: target, source, .. } => match &**source {
                // The verb takes the server that is meant to be reached: a jump may be no server of its own.
                SshError::HostKeyUnknown { at, fingerprint, authority_only, .. } => {
                    unknown(&target.alias, at, fingerprint, *authority_only)
                }
                source if source.question().is_some() => answerable(&target.alias),
                source => return source.hint(),
            },
            SshError::Tried { source, .. } => return source.hint(),
            SshError::LeftAlone { at, left, source, .. } => format!(
                "{} The next attempt is made in {} s at the earliest; `server_add` with alias {:?} and verify makes one at once.",
                source.hint().unwrap_or_default(),
                left.as_secs() + 1,
                at.alias
            ),
            SshError::Cancelled { .. } | SshError::PoolClosed { .. } | SshError::CommandCancelled { .. } => return None,
        })
    }
}

/// What to do about a server that offers nothing that is safe.
fn no_agreement(at: &Endpoint, theirs: &[String]) -> String {
    let update = "The server offers only algorithms that are refused here as unsafe: update its sshd.";
    match algorithms::allowable(theirs).as_slice() {
        [] => update.to_owned(),
        names => format!(
            "{update} Where that is not possible, the operator can allow {} for {:?} with [legacy] in orchestrator.toml.",
            names.join(" or "),
            at.alias
        ),
    }
}

/// What to do about a question of a server on the way to `target`, or of the target itself.
fn answerable(target: &str) -> String {
    format!(
        "A person has to answer it: the operator runs `mcp-orchestrator server login {target}` at a terminal, then call again. A \
         client that can open pages (MCP elicitation in URL mode) has the person asked by itself."
    )
}

/// What to do about an unknown host key of `at`, on the way to `target` or the target itself.
fn unknown(target: &str, at: &Endpoint, fingerprint: &str, authority_only: bool) -> String {
    let why = match authority_only {
        true => "Only a certificate authority is known for this host, and the server showed a plain key. ",
        false => "",
    };
    // An address is no alias that server_add could change.
    let pin = match at.alias.contains('@') {
        true => String::new(),
        false => format!("; or trust it with server_add, alias {:?}, hostKey {fingerprint:?}", at.alias),
    };
    format!(
        "{why}Ask somebody who knows the server whether {fingerprint} is its key (on the server: ssh-keygen -lf \
         /etc/ssh/ssh_host_ed25519_key.pub). If it is, the operator runs `mcp-orchestrator server trust {target}` or adds it \
         to ~/.ssh/known_hosts{pin}."
    )
}
