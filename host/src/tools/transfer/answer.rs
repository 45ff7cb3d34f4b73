//! What came of a transfer, for the caller: what failed first, then what was done, in numbers that a person can read.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use super::Direction;
use crate::call::Reply;
use crate::capability::{FileError, Pair, Place, TransferOutcome, shown_path, shown_size};
use crate::error::Problem;

/// How many names of each kind are shown in the text, and how many are in the data.
const SHOWN: usize = 10;
const KEPT: usize = 200;

/// What was asked for.
pub struct Manner {
    pub from: Place,
    pub to: Place,
    pub pair: Pair,
    pub dry_run: bool,
}

/// A file that was not transferred.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Failed {
    path: String,
    reason: String,
}

/// What a dry run would copy.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Planned {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
}

/// The numbers of a transfer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Kept {
    files: u64,
    /// Over the line.
    bytes: u64,
    /// Equal already.
    skipped: u64,
    /// How many failed; the first ones are in `failures`.
    failed: u64,
    #[schemars(skip)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failures: Vec<Failed>,
    #[schemars(skip)]
    #[serde(skip_serializing_if = "is_zero")]
    not_tried: u64,
    #[schemars(skip)]
    #[serde(skip_serializing_if = "is_zero")]
    directories: u64,
    #[schemars(skip)]
    #[serde(skip_serializing_if = "is_zero")]
    links: u64,
    /// Of partial files that were continued.
    #[schemars(skip)]
    #[serde(skip_serializing_if = "is_zero")]
    resumed_bytes: u64,
    /// Devices, FIFOs and sockets, which are not copied.
    #[schemars(skip)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    special: Vec<String>,
    #[schemars(skip)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    planned: Vec<Planned>,
    /// How many that is; the first ones are in `planned`.
    #[schemars(skip)]
    #[serde(skip_serializing_if = "is_zero")]
    planned_total: u64,
    duration_ms: u64,
    /// Millions of bytes per second.
    #[schemars(skip)]
    mb_per_s: f64,
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}

impl From<TransferOutcome> for Kept {
    fn from(outcome: TransferOutcome) -> Kept {
        let failed = |error: &FileError| Failed { path: shown_path(&error.path), reason: error.to_string() };
        let rate = outcome.bytes as f64 / 1e6 / outcome.duration.as_secs_f64().max(1e-3);
        Kept {
            files: outcome.files,
            bytes: outcome.bytes,
            skipped: outcome.skipped,
            failed: outcome.failures,
            failures: outcome.failed.iter().take(KEPT).map(failed).collect(),
            not_tried: outcome.not_tried,
            directories: outcome.directories,
            links: outcome.links,
            resumed_bytes: outcome.spared,
            special: outcome.special.iter().take(KEPT).map(|path| shown_path(path)).collect(),
            planned_total: outcome.planned.len() as u64,
            planned: outcome
                .planned
                .iter()
                .take(KEPT)
                .map(|(path, bytes)| Planned { path: shown_path(path), bytes: *bytes })
                .collect(),
            duration_ms: millis(outcome.duration),
            mb_per_s: (rate * 10.0).round() / 10.0,
        }
    }
}

/// What `task_transfer` answers.
#[derive(Serialize, JsonSchema)]
pub struct TransferResult {
    direction: Direction,
    from: String,
    to: String,
    #[serde(flatten)]
    done: Kept,
}

/// What became of one item.
#[derive(Serialize, JsonSchema)]
pub struct ItemResult {
    local: String,
    remote: String,
    #[serde(flatten)]
    done: Kept,
    /// Why nothing was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl ItemResult {
    pub fn of(local: String, remote: String, done: Kept) -> Self {
        ItemResult { local, remote, done, error: None }
    }

    pub fn failed(local: String, remote: String, error: FileError) -> Self {
        ItemResult { local, remote, done: Kept::default(), error: Some(error.to_string()) }
    }

    fn way(&self, direction: Direction) -> String {
        match direction {
            Direction::Download => format!("{} -> {}", self.remote, self.local),
            _ => format!("{} -> {}", self.local, self.remote),
        }
    }

    fn is_good(&self) -> bool {
        self.error.is_none() && self.done.failed == 0 && self.done.not_tried == 0
    }
}

/// What `task_transfer_multi` answers.
#[derive(Serialize, JsonSchema)]
pub struct ManyResult {
    alias: String,
    direction: Direction,
    /// In the order in which they were given.
    results: Vec<ItemResult>,
    files: u64,
    bytes: u64,
    skipped: u64,
    /// Items that failed in part or as a whole.
    failed: u64,
}

fn place(place: &Place, path: &str) -> String {
    match place {
        Place::Here => path.to_owned(),
        Place::Server(alias) => format!("{alias}:{path}"),
    }
}

/// A single file that failed is an error with its reason; of several the failures come first.
pub fn one(manner: &Manner, direction: Direction, mut outcome: TransferOutcome) -> Result<Reply, Problem> {
    let done_something = outcome.files + outcome.skipped + outcome.links + outcome.directories + outcome.not_tried > 0;
    if outcome.failures == 1 && !done_something && !outcome.failed.is_empty() {
        return Err(outcome.failed.remove(0).into());
    }
    let (from, to) = (place(&manner.from, &manner.pair.from), place(&manner.to, &manner.pair.to));
    let done = Kept::from(outcome);
    let is_error = done.failed > 0 || done.not_tried > 0;
    let mut text = String::new();
    bad_news(&mut text, &done);
    if manner.dry_run {
        plan(&mut text, &done, &from, &to);
    } else {
        text.push_str(&format!("{} from {from} to {to}", summary(&done)));
    }
    for path in done.special.iter().take(SHOWN) {
        text.push_str(&format!("\nnot copied, since it is neither file, directory nor link: {path}"));
    }
    Ok(Reply::new(text, &TransferResult { direction, from, to, done }).error(is_error))
}

fn bad_news(text: &mut String, done: &Kept) {
    if done.failed > 0 {
        text.push_str(&format!("{} failed:\n", done.failed));
        for failed in done.failures.iter().take(SHOWN) {
            text.push_str(&format!("- {}\n", failed.reason));
        }
        if done.failed > SHOWN as u64 {
            text.push_str(&format!("- … and {} more\n", done.failed - SHOWN as u64));
        }
    }
    if done.not_tried > 0 {
        text.push_str(&format!("{} files were not tried after that.\n", done.not_tried));
    }
}

fn plan(text: &mut String, done: &Kept, from: &str, to: &str) {
    let bytes: u64 = done.planned.iter().filter_map(|planned| planned.bytes).sum();
    let more = if done.planned_total > KEPT as u64 { " or more" } else { "" };
    text.push_str(&format!(
        "Nothing was done (dryRun). {} entries ({}{more}) would be copied from {from} to {to}; {} are equal.",
        done.planned_total,
        shown_size(bytes),
        done.skipped
    ));
    for planned in done.planned.iter().take(SHOWN * 2) {
        let size = planned.bytes.map(|bytes| format!(" ({})", shown_size(bytes))).unwrap_or_default();
        text.push_str(&format!("\n{}{size}", planned.path));
    }
    if done.planned_total > SHOWN as u64 * 2 {
        text.push_str(&format!("\n… and {} more", done.planned_total - SHOWN as u64 * 2));
    }
}

fn count(number: u64, one: &str, many: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {many}") }
}

/// One line: what was copied, how fast, and what was left alone.
fn summary(done: &Kept) -> String {
    let mut parts = vec![format!("{} ({})", count(done.files, "file", "files"), shown_size(done.bytes))];
    if done.directories > 0 {
        parts.push(count(done.directories, "new directory", "new directories"));
    }
    if done.links > 0 {
        parts.push(count(done.links, "link", "links"));
    }
    if done.files + done.directories + done.links == 0 && done.failed == 0 {
        return format!("nothing to copy, {} as it should be", count(done.skipped, "entry is", "entries are"));
    }
    let mut text = format!("{} copied", parts.join(", "));
    if done.resumed_bytes > 0 {
        text.push_str(&format!(", {} were there already", shown_size(done.resumed_bytes)));
    }
    if done.skipped > 0 {
        text.push_str(&format!(", {} skipped as equal", done.skipped));
    }
    text.push_str(&format!(" in {:.1} s", done.duration_ms as f64 / 1000.0));
    if done.bytes >= 1_000_000 {
        text.push_str(&format!(" ({:.1} MB/s)", done.mb_per_s));
    }
    text
}

/// Items that went wrong first, each with its reason; then the others, a line each.
pub fn many(alias: String, direction: Direction, results: Vec<ItemResult>) -> Reply {
    let failed = results.iter().filter(|result| !result.is_good()).count() as u64;
    let mut lines = Vec::new();
    for result in results.iter().filter(|result| !result.is_good()) {
        let mut line = format!("FAILED {}: ", result.way(direction));
        match &result.error {
            Some(error) => line.push_str(error),
            None => bad_news(&mut line, &result.done),
        }
        lines.push(line.trim_end().to_owned());
    }
    for result in results.iter().filter(|result| result.is_good()).take(SHOWN * 2) {
        lines.push(format!("{}: {}", result.way(direction), summary(&result.done)));
    }
    let sum = |of: fn(&Kept) -> u64| results.iter().map(|result| of(&result.done)).sum::<u64>();
    let (files, bytes, skipped) = (sum(|done| done.files), sum(|done| done.bytes), sum(|done| done.skipped));
    lines.push(format!(
        "{} of {}: {} ({}) copied, {skipped} skipped as equal",
        results.len() as u64 - failed,
        count(results.len() as u64, "item", "items"),
        count(files, "file", "files"),
        shown_size(bytes)
    ));
    let result = ManyResult { alias, direction, results, files, bytes, skipped, failed };
    Reply::new(lines.join("\n"), &result).error(failed > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manner(dry_run: bool) -> Manner {
        let pair = Pair { from: "/here/a".to_owned(), to: "/there".to_owned() };
        Manner { from: Place::Here, to: Place::Server("web".to_owned()), pair, dry_run }
    }

    #[test]
    fn what_failed_comes_first() {
        let place: std::sync::Arc<str> = "web".into();
        let path = std::path::Path::new("/there/x");
        let error = FileError::new(Some(&place), "write", path, crate::capability::TransferCause::Denied);
        let mut outcome = TransferOutcome { files: 2, bytes: 3_000_000, skipped: 1, ..TransferOutcome::default() };
        outcome.duration = Duration::from_secs(1);
        outcome.fail(error.clone());
        let reply = one(&manner(false), Direction::Upload, outcome).unwrap();
        assert!(reply.is_error);
        assert_eq!(
            reply.text,
            "1 failed:\n- web: could not write /there/x: permission denied\n2 files (3.0 MB) copied, 1 skipped as equal \
             in 1.0 s (3.0 MB/s) from /here/a to web:/there"
        );
        let mut alone = TransferOutcome::default();
        alone.fail(error);
        assert_eq!(one(&manner(false), Direction::Upload, alone).unwrap_err().code.as_str(), "TRANSFER_FAILED");
    }

    #[test]
    fn a_dry_run_says_that_nothing_was_done() {
        let planned = vec![("/there/a".into(), Some(1500)), ("/there/d".into(), None)];
        let outcome = TransferOutcome { planned, skipped: 4, ..TransferOutcome::default() };
        let reply = one(&manner(true), Direction::Upload, outcome).unwrap();
        assert_eq!(
            reply.text,
            "Nothing was done (dryRun). 2 entries (1.5 kB) would be copied from /here/a to web:/there; 4 are equal.\n\
             /there/a (1.5 kB)\n/there/d"
        );
    }

    #[test]
    fn items_that_failed_come_first() {
        let path = std::path::Path::new("/a");
        let error =
            FileError::new(None, "find", path, crate::capability::TransferCause::Pattern("nothing matches".into()));
        let nothing = ItemResult::failed("/a/*".to_owned(), "/b".to_owned(), error);
        let some = ItemResult::of("/c".to_owned(), "/d".to_owned(), Kept { files: 1, bytes: 9, ..Kept::default() });
        let same = ItemResult::of("/e".to_owned(), "/f".to_owned(), Kept { skipped: 1, ..Kept::default() });
        let reply = many("web".to_owned(), Direction::Upload, vec![some, nothing, same]);
        assert!(reply.is_error);
        assert_eq!(
            reply.text,
            "FAILED /a/* -> /b: this machine: could not find /a: nothing matches\n/c -> /d: 1 file (9 B) copied in 0.0 s\n\
             /e -> /f: nothing to copy, 1 entry is as it should be\n2 of 3 items: 1 file (9 B) copied, 1 skipped as equal"
        );
    }
}
