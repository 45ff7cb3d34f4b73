//! Which servers are meant: an alias, a list of them, `all`, or `tag:NAME` (also `group:NAME`). Not what is done to them.

use super::{ServerFacts, Servers};
use crate::error::{Code, Problem};

impl Servers {
    /// The aliases that `words` mean, each once, in the order in which they were named; those of a tag are sorted.
    /// One word that means no server refuses all of them, so that a slip never runs on a part of what was meant.
    pub fn select(&self, words: &[String]) -> Result<Vec<String>, Problem> {
        select(words, &self.list(), |alias| self.describe(alias).map(|facts| facts.alias))
    }
}

/// Whether a word may mean more than one server.
pub fn is_selector(word: &str) -> bool {
    word.eq_ignore_ascii_case("all") || tag_of(word).is_some()
}

fn tag_of(word: &str) -> Option<&str> {
    word.strip_prefix("tag:").or_else(|| word.strip_prefix("group:"))
}

fn select(
    words: &[String],
    servers: &[ServerFacts],
    find: impl Fn(&str) -> Result<String, Problem>,
) -> Result<Vec<String>, Problem> {
    if words.is_empty() {
        return Err(Problem::invalid("argument \"alias\" is an empty list: name at least one server")
            .detail("argument", "alias"));
    }
    let mut seen = std::collections::HashSet::new();
    let mut chosen = Vec::new();
    for word in words {
        let meant = if word.eq_ignore_ascii_case("all") {
            servers.iter().map(|server| server.alias.clone()).collect()
        } else if let Some(tag) = tag_of(word) {
            tagged(tag, servers)
        } else {
            vec![find(word)?]
        };
        if meant.is_empty() {
            return Err(nobody(word, servers));
        }
        chosen.extend(meant.into_iter().filter(|alias| seen.insert(alias.clone())));
    }
    Ok(chosen)
}

fn tagged(tag: &str, servers: &[ServerFacts]) -> Vec<String> {
    let has = |server: &&ServerFacts| server.tags.iter().any(|own| own == tag);
    servers.iter().filter(has).map(|server| server.alias.clone()).collect()
}

fn nobody(word: &str, servers: &[ServerFacts]) -> Problem {
    let tags: std::collections::BTreeSet<&str> =
        servers.iter().flat_map(|server| server.tags.iter().map(String::as_str)).collect();
    let hint = if servers.is_empty() {
        "Add a server with server_add first.".to_owned()
    } else if tags.is_empty() {
        "No server has a tag yet; server_add sets them with tags.".to_owned()
    } else {
        format!("The tags that there are: {}.", tags.into_iter().take(50).collect::<Vec<_>>().join(", "))
    };
    let message = match tag_of(word) {
        Some(tag) => format!("no server has the tag {tag:?}"),
        None => format!("{word:?} means no server: none is known"),
    };
    Problem::new(Code::ServerNotFound, message).detail("alias", word).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers() -> Vec<ServerFacts> {
        [("db", vec!["prod"]), ("web1", vec!["prod", "web"]), ("web2", vec!["web"])]
            .map(|(alias, tags)| ServerFacts {
                alias: alias.to_owned(),
                tags: tags.into_iter().map(str::to_owned).collect(),
                description: None,
            })
            .to_vec()
    }

    fn run(words: &[&str], servers: &[ServerFacts]) -> Result<Vec<String>, Problem> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        select(&words, servers, |alias| {
            let known = servers.iter().any(|server| server.alias == alias);
            known.then(|| alias.to_owned()).ok_or_else(|| Problem::new(Code::ServerNotFound, format!("no {alias}")))
        })
    }

    fn check(words: &[&str], expected: &[&str]) {
        assert_eq!(run(words, &servers()).unwrap(), expected, "{words:?}");
    }

    #[test]
    fn words_mean_servers_each_of_them_once() {
        check(&["web2"], &["web2"]);
        check(&["web2", "db", "web2"], &["web2", "db"]);
        check(&["all"], &["db", "web1", "web2"]);
        check(&["ALL"], &["db", "web1", "web2"]);
        check(&["tag:web"], &["web1", "web2"]);
        check(&["group:prod"], &["db", "web1"]);
        check(&["web1", "tag:web", "tag:prod"], &["web1", "web2", "db"]);
    }

    #[test]
    fn a_word_that_means_nobody_refuses_all() {
        let problem = run(&["web1", "wbe2"], &servers()).unwrap_err();
        assert_eq!((problem.code, problem.message.as_str()), (Code::ServerNotFound, "no wbe2"));
        let problem = run(&["web1", "tag:mail"], &servers()).unwrap_err();
        assert_eq!(problem.message, "no server has the tag \"mail\"");
        assert_eq!(problem.hint.as_deref(), Some("The tags that there are: prod, web."));
        assert_eq!(run(&["all"], &[]).unwrap_err().code, Code::ServerNotFound);
        assert_eq!(run(&[], &servers()).unwrap_err().code, Code::InvalidArgument);
    }

    #[test]
    fn only_all_and_tags_may_mean_several() {
        for (word, several) in [("all", true), ("tag:a", true), ("group:a", true), ("web", false), ("all-in", false)] {
            assert_eq!(is_selector(word), several, "{word}");
        }
    }
}
