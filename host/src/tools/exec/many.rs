//! One command on many servers at once: each with its own end and its own output, and none hidden by another's failure.
//!
//! A job has one spool, so what a server prints is kept in memory, in part: 20,000 characters for all servers together,
//! both ends of each. As soon as a server is done its part goes to the spool as well, for whoever looks meanwhile.

use std::sync::Arc;

use futures::{FutureExt, StreamExt, stream};
use schemars::JsonSchema;
use serde::Serialize;

use super::stream::Sharing;
use super::{ExecResult, INLINE_OUTPUT, is_good, note, render};
use crate::call::{Call, Reply, Report};
use crate::capability::{Ends, Excerpt, Shell, Stream};
use crate::error::{Code, Problem};
use crate::jobs::{Spool, clean};
use crate::tools::Core;

/// How many servers are under way at most. Many, because one that is silent costs little while it is waited for, and must not
/// hold up those that answer; bounded, because each takes a file descriptor and some 200 kB.
const AT_ONCE: usize = 256;

/// What `task_exec` answers for many servers.
#[derive(Serialize, JsonSchema)]
pub(super) struct ManyResult {
    /// In the order in which the servers were named.
    results: Vec<ServerResult>,
    /// Servers whose command exited with 0.
    #[schemars(skip)]
    ok: usize,
    /// All others.
    #[schemars(skip)]
    failed: usize,
}

#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
enum ServerResult {
    Ran(ExecResult),
    Failed {
        alias: String,
        #[schemars(with = "serde_json::Value")]
        error: Problem,
    },
}

/// One server's part of the answer.
struct Part {
    /// Where the server stood in the list.
    place: usize,
    alias: String,
    ok: bool,
    text: String,
    result: ServerResult,
}

pub(super) async fn run(
    core: Arc<Core>,
    words: &[String],
    shell: Shell,
    sharing: Option<&Sharing>,
    call: Call,
    spool: Spool,
) -> Result<Reply, Problem> {
    // Once more, since a server may have been removed while the job waited.
    let aliases = core.servers.select(words)?;
    let total = aliases.len();
    let limit = INLINE_OUTPUT / total.max(1);
    let mut running = stream::iter(aliases.into_iter().enumerate())
        .map(|(place, alias)| {
            let ask = Ask { place, alias, shell: shell.clone(), sharing: sharing.cloned(), limit };
            one(Arc::clone(&core), ask, call.clone()).boxed()
        })
        .buffer_unordered(AT_ONCE);
    let mut parts: Vec<Part> = Vec::new();
    while let Some(part) = running.next().await {
        spool.write(Stream::Stdout, section(&part).as_bytes()).await;
        let message = format!("{} of {total} ({})", parts.len() + 1, part.alias);
        parts.push(part);
        call.progress.report(Report { done: parts.len() as f64, total: Some(total as f64), message: Some(message) });
    }
    let reply = answer(parts);
    if call.cancel.is_cancelled() {
        let results = reply.structured.get("results").cloned().unwrap_or_default();
        return Err(Problem::new(Code::Cancelled, format!("cancelled while a command was run on {total} servers"))
            .detail("results", results)
            .hint("The results tell on which servers it had ended before."));
    }
    Ok(reply)
}

/// What one server is asked for.
struct Ask {
    place: usize,
    alias: String,
    shell: Shell,
    sharing: Option<Sharing>,
    /// Characters of its output in the answer.
    limit: usize,
}

async fn one(core: Arc<Core>, ask: Ask, call: Call) -> Part {
    let Ask { place, alias, shell, sharing, limit } = ask;
    let mut excerpt = Excerpt::new(limit);
    match core.servers.shell(&call, &alias, shell, &mut excerpt).await {
        Err(error) => {
            let mut text = error.text();
            // What it had printed may tell why it failed.
            let (stdout, stderr) = shown(&excerpt, limit);
            for (printed, _) in [stdout, stderr].into_iter().filter(|(printed, _)| !printed.is_empty()) {
                text.push('\n');
                text.push_str(printed.trim_end_matches('\n'));
            }
            Part { place, alias: alias.clone(), ok: false, text, result: ServerResult::Failed { alias, error } }
        }
        Ok(finished) => {
            let ((stdout, cut), (stderr, cut_too)) = shown(&excerpt, limit);
            let (ok, stopped) = (is_good(&finished), note(&finished, sharing.as_ref()));
            let text = render(&finished, stopped.as_deref(), &stdout, &stderr);
            let result = ExecResult {
                alias: alias.clone(),
                exit_code: finished.exit_code,
                signal: finished.exit_signal,
                truncated: cut || cut_too,
                stdout,
                stderr,
                stdout_bytes: excerpt.stdout.total(),
                stderr_bytes: excerpt.stderr.total(),
                duration_ms: finished.duration.as_millis().try_into().unwrap_or(u64::MAX),
                stopped,
            };
            Part { place, alias, ok, text, result: ServerResult::Ran(result) }
        }
    }
}

/// Both streams as text, and whether something of them is left out; each has what the other one leaves, and at least half.
fn shown(excerpt: &Excerpt, limit: usize) -> ((String, bool), (String, bool)) {
    let half = limit / 2;
    let lengths = [&excerpt.stdout, &excerpt.stderr].map(|ends| usize::try_from(ends.total()).unwrap_or(usize::MAX));
    let [stdout, stderr] = lengths;
    let first = stdout.min(limit - stderr.min(half));
    (show(&excerpt.stdout, first), show(&excerpt.stderr, stderr.min(limit - first)))
}

/// A stream as text of at most `limit` characters beside the marker.
fn show(ends: &Ends, limit: usize) -> (String, bool) {
    let (head, tail) = ends.halves();
    let (head, tail) = (clean(&head), clean(&tail));
    let shown = head.chars().count() + tail.chars().count();
    if ends.omitted() == 0 && shown <= limit {
        return (head, false);
    }
    // Without a gap in memory both ends are in the head.
    let all = head + &tail;
    let begin: String = all.chars().take(limit / 2).collect();
    let rest = shown.saturating_sub(limit - limit / 2).max(limit / 2);
    let end: String = all.chars().skip(rest).collect();
    let left = ends.total().saturating_sub((begin.len() + end.len()) as u64);
    (format!("{begin}\n[… {left} bytes left out: run it on this server alone to read all …]\n{end}"), true)
}

fn section(part: &Part) -> String {
    let text = part.text.trim_end_matches('\n');
    format!("== {} ==\n{text}\n", part.alias)
}

/// The failures first; in the structure every server stands where it was named.
fn answer(mut parts: Vec<Part>) -> Reply {
    parts.sort_by_key(|part| (part.ok, part.place));
    let failed = parts.iter().filter(|part| !part.ok).count();
    let mut text = match failed {
        0 => format!("ok on all {}\n", parts.len()),
        failed => format!("failed on {failed} of {}\n", parts.len()),
    };
    for part in &parts {
        text.push_str(&section(part));
    }
    parts.sort_by_key(|part| part.place);
    let ok = parts.len() - failed;
    let results = parts.into_iter().map(|part| part.result).collect();
    Reply::new(text, &ManyResult { results, ok, failed }).error(failed > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capability::OutputSink;

    async fn check(limit: usize, printed: &str, expected: &str) {
        let cut = printed.len() > limit;
        let mut excerpt = Excerpt::new(limit);
        excerpt.write(Stream::Stdout, printed.as_bytes()).await.unwrap();
        assert_eq!(shown(&excerpt, limit), ((expected.to_owned(), cut), (String::new(), false)));
    }

    #[tokio::test]
    async fn what_is_left_out_is_said() {
        check(10, "hello\n", "hello\n").await;
        check(10, "0123456789", "0123456789").await;
        check(10, "0123456789abcdef", "01234\n[… 6 bytes left out: run it on this server alone to read all …]\nbcdef")
            .await;
    }

    #[test]
    fn failures_come_first_and_the_structure_keeps_the_order() {
        let part = |place, alias: &str, ok| Part {
            place,
            alias: alias.to_owned(),
            ok,
            text: format!("text of {alias}\n"),
            result: ServerResult::Failed { alias: alias.to_owned(), error: Problem::internal(alias) },
        };
        let reply = answer(vec![part(2, "c", true), part(0, "a", true), part(1, "b", false)]);
        assert_eq!(reply.text, "failed on 1 of 3\n== b ==\ntext of b\n== a ==\ntext of a\n== c ==\ntext of c\n");
        assert!(reply.is_error);
        let named: Vec<_> = reply.structured["results"].as_array().unwrap().iter().map(|one| &one["alias"]).collect();
        assert_eq!(named, ["a", "b", "c"]);
        assert_eq!((&reply.structured["ok"], &reply.structured["failed"]), (&2.into(), &1.into()));
    }
}
