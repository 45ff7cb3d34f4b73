//! What was found out on a server and is likely to hold the next time, so that it costs no second round trip then: that only
//! root may read a log, or that a program is too old for an option.
//!
//! It is a guess of how to ask first. What counts is what the server says now.

use std::collections::BTreeSet;

use orchestrator_sdk::prelude::*;

/// So much fits into a value by far; a server of which more is known begins anew.
const MAX_FACTS: usize = 100;
const MAX_BYTES: usize = 300;

/// What is known of one server.
pub struct Learned<'a> {
    host: &'a dyn Host,
    key: String,
    facts: BTreeSet<String>,
}

impl<'a> Learned<'a> {
    /// A memory that cannot be read is as good as none.
    pub fn of(host: &'a dyn Host, alias: &str) -> Learned<'a> {
        let key = format!("learned/{alias}");
        let facts = host.kv_json(&key).ok().flatten().unwrap_or_default();
        Learned { host, key, facts }
    }

    pub fn knows(&self, fact: &str) -> bool {
        self.facts.contains(fact)
    }

    /// Keeps that a fact holds, or that it does not.
    pub fn learn(&mut self, fact: &str, holds: bool) {
        if holds == self.knows(fact) || fact.len() > MAX_BYTES {
            return;
        }
        if self.facts.len() >= MAX_FACTS {
            self.facts.clear();
        }
        match holds {
            true => self.facts.insert(fact.to_owned()),
            false => self.facts.remove(fact),
        };
        // It costs a round trip the next time and nothing else.
        let _ = self.host.kv_set_json(&self.key, &self.facts);
    }
}
