//! The steps of a transfer, in their order: list, compare names, compare contents, then directories, files and links.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use futures::StreamExt;
use futures::stream;
use tokio::sync::Semaphore;

use super::copy::{copy, digest};
use super::error::{Cause, FileError};
use super::files::{Files, Finish, Kind, Meta};
use super::globs::Glob;
use super::plan::{Item, Plan, Rules};
use super::transfer::{Outcome, Transfer};
use super::walk::{self, Tree};

/// How many steps on single names (directories, links, comparisons) run at once.
const AT_ONCE: usize = 32;
/// A file takes one place for so much of it, so that only a few large ones are moved at the same time.
const PLACE_SIZE: u64 = 64 << 10;

/// Does everything. `top` is what stands at the source itself, `there` what stands at the target.
pub async fn all<S: Files, T: Files>(
    transfer: &Transfer<S, T>,
    (top, there): (Meta, Option<Meta>),
    glob: Option<&Glob>,
) -> Result<Outcome, FileError> {
    let mut outcome = Outcome::default();
    let mut plan = if top.kind == Kind::Dir {
        let tree = list(transfer, glob).await?;
        if glob.is_some() && tree.entries.is_empty() && tree.failed.is_empty() {
            let nothing = Cause::Pattern("nothing matches".to_owned());
            return Err(FileError::new(transfer.source.place(), "find", &transfer.source_root, nothing));
        }
        plan(transfer, tree, (top, there), &mut outcome).await?
    } else {
        let mut plan = Plan::default();
        plan.add(Path::new(""), top, there, rules(transfer));
        plan
    };
    compare(transfer, &mut plan, &mut outcome).await?;
    for (path, why) in std::mem::take(&mut plan.blocked) {
        let (place, path) = (transfer.target.place(), transfer.to(&path));
        outcome.fail(FileError::new(place, "replace", &path, Cause::InTheWay(why)));
    }
    outcome.skipped = plan.skipped;
    outcome.special = plan.special.iter().map(|path| transfer.from(path)).collect();
    if transfer.options.dry_run {
        let named = |items: &[Item], sized: bool| -> Vec<(PathBuf, Option<u64>)> {
            items.iter().map(|item| (transfer.to(&item.path), sized.then_some(item.source.size))).collect()
        };
        outcome.planned =
            [named(&plan.directories, false), named(&plan.files, true), named(&plan.links, false)].concat();
        return Ok(outcome);
    }
    act(transfer, plan, &mut outcome).await?;
    Ok(outcome)
}

fn rules<S: Files, T: Files>(transfer: &Transfer<S, T>) -> Rules {
    // Only times that were set on purpose say something: those of a copy that was made in the second in which the original
    // was changed are the same, too, and SFTP has no fractions.
    let options = &transfer.options;
    Rules { force: options.force, careful: options.verify || !options.preserve }
}

/// What is to be copied, sorted by path.
async fn list<S: Files, T: Files>(transfer: &Transfer<S, T>, glob: Option<&Glob>) -> Result<Tree, FileError> {
    let is_local = transfer.source.place().is_none();
    let is_ours = |path: &Path| is_local && transfer.roots.is_ours(&transfer.from(path));
    let enters = |path: &Path| glob.is_none_or(|glob| glob.may_lead_to_match(path)) && !is_ours(path);
    let mut tree = walk::walk(&*transfer.source, &transfer.source_root, enters).await?;
    // What another transfer has not finished is no file yet, and what is ours is nobody's.
    let is_unfinished = |path: &Path| path.file_name().is_some_and(|name| transfer.tag.made(Path::new(name)));
    tree.entries.retain(|(path, _)| !is_unfinished(path) && !is_ours(path));
    if let Some(glob) = glob {
        tree.entries = glob.select(tree.entries);
    }
    tree.entries.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(tree)
}

/// Compares with what is there, one listing per directory.
async fn plan<S: Files, T: Files>(
    transfer: &Transfer<S, T>,
    tree: Tree,
    (top, there): (Meta, Option<Meta>),
    outcome: &mut Outcome,
) -> Result<Plan, FileError> {
    let mut plan = Plan::default();
    for error in tree.failed {
        outcome.fail(error);
    }
    let mut children: BTreeMap<PathBuf, Vec<(PathBuf, Meta)>> = BTreeMap::new();
    for (path, meta) in tree.entries {
        let parent = path.parent().unwrap_or(Path::new("")).to_owned();
        children.entry(parent).or_default().push((path, meta));
    }
    let exists = there.is_some();
    let enter = plan.add(Path::new(""), top, there, rules(transfer));
    let mut level = if enter { vec![(PathBuf::new(), exists)] } else { Vec::new() };
    while !level.is_empty() {
        let listings = level.into_iter().map(async |(directory, exists)| {
            let there = if exists { transfer.target.list(&transfer.to(&directory)).await } else { Ok(Vec::new()) };
            (directory, there)
        });
        let mut listings = stream::iter(listings).buffered(AT_ONCE);
        let mut next = Vec::new();
        while let Some((directory, there)) = listings.next().await {
            let there = match there {
                Ok(there) => there,
                Err(error) if error.is_fatal() => return Err(error),
                Err(error) => {
                    outcome.fail(error);
                    continue;
                }
            };
            let mut there: BTreeMap<PathBuf, Meta> = there.into_iter().collect();
            let stale = there.keys().filter(|name| transfer.tag.made(name));
            plan.stale.extend(stale.map(|name| transfer.to(&directory).join(name)));
            for (path, meta) in children.remove(&directory).unwrap_or_default() {
                let known = path.file_name().and_then(|name| there.remove(Path::new(name)));
                let exists = known.is_some();
                if plan.add(&path, meta, known, rules(transfer)) {
                    next.push((path, exists));
                }
            }
        }
        level = next;
    }
    Ok(plan)
}

/// Looks into what listings cannot tell: files of the same size, and where links lead.
async fn compare<S: Files, T: Files>(
    transfer: &Transfer<S, T>,
    plan: &mut Plan,
    outcome: &mut Outcome,
) -> Result<(), FileError> {
    let (source, target) = (&*transfer.source, &*transfer.target);
    let (doubtful, links) = (std::mem::take(&mut plan.doubtful), std::mem::take(&mut plan.links));
    let comparing = doubtful.into_iter().chain(links).map(async |item| {
        let (from, to) = (transfer.from(&item.path), transfer.to(&item.path));
        let equal = match (item.source.kind, item.target.as_ref().map(|there| there.kind)) {
            (Kind::Link, Some(Kind::Link)) => {
                let both = futures::future::try_join(source.read_link(&from), target.read_link(&to));
                both.await.map(|(ours, theirs)| ours == theirs)
            }
            (Kind::File, Some(Kind::File)) => {
                let size = item.source.size;
                let both = futures::future::try_join(digest(source, &from, size), digest(target, &to, size));
                both.await.map(|(ours, theirs)| ours == theirs)
            }
            _ => Ok(false),
        };
        (item, equal)
    });
    let mut compared = stream::iter(comparing).buffered(AT_ONCE);
    while let Some((item, equal)) = compared.next().await {
        match equal {
            Ok(true) => plan.skipped += 1,
            Ok(false) if item.source.kind == Kind::Link => plan.links.push(item),
            Ok(false) => {
                plan.bytes += item.source.size;
                plan.files.push(item);
            }
            Err(error) if error.is_fatal() => return Err(error),
            Err(error) => outcome.fail(error),
        }
    }
    Ok(())
}

async fn act<S: Files, T: Files>(
    transfer: &Transfer<S, T>,
    mut plan: Plan,
    outcome: &mut Outcome,
) -> Result<(), FileError> {
    transfer.meter.expect(plan.files.len() as u64, plan.bytes);
    if plan.files.len() + plan.links.len() + plan.directories.len() > 0 {
        make_parents(transfer).await?;
    }
    let made = make_directories(transfer, &mut plan, outcome).await?;
    remove_stale(transfer, &plan).await;
    copy_files(transfer, std::mem::take(&mut plan.files), outcome).await;
    if outcome.not_tried == 0 {
        make_links(transfer, std::mem::take(&mut plan.links), outcome).await;
    }
    finish_directories(transfer, made, outcome).await;
    Ok(())
}

/// The directories on the way to the target.
async fn make_parents<S: Files, T: Files>(transfer: &Transfer<S, T>) -> Result<(), FileError> {
    for directory in &transfer.missing {
        make_directory(transfer, directory, 0o755).await?;
    }
    Ok(())
}

/// One that has come into being meanwhile is as good.
async fn make_directory<S: Files, T: Files>(
    transfer: &Transfer<S, T>,
    path: &Path,
    mode: u32,
) -> Result<(), FileError> {
    match transfer.target.make_dir(path, mode).await {
        Err(error) => match transfer.target.meta(path, false).await {
            Ok(Some(there)) if there.kind == Kind::Dir => Ok(()),
            _ => Err(error),
        },
        done => done,
    }
}

/// Makes them level by level. What is below one that could not be made is left out and counted.
async fn make_directories<S: Files, T: Files>(
    transfer: &Transfer<S, T>,
    plan: &mut Plan,
    outcome: &mut Outcome,
) -> Result<Vec<Item>, FileError> {
    let mut levels: BTreeMap<usize, Vec<Item>> = BTreeMap::new();
    for item in std::mem::take(&mut plan.directories) {
        levels.entry(item.path.components().count()).or_default().push(item);
    }
    let (mut made, mut failed) = (Vec::new(), Vec::<PathBuf>::new());
    for items in levels.into_values() {
        let wanted = items.into_iter().filter(|item| !failed.iter().any(|failed| item.path.starts_with(failed)));
        let making: Vec<_> = wanted
            .map(async |item| {
                // Ours to write into for now, whatever it is in the end.
                let mode = item.source.mode & 0o777 | 0o700;
                let done = make_directory(transfer, &transfer.to(&item.path), mode).await;
                (item, done)
            })
            .collect();
        let mut making = stream::iter(making).buffered(AT_ONCE);
        let mut failed_now = Vec::new();
        while let Some((item, done)) = making.next().await {
            match done {
                Ok(()) => {
                    outcome.directories += 1;
                    made.push(item);
                }
                Err(error) if error.is_fatal() || item.path.as_os_str().is_empty() => return Err(error),
                Err(error) => {
                    outcome.fail(error);
                    failed_now.push(item.path);
                }
            }
        }
        drop(making);
        failed.append(&mut failed_now);
    }
    if !failed.is_empty() {
        let mut leave_out = |items: &mut Vec<Item>| {
            let before = items.len();
            items.retain(|item| !failed.iter().any(|failed| item.path.starts_with(failed)));
            outcome.failures += (before - items.len()) as u64;
        };
        leave_out(&mut plan.files);
        leave_out(&mut plan.links);
    }
    Ok(made)
}

/// A temporary file that will be written anew is left for that, or for being continued.
async fn remove_stale<S: Files, T: Files>(transfer: &Transfer<S, T>, plan: &Plan) {
    if plan.stale.is_empty() {
        return;
    }
    let wanted: std::collections::BTreeSet<PathBuf> =
        plan.files.iter().map(|item| transfer.tag.beside(&transfer.to(&item.path))).collect();
    for path in plan.stale.iter().filter(|path| !wanted.contains(*path)) {
        // Somebody else in this process may be writing it just now.
        let Some(_claim) = transfer.claims.take(transfer.target.place(), path) else { continue };
        if let Err(error) = transfer.target.remove(path).await {
            tracing::warn!(%error, "an unfinished file of an earlier transfer stays");
        }
    }
}

async fn copy_files<S: Files, T: Files>(transfer: &Transfer<S, T>, files: Vec<Item>, outcome: &mut Outcome) {
    let at_once = transfer.source.max_open().min(transfer.target.max_open()).max(1);
    let places = Semaphore::new(at_once);
    let stop = AtomicBool::new(false);
    let (places, stop) = (&places, &stop);
    let copying = files.into_iter().map(async |item| {
        let share = (item.source.size / PLACE_SIZE).clamp(1, (at_once as u64 / 4).max(1)) as u32;
        // The semaphore is never closed.
        let _place = places.acquire_many(share).await.ok();
        if stop.load(Ordering::Relaxed) {
            return None;
        }
        Some(copy(transfer, &item).await)
    });
    let mut copying = stream::iter(copying).buffer_unordered(at_once);
    while let Some(copied) = copying.next().await {
        match copied {
            Some(Ok(_)) => {
                outcome.files += 1;
                transfer.meter.file_done();
            }
            Some(Err(error)) => {
                if error.is_fatal() {
                    stop.store(true, Ordering::Relaxed);
                }
                outcome.fail(error);
            }
            None => outcome.not_tried += 1,
        }
    }
}

/// A link is made beside its place and takes it in one step, like a file.
async fn make_links<S: Files, T: Files>(transfer: &Transfer<S, T>, links: Vec<Item>, outcome: &mut Outcome) {
    let making = links.into_iter().map(async |item| {
        let to = transfer.to(&item.path);
        let leads = transfer.source.read_link(&transfer.from(&item.path)).await?;
        if item.target.is_none() {
            return transfer.target.make_link(&to, &leads).await;
        }
        let temporary = transfer.tag.beside(&to);
        transfer.unfinished.add(&temporary);
        transfer.target.remove(&temporary).await?;
        transfer.target.make_link(&temporary, &leads).await?;
        transfer.settle(&temporary, &to).await?;
        transfer.unfinished.forget(&temporary);
        Ok(())
    });
    let mut making = stream::iter(making).buffer_unordered(AT_ONCE);
    while let Some(made) = making.next().await {
        match made {
            Ok(()) => outcome.links += 1,
            Err(error) => outcome.fail(error),
        }
    }
}

/// Modes that would have kept us out, and times, which change with everything that is put in: from the innermost outwards.
async fn finish_directories<S: Files, T: Files>(transfer: &Transfer<S, T>, made: Vec<Item>, outcome: &mut Outcome) {
    let preserve = transfer.options.preserve;
    for item in made.iter().rev().filter(|item| preserve || item.source.mode & 0o700 != 0o700) {
        let how = Finish {
            size: None,
            mode: item.source.mode & if preserve { 0o7777 } else { 0o777 },
            times: preserve.then_some((item.source.accessed, item.source.modified)),
            owner: None,
            durable: transfer.options.durable,
        };
        if let Err(error) = transfer.target.set(&transfer.to(&item.path), &how).await {
            outcome.fail(error);
        }
    }
}
