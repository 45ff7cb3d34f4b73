//! The few lines that a bridge and the daemon exchange before MCP begins: one JSON object each. No I/O.
//!
//! The daemon greets, the other side asks for one thing, the daemon replies. After the reply to `session` the connection
//! carries MCP and nothing else. A greeting's `protocol`, `version` and `pid`, and the requests `stop` and `replace`, stay
//! as they are in every version, so that any two versions can part in peace.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Changes when `session` no longer means the same.
pub const PROTOCOL: u32 = 1;

/// The longest line, in bytes: what is longer comes from something else.
pub const MAX_LINE: u64 = 64 << 10;

/// What the daemon says first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Greeting {
    /// See [`PROTOCOL`].
    pub protocol: u32,
    /// Of the program.
    pub version: String,
    /// Tells builds of one version apart.
    #[serde(default)]
    pub build: String,
    pub pid: u32,
    /// For the digests of `settings`; another one in each daemon.
    #[serde(default)]
    pub salt: String,
    /// A digest of each setting that the daemon runs with.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
}

/// What the other side wants.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// To be served over this connection.
    Session,
    /// To know how the daemon is doing.
    Status,
    /// That the daemon ends now.
    Stop,
    /// That the daemon ends if it has neither clients nor work, so that another one can take its place.
    Replace,
}

/// What the daemon answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// MCP begins.
    Session,
    Status(Status),
    /// The daemon ends; the connection closes when it has.
    Stopping(Status),
    /// The daemon stays, since somebody needs it.
    Busy(Status),
}

/// How the daemon is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub clients: usize,
    /// Pending or running.
    pub jobs: usize,
    pub uptime_s: u64,
    /// How long it stays without clients and work. `None` is for ever.
    pub idle_s: Option<u64>,
}

/// A message as a line.
pub fn line(message: &impl Serialize) -> Vec<u8> {
    // These types always serialize; an empty line would be refused by the other side.
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    line
}

/// The message in a line; says what is wrong with it.
pub fn parse<'a, T: Deserialize<'a>>(line: &'a [u8]) -> Result<T, String> {
    if line.last() != Some(&b'\n') {
        return Err("its first line has no end".to_owned());
    }
    serde_json::from_slice(line).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_survives_the_wire() {
        let busy = Reply::Busy(Status { clients: 2, jobs: 1, uptime_s: 9, idle_s: None });
        assert_eq!(parse(&line(&busy)), Ok(busy));
        assert_eq!(parse(&line(&Request::Replace)), Ok(Request::Replace));
        assert_eq!(line(&Request::Stop), b"{\"request\":\"stop\"}\n");
    }

    #[test]
    fn a_greeting_of_any_version_is_understood() {
        let other = b"{\"protocol\":7,\"version\":\"9.1.0\",\"pid\":5,\"colour\":\"blue\"}\n";
        let expected = Greeting { protocol: 7, version: "9.1.0".to_owned(), pid: 5, ..Greeting::default() };
        assert_eq!(parse(other), Ok(expected));
    }

    #[test]
    fn what_is_no_line_of_ours_is_refused() {
        for wrong in [&b""[..], b"\n", b"{\"request\":\"stop\"}", b"{\"request\":\"dance\"}\n", b"\xff\n"] {
            assert!(parse::<Request>(wrong).is_err(), "{wrong:?}");
        }
    }
}
