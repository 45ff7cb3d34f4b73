//! How many files this process may have open. A connection is one, and systems give a process some hundreds unless it asks.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What a fleet of thousands of servers needs. Some systems name no limit and then refuse large ones.
const ENOUGH: u64 = 65_536;

/// Raises the limit as far as the system lets this process do that by itself. Where it can't be raised everything works with
/// fewer connections.
pub fn allow_many() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(ENOUGH).min(ENOUGH);
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum });
    if let Err(error) = raised {
        tracing::warn!(%error, wanted, "the number of files that may be open was not raised");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_to_what_is_allowed_and_never_lowered() {
        let before = getrlimit(Resource::Nofile);
        let low = Rlimit { current: before.current.map(|current| current.saturating_sub(1)), maximum: before.maximum };
        setrlimit(Resource::Nofile, low).unwrap();
        allow_many();
        let raised = getrlimit(Resource::Nofile);
        let allowed = before.maximum.unwrap_or(ENOUGH).min(ENOUGH);
        assert_eq!((raised.current, raised.maximum), (Some(allowed), before.maximum));
        allow_many();
        assert_eq!(getrlimit(Resource::Nofile).current, raised.current);
    }
}
