//! A whole transfer between two places: plan, compare, then act; and nothing unfinished stays behind.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::join;
use tokio_util::sync::CancellationToken;

use super::error::{Cause, FileError};
use super::files::{Files, Kind, Meta};
use super::globs::{Glob, is_glob};
use super::local::Local;
use super::meter::Meter;
use super::roots::{self, Resolved, Roots};
use super::steps;
use super::temp::{Claims, Tag};
use super::window::Window;

/// How long removing what is unfinished may take.
const CLEAN_UP: Duration = Duration::from_secs(10);
/// More failures are counted and not kept.
const KEPT_FAILURES: usize = 1000;

/// How files are transferred.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Replace what is equal, too, and links that are in the way of files.
    pub force: bool,
    /// Go on with what is there of a file.
    pub resume: bool,
    /// Compare SHA-256 on both sides.
    pub verify: bool,
    /// Keep times, and all twelve bits of the mode.
    pub preserve: bool,
    /// On the disk before it is said to be there.
    pub durable: bool,
    /// Plan only.
    pub dry_run: bool,
    /// `*`, `?`, `[]`, `**` and `{}` in the source's path mean many files.
    pub globs: bool,
}

/// What is shared by all transfers of the process.
#[derive(Clone, Debug)]
pub struct Commons {
    pub roots: Roots,
    pub tag: Tag,
    pub claims: Claims,
    pub local: Local,
}

impl Commons {
    /// `allowed`: where files may be; empty is everywhere. `ours`: the data directory.
    pub fn new(allowed: Vec<PathBuf>, ours: &Path) -> Self {
        // A link to the data directory leads to the same secrets.
        let ours = std::fs::canonicalize(ours).unwrap_or_else(|_| ours.to_owned());
        let machine = std::fs::read("/etc/machine-id").unwrap_or_default();
        let tag = Tag::new(&[&machine, ours.as_os_str().as_encoded_bytes()].concat());
        Commons { roots: Roots { allowed, ours }, tag, claims: Claims::default(), local: Local::default() }
    }
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Outcome {
    pub files: u64,
    pub directories: u64,
    pub links: u64,
    /// Moved over the line.
    pub bytes: u64,
    /// There already, of files that were continued.
    pub spared: u64,
    /// Equal already.
    pub skipped: u64,
    pub special: Vec<PathBuf>,
    /// The first ones; `failures` counts all.
    pub failed: Vec<FileError>,
    pub failures: u64,
    /// Files that were left alone after a failure that concerns them all.
    pub not_tried: u64,
    /// What a dry run would copy, with its size; `None` is a directory or a link.
    pub planned: Vec<(PathBuf, Option<u64>)>,
    pub duration: Duration,
}

impl Outcome {
    pub fn fail(&mut self, error: FileError) {
        self.failures += 1;
        if self.failed.len() < KEPT_FAILURES {
            self.failed.push(error);
        }
    }
}

/// Temporary files that exist, as far as we know.
#[derive(Debug, Default)]
pub struct Unfinished(Mutex<BTreeSet<PathBuf>>);

impl Unfinished {
    pub fn add(&self, path: &Path) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned());
    }

    pub fn forget(&self, path: &Path) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(path);
    }

    fn take(&self) -> BTreeSet<PathBuf> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One transfer that is going on.
pub struct Transfer<S: Files, T: Files> {
    pub source: Arc<S>,
    pub target: Arc<T>,
    pub source_root: PathBuf,
    pub target_root: PathBuf,
    /// The directories on the way to the target that are still to be made.
    pub missing: Vec<PathBuf>,
    pub options: Options,
    pub tag: Tag,
    pub claims: Claims,
    pub roots: Roots,
    pub window: Window,
    pub unfinished: Unfinished,
    pub meter: Arc<Meter>,
    moved: AtomicU64,
    spared: AtomicU64,
}

/// Transfers what is at `from` to `to`, both as users write them.
///
/// `Err` is for what concerns the whole: nothing that could be found, no connection, cancelled. A file that failed among
/// others is in the outcome. Whatever the end, temporary files are removed as far as the connection allows.
pub async fn run<S: Files, T: Files>(
    (source, from): (Arc<S>, &str),
    (target, to): (Arc<T>, &str),
    options: Options,
    commons: &Commons,
    meter: Arc<Meter>,
    cancel: &CancellationToken,
) -> Result<Outcome, FileError> {
    let started = Instant::now();
    let cancelled = || FileError::new(None, "go on", Path::new(""), Cause::Cancelled);
    let prepare = prepare(&*source, from, &*target, to, options, &commons.roots);
    let Ends { source_root, target: Resolved { path: target_root, there, missing }, top, glob } = tokio::select! {
        prepared = prepare => prepared?,
        () = cancel.cancelled() => return Err(cancelled()),
    };
    let window = Window::new(source.round_trip().max(target.round_trip()));
    let transfer = Transfer {
        source,
        target,
        source_root,
        target_root,
        missing,
        options,
        tag: commons.tag.clone(),
        claims: commons.claims.clone(),
        roots: commons.roots.clone(),
        window,
        unfinished: Unfinished::default(),
        meter,
        moved: AtomicU64::new(0),
        spared: AtomicU64::new(0),
    };
    let done = tokio::select! {
        done = steps::all(&transfer, (top, there), glob.as_ref()) => done,
        () = cancel.cancelled() => Err(cancelled()),
    };
    transfer.clean_up().await;
    let mut outcome = done?;
    outcome.bytes = transfer.moved.load(Ordering::Relaxed);
    outcome.spared = transfer.spared.load(Ordering::Relaxed);
    outcome.duration = started.elapsed();
    Ok(outcome)
}

/// What both ends turned out to be.
struct Ends {
    source_root: PathBuf,
    target: Resolved,
    /// What stands at the source.
    top: Meta,
    glob: Option<Glob>,
}

/// Resolves both ends, and finds out what the source is.
async fn prepare<S: Files, T: Files>(
    source: &S,
    from: &str,
    target: &T,
    to: &str,
    options: Options,
    roots: &Roots,
) -> Result<Ends, FileError> {
    let resolve = async |to: &str| {
        let wanted = target.absolute(to).await?;
        let resolved = roots::resolve(target, &wanted).await?;
        Ok::<_, FileError>((wanted, resolved))
    };
    let (found, resolved) = join(find(source, from, options), resolve(to)).await;
    let Found { path, top, real: source_root, glob } = found?;
    roots.check(source, &source_root).await?;
    let (wanted, mut target_end) = resolved?;
    // As cp and scp do: a file goes into a directory that is there, under its own name. A directory becomes the target.
    if top.kind == Kind::File
        && let Some(name) = path.file_name()
        && (to.ends_with('/') || target_end.there.as_ref().is_some_and(|there| there.kind == Kind::Dir))
    {
        target_end = roots::resolve(target, &wanted.join(name)).await?;
    }
    roots.check(target, &target_end.path).await?;
    Ok(Ends { source_root, target: target_end, top, glob })
}

/// What a user's name for the source stands for.
struct Found {
    path: PathBuf,
    top: Meta,
    real: PathBuf,
    glob: Option<Glob>,
}

async fn find<S: Files>(source: &S, from: &str, options: Options) -> Result<Found, FileError> {
    let look = async |path: &Path| join(source.meta(path, true), source.real_path(path)).await;
    let mut path = source.absolute(from).await?;
    let (found, mut real) = look(&path).await;
    let mut found = found?;
    let mut glob = None;
    // A name that is there is meant, whatever letters are in it.
    if found.is_none() && options.globs && is_glob(from) {
        let pattern = Glob::new(from).map_err(|error| {
            FileError::new(source.place(), "read the pattern", Path::new(from), Cause::Pattern(error))
        })?;
        path = source.absolute(&pattern.fixed).await?;
        let (fixed, real_fixed) = look(&path).await;
        (found, real) = (fixed?, real_fixed);
        glob = Some(pattern);
    }
    let top = found.ok_or_else(|| FileError::new(source.place(), "find", &path, Cause::NotFound))?;
    if top.kind == Kind::Special || glob.is_some() && top.kind != Kind::Dir {
        let why = if glob.is_some() { "it is no directory to search in" } else { "it is a device, FIFO or socket" };
        return Err(FileError::new(source.place(), "copy", &path, Cause::InTheWay(why)));
    }
    Ok(Found { path, top, real: real?, glob })
}

/// `root` itself for the empty path: joining that would add a slash.
fn below(root: &Path, path: &Path) -> PathBuf {
    if path.as_os_str().is_empty() { root.to_owned() } else { root.join(path) }
}

impl<S: Files, T: Files> Transfer<S, T> {
    pub fn from(&self, path: &Path) -> PathBuf {
        below(&self.source_root, path)
    }

    pub fn to(&self, path: &Path) -> PathBuf {
        below(&self.target_root, path)
    }

    /// That much has arrived.
    pub fn arrived(&self, bytes: u64) {
        self.moved.fetch_add(bytes, Ordering::Relaxed);
        self.meter.arrived(bytes);
    }

    /// That much of a file has to be moved once more.
    pub fn taken_back(&self, bytes: u64) {
        self.meter.again(bytes);
    }

    /// That much need not be moved.
    pub fn spared(&self, bytes: u64) -> u64 {
        self.spared.fetch_add(bytes, Ordering::Relaxed);
        self.meter.spared(bytes);
        bytes
    }

    /// Gives a finished file its real name. When the connection breaks just then, it is looked up whether it has it.
    pub async fn settle(&self, temporary: &Path, to: &Path) -> Result<(), FileError> {
        match self.target.rename(temporary, to, self.options.durable).await {
            Err(error) if error.is_lost() => match self.target.meta(temporary, false).await? {
                Some(_) => self.target.rename(temporary, to, self.options.durable).await,
                None => Ok(()),
            },
            done => done,
        }
    }

    /// Removes what is unfinished, within a time that nobody minds waiting.
    async fn clean_up(&self) {
        let left = self.unfinished.take();
        let removing = async {
            for path in &left {
                if let Err(error) = self.target.remove(path).await {
                    tracing::warn!(%error, "an unfinished file was left behind; the next transfer to it replaces it");
                    if error.is_fatal() {
                        break;
                    }
                }
            }
        };
        if tokio::time::timeout(CLEAN_UP, removing).await.is_err() {
            tracing::warn!(files = left.len(), "unfinished files could not be removed in time");
        }
    }
}
