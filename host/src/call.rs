//! What every layer knows about the call that it serves: who asked, which job it is, until when, and how to stop it.
//!
//! Not what the call does: that is the tool's business.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::Problem;

/// A job's name: 13 characters of Crockford's base 32 behind a `j`. Later jobs have greater ids; none is ever used twice,
/// also when the clock jumps back (see `jobs::store`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("j")?;
        for position in (0..13).rev() {
            let digit = (self.0 >> (position * 5)) & 31;
            let letter = ALPHABET.get(digit as usize).copied().unwrap_or(b'0');
            write!(f, "{}", char::from(letter))?;
        }
        Ok(())
    }
}

impl std::str::FromStr for JobId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let digits = text.trim().strip_prefix('j').ok_or(())?;
        if digits.len() != 13 {
            return Err(());
        }
        let mut value: u128 = 0;
        for byte in digits.bytes() {
            let digit = ALPHABET.iter().position(|letter| *letter == byte.to_ascii_lowercase()).ok_or(())?;
            value = (value << 5) | digit as u128;
        }
        u64::try_from(value).map(JobId).map_err(|_| ())
    }
}

impl Serialize for JobId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for JobId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|()| serde::de::Error::custom(format!("{text:?} is not a job id")))
    }
}

/// What a tool answers when it did its work.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// For the model: short and readable.
    pub text: String,
    /// The full data; matches the tool's output schema.
    pub structured: Map<String, Value>,
    /// The work was done and its answer is bad news: a command that exited non-zero.
    #[serde(default)]
    pub is_error: bool,
}

impl Reply {
    /// A reply whose structured half is `data`, which must serialize to a JSON object.
    pub fn new(text: impl Into<String>, data: &impl Serialize) -> Self {
        let structured = match serde_json::to_value(data) {
            Ok(Value::Object(map)) => map,
            Ok(other) => Map::from_iter([("value".to_owned(), other)]),
            Err(_) => Map::new(),
        };
        Reply { text: text.into(), structured, is_error: false }
    }

    /// Marks the answer as bad news.
    pub fn error(mut self, is_error: bool) -> Self {
        self.is_error = is_error;
        self
    }
}

/// How far a call has come.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    pub done: f64,
    pub total: Option<f64>,
    pub message: Option<String>,
}

/// Where a call reports how far it has come. Only the last report counts: a watch channel, so that a slow reader costs
/// no memory and a report never waits.
#[derive(Clone, Debug)]
pub struct Progress(watch::Sender<Option<Report>>);

impl Default for Progress {
    fn default() -> Self {
        Progress(watch::Sender::new(None))
    }
}

impl Progress {
    pub fn report(&self, report: Report) {
        self.0.send_replace(Some(report));
    }

    pub fn subscribe(&self) -> watch::Receiver<Option<Report>> {
        self.0.subscribe()
    }
}

/// Whether a call's job is on disk yet. A job is committed while its call looks for a connection, which takes as long;
/// whoever is about to have an effect waits for it first.
#[derive(Clone, Debug)]
pub struct Recorded {
    done: watch::Receiver<bool>,
    /// The call only reads, as its tool says, and is not recorded before this is asked for or it has ended.
    asked: Option<Arc<Notify>>,
}

/// Says that the job is on disk. Dropped without a word it says that it never will be.
#[derive(Debug)]
pub struct Recorder {
    done: watch::Sender<bool>,
    asked: Option<Arc<Notify>>,
}

impl Recorded {
    /// Not yet, and whoever says when.
    pub fn pending() -> (Recorder, Recorded) {
        Recorded::wanted(None)
    }

    /// The same for a call that only reads, which is recorded when it has ended, unless that is asked for before.
    pub fn on_demand() -> (Recorder, Recorded) {
        Recorded::wanted(Some(Arc::default()))
    }

    fn wanted(asked: Option<Arc<Notify>>) -> (Recorder, Recorded) {
        let (sender, done) = watch::channel(false);
        (Recorder { done: sender, asked: asked.clone() }, Recorded { done, asked })
    }

    /// Waits for the commit before something that has no effect where the call only reads: then there is nothing to wait for.
    pub async fn wait_to_read(&self) -> Result<(), Problem> {
        if self.asked.is_some() { Ok(()) } else { self.wait().await }
    }

    /// Waits for the commit. Fails when there will be none: then nothing may be done.
    pub async fn wait(&self) -> Result<(), Problem> {
        if let Some(asked) = &self.asked {
            asked.notify_one();
        }
        let mut recorded = self.done.clone();
        let done = recorded.wait_for(|recorded| *recorded).await.is_ok();
        done.then_some(()).ok_or_else(|| Problem::internal("the job could not be recorded, so nothing was done"))
    }
}

impl Default for Recorded {
    /// There is nothing to wait for.
    fn default() -> Self {
        let (sender, done) = watch::channel(true);
        drop(sender);
        Recorded { done, asked: None }
    }
}

impl Recorder {
    /// Waits until somebody waits for the commit.
    pub async fn asked(&self) {
        if let Some(asked) = &self.asked {
            asked.notified().await;
        }
    }

    pub fn done(self) {
        self.done.send_replace(true);
    }
}

/// The call that is being served.
#[derive(Clone, Debug)]
pub struct Call {
    /// The job that this call is, if its tool runs as one.
    pub job: Option<JobId>,
    /// The tool that was called.
    pub tool: Arc<str>,
    /// The MCP client: name and version as it gave them.
    pub caller: Arc<str>,
    /// The plugin that acts in this call, as `name version`, if one does.
    pub plugin: Option<Arc<str>>,
    /// Fires when nobody wants the result any more.
    pub cancel: CancellationToken,
    /// When the whole call must have ended.
    pub deadline: Option<Instant>,
    pub progress: Progress,
    /// To be waited for before the first effect.
    pub recorded: Recorded,
}

impl Call {
    /// A call without a job, a deadline or anybody who could cancel it.
    pub fn new(tool: &str, caller: &str) -> Self {
        Call {
            job: None,
            tool: tool.into(),
            caller: caller.into(),
            plugin: None,
            cancel: CancellationToken::new(),
            deadline: None,
            progress: Progress::default(),
            recorded: Recorded::default(),
        }
    }

    /// The same call with its deadline no later than `limit` from now.
    pub fn within(mut self, limit: Duration) -> Self {
        let end = Instant::now() + limit;
        self.deadline = Some(self.deadline.map_or(end, |deadline| deadline.min(end)));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_id_survives_being_written_and_read() {
        for value in [0, 1, 31, 32, 1_732_300_000_000 << 16, u64::MAX] {
            assert_eq!(JobId(value).to_string().parse(), Ok(JobId(value)));
        }
        for wrong in ["", "j", "j123", "x0000000000001", "jzzzzzzzzzzzzz", "j000000000000u"] {
            assert_eq!(wrong.parse::<JobId>(), Err(()), "{wrong}");
        }
    }

    #[tokio::test]
    async fn an_effect_waits_for_the_record_and_is_refused_without_one() {
        Recorded::default().wait().await.unwrap();
        let (recorder, recorded) = Recorded::pending();
        let waiting = tokio::spawn({
            let recorded = recorded.clone();
            async move { recorded.wait().await }
        });
        recorder.done();
        waiting.await.unwrap().unwrap();
        recorded.wait().await.unwrap();
        let (recorder, recorded) = Recorded::pending();
        drop(recorder);
        assert!(recorded.wait().await.is_err());
    }

    #[test]
    fn later_job_ids_sort_later_as_text() {
        assert!(JobId(31).to_string() < JobId(32).to_string());
        assert!(JobId(1 << 40).to_string() < JobId(u64::MAX).to_string());
    }
}
