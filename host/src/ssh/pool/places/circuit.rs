//! A server that cannot be reached again and again is left alone for a while: neither it nor the callers get anything from
//! one more attempt per call, and a login that is refused too often locks the account or the address out.
//!
//! Pure: the time is passed in.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::ssh::error::{Endpoint, SshError};

/// Failures in a row after which the server is left alone.
const LIMIT: u32 = 3;
/// How long at first; twice as long after each further failure.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// Several connections that fail at the same time say no more than one.
const SAME_TIME: Duration = Duration::from_millis(100);

/// What is known of the last attempts to connect.
#[derive(Debug, Default)]
pub struct Circuit {
    failures: u32,
    last: Option<(Instant, SshError)>,
    until: Option<Instant>,
}

impl Circuit {
    pub fn succeeded(&mut self) {
        *self = Circuit::default();
    }

    pub fn failed(&mut self, error: &SshError, now: Instant) {
        if !counts(error) || self.last.as_ref().is_some_and(|(last, _)| now < *last + SAME_TIME) {
            return;
        }
        self.failures += 1;
        self.last = Some((now, error.clone()));
        if let Some(over) = self.failures.checked_sub(LIMIT) {
            self.until = Some(now + (FIRST_PAUSE * 2u32.pow(over.min(8))).min(MAX_PAUSE));
        }
    }

    /// The error for a caller who would have to connect now. `None`: he may.
    pub fn refuses(&self, at: &Arc<Endpoint>, now: Instant) -> Option<SshError> {
        let left = self.until?.checked_duration_since(now).filter(|left| !left.is_zero())?;
        let (_, last) = self.last.as_ref()?;
        Some(SshError::LeftAlone { at: at.clone(), failures: self.failures, left, source: Box::new(last.clone()) })
    }
}

/// Whether an error says that the server cannot be reached, or refuses to let us in. What a person decides about, such as an
/// unknown host key or a question of the server's, is looked at again as soon as it is asked for.
fn counts(error: &SshError) -> bool {
    match error {
        error if error.question().is_some() => false,
        SshError::Connect { .. }
        | SshError::Forward { .. }
        | SshError::Handshake { .. }
        | SshError::Login { .. }
        | SshError::Lost { .. }
        | SshError::Timeout { .. } => true,
        SshError::Jump { source, .. } => counts(source),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at() -> Arc<Endpoint> {
        Arc::new(Endpoint { alias: "web".to_owned(), host: "192.0.2.1".to_owned(), port: 22 })
    }

    fn refused() -> SshError {
        SshError::Connect { at: at(), cause: Arc::new(std::io::ErrorKind::ConnectionRefused.into()) }
    }

    /// Fails at these times, in seconds; then says how long callers are sent away at the last of them.
    fn check(error: &SshError, failures: &[u64], expected: u64) {
        let start = Instant::now();
        let time = |second: &u64| start + Duration::from_secs(*second);
        let mut circuit = Circuit::default();
        for second in failures {
            circuit.failed(error, time(second));
        }
        let left = match circuit.refuses(&at(), time(failures.last().unwrap())) {
            Some(SshError::LeftAlone { left, .. }) => left,
            Some(other) => panic!("{other}"),
            None => Duration::ZERO,
        };
        assert_eq!(left, Duration::from_secs(expected), "{failures:?}");
    }

    #[test]
    fn the_pause_begins_with_the_third_failure_and_doubles() {
        check(&refused(), &[0], 0);
        check(&refused(), &[0, 1], 0);
        check(&refused(), &[0, 1, 2], 2);
        check(&refused(), &[0, 1, 2, 5], 4);
        check(&refused(), &[0, 1, 2, 5, 10, 20, 40, 80, 120, 160, 200, 240], 30);
    }

    #[test]
    fn failures_at_the_same_time_are_one() {
        check(&refused(), &[0, 0, 0, 0, 0], 0);
    }

    #[test]
    fn what_a_person_decides_about_is_never_put_off() {
        let (fingerprint, key_type) = ("SHA256:x".to_owned(), "ssh-ed25519".to_owned());
        let unknown =
            SshError::HostKeyUnknown { at: at(), fingerprint, key_type, authority_only: false, line: String::new() };
        check(&unknown, &[0, 1, 2, 3, 4], 0);
    }

    #[test]
    fn success_forgets_everything_and_the_pause_has_an_end() {
        let start = Instant::now();
        let mut circuit = Circuit::default();
        for second in 0..3 {
            circuit.failed(&refused(), start + Duration::from_secs(second));
        }
        assert!(circuit.refuses(&at(), start + Duration::from_secs(3)).is_some());
        assert!(circuit.refuses(&at(), start + Duration::from_secs(4)).is_none());
        circuit.succeeded();
        assert!(circuit.refuses(&at(), start + Duration::from_secs(3)).is_none());
    }
}
