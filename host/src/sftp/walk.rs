//! Lists a tree, many directories at a time.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use futures::StreamExt;
use futures::stream::FuturesUnordered;

use super::error::FileError;
use super::files::{Files, Kind, Meta};

/// How many directories are listed at once.
const AT_ONCE: usize = 32;

/// What was found.
#[derive(Debug, Default)]
pub struct Tree {
    /// By path below the root, directories before what is in them.
    pub entries: Vec<(PathBuf, Meta)>,
    /// Directories that could not be listed.
    pub failed: Vec<FileError>,
}

/// Lists everything below `root` that `enters` lets in: it is asked about each directory before that is listed, with the
/// path below the root.
pub async fn walk<F: Files>(files: &F, root: &Path, enters: impl Fn(&Path) -> bool) -> Result<Tree, FileError> {
    let mut tree = Tree::default();
    let mut waiting = VecDeque::from([PathBuf::new()]);
    let mut listing = FuturesUnordered::new();
    loop {
        while listing.len() < AT_ONCE
            && let Some(directory) = waiting.pop_front()
        {
            listing.push(async move {
                let listed = files.list(&root.join(&directory)).await;
                (directory, listed)
            });
        }
        let Some((directory, listed)) = listing.next().await else { return Ok(tree) };
        match listed {
            Ok(entries) => {
                for (name, meta) in entries {
                    let path = directory.join(name);
                    if meta.kind == Kind::Dir && enters(&path) {
                        waiting.push_back(path.clone());
                    }
                    tree.entries.push((path, meta));
                }
            }
            Err(error) if error.is_fatal() || directory.as_os_str().is_empty() => return Err(error),
            Err(error) => tree.failed.push(error),
        }
    }
}
