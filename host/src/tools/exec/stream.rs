//! Commands that are run for a share of their output: how large it is, and how a caller is told that they were stopped.

use std::borrow::Cow;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use super::endless::endless;
use crate::capability::{Quota, Reached, Stopped};
use crate::error::Problem;

/// The share of a command that never ends by itself.
const SECONDS: u64 = 10;
const LINES: u64 = 100;

/// What connecting may take beside the share's own time.
const ALLOWANCE: Duration = Duration::from_secs(30);

/// The argument `stream`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    pub seconds: Option<u64>,
    pub lines: Option<u64>,
}

/// Only its type: its description says what is in it, for half of the bytes.
impl JsonSchema for Share {
    fn schema_name() -> Cow<'static, str> {
        "Share".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "object"})
    }
}

impl Share {
    pub fn check(self, tool: &str) -> Result<(), Problem> {
        for (name, value) in [("seconds", self.seconds), ("lines", self.lines)] {
            if value == Some(0) {
                return Err(Problem::invalid(format!("{tool}: argument \"stream.{name}\" must be at least 1"))
                    .detail("argument", format!("stream.{name}")));
            }
        }
        Ok(())
    }
}

/// A command's share, and why it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sharing {
    pub quota: Quota,
    /// The part of the command that never ends by itself; `None` when the share was asked for.
    pub endless: Option<String>,
}

impl Sharing {
    /// The share of `cmd`: what was asked for, else the usual one if it never ends by itself, but never longer than `timeout`.
    pub fn of(cmd: &str, asked: Option<Share>, timeout: Option<Duration>) -> Option<Sharing> {
        let endless = endless(cmd);
        if asked.is_none() && endless.is_none() {
            return None;
        }
        let share = asked.unwrap_or_default();
        let time = Duration::from_secs(share.seconds.unwrap_or(SECONDS));
        let time = timeout.map_or(time, |timeout| time.min(timeout));
        Some(Sharing { quota: Quota { time, lines: share.lines.unwrap_or(LINES) }, endless })
    }

    /// The time limit of the whole call, so that the share is used up before it.
    pub fn limit(&self, timeout: Option<Duration>) -> Option<Duration> {
        timeout.map(|timeout| timeout.max(self.quota.time + ALLOWANCE))
    }

    /// The same where the shell on the server did it, which tells no more than that.
    pub fn note_of_child(&self) -> String {
        let command = self.endless.as_deref().unwrap_or_default();
        let Quota { time, lines } = self.quota;
        format!("stopped after {} s or {lines} lines (`{command}` never ends by itself)", time.as_secs())
    }

    /// What the caller is told of the stop, on one line.
    pub fn note(&self, stopped: &Stopped) -> String {
        let reached = match stopped.reached {
            Reached::Time => format!("{} s", self.quota.time.as_secs()),
            Reached::Lines => format!("{} lines", self.quota.lines),
        };
        let why = match &self.endless {
            Some(command) => format!("`{command}` never ends by itself"),
            None => "as asked for".to_owned(),
        };
        let end = if stopped.stop.confirmed { "" } else { "; its end was not confirmed: it may still be running" };
        format!("stopped after {reached} ({why}; stream sets seconds and lines){end}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ssh::Stop;

    fn check(cmd: &str, asked: Option<Share>, timeout: Option<u64>, expected: Option<(u64, u64)>) {
        let timeout = timeout.map(Duration::from_secs);
        let sharing = Sharing::of(cmd, asked, timeout);
        let quota = expected.map(|(seconds, lines)| Quota { time: Duration::from_secs(seconds), lines });
        assert_eq!(sharing.as_ref().map(|sharing| sharing.quota), quota, "{cmd}");
        if let (Some(sharing), Some(timeout)) = (&sharing, timeout) {
            assert!(sharing.limit(Some(timeout)).unwrap() > sharing.quota.time);
        }
    }

    #[test]
    fn only_what_never_ends_or_is_asked_for_has_a_share() {
        let asked = |seconds, lines| Some(Share { seconds, lines });
        check("ls", None, Some(300), None);
        check("tail -f x", None, Some(300), Some((10, 100)));
        check("tail -f x", None, None, Some((10, 100)));
        check("tail -f x", None, Some(5), Some((5, 100)));
        check("tail -f x", asked(Some(2), None), Some(300), Some((2, 100)));
        check("make", asked(None, Some(7)), Some(300), Some((10, 7)));
        check("make", asked(None, None), Some(300), Some((10, 100)));
    }

    #[test]
    fn a_stop_says_what_was_reached_and_whether_it_worked() {
        let sharing = Sharing::of("sudo tail -f x", None, None).unwrap();
        let mut stopped = Stopped { reached: Reached::Time, stop: Stop { sent: vec!["INT"], confirmed: true } };
        assert_eq!(
            sharing.note(&stopped),
            "stopped after 10 s (`tail -f x` never ends by itself; stream sets seconds and lines)"
        );
        stopped.reached = Reached::Lines;
        stopped.stop.confirmed = false;
        let sharing = Sharing::of("make", Some(Share::default()), None).unwrap();
        assert_eq!(
            sharing.note(&stopped),
            "stopped after 100 lines (as asked for; stream sets seconds and lines); its end was not confirmed: it may \
             still be running"
        );
    }

    #[test]
    fn a_share_of_nothing_is_refused() {
        assert!(Share { seconds: Some(0), lines: None }.check("t").unwrap_err().message.contains("stream.seconds"));
        assert!(Share { seconds: Some(1), lines: Some(0) }.check("t").unwrap_err().message.contains("stream.lines"));
        Share { seconds: Some(1), lines: Some(1) }.check("t").unwrap();
    }
}
