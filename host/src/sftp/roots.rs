//! Where files may be read and written: below the roots that the operator allowed, and never among our own secrets.
//!
//! A path is resolved first, symbolic links and all, and the resolved one is used from then on: what was checked is what is
//! touched.

use std::path::{Component, Path, PathBuf};

use futures::future::{join, join_all};

use super::error::{Cause, FileError};
use super::files::{Files, Meta};

/// What the operator allows.
#[derive(Clone, Debug, Default)]
pub struct Roots {
    /// Empty is everywhere. The same for this machine and for servers.
    pub allowed: Vec<PathBuf>,
    /// The data directory, which holds secrets.
    pub ours: PathBuf,
}

/// Where a path leads.
#[derive(Debug)]
pub struct Resolved {
    /// Without symbolic links as far as it is there.
    pub path: PathBuf,
    /// What stands there: a link only where that leads nowhere.
    pub there: Option<Meta>,
    /// The directories on the way that are still to be made, the outermost first.
    pub missing: Vec<PathBuf>,
}

/// Resolves symbolic links in what is there of a path; the rest of it is still to be made. Asks for everything at once: over a
/// long line, that is what counts.
pub async fn resolve<F: Files>(files: &F, path: &Path) -> Result<Resolved, FileError> {
    let looks = path.ancestors().map(async |at| (at, join(files.meta(at, true), files.real_path(at)).await));
    let (looks, own) = join(join_all(looks), files.meta(path, false)).await;
    for (ancestor, (there, real)) in looks {
        let Some(there) = there? else { continue };
        let real = real?;
        let rest = path.strip_prefix(ancestor).unwrap_or(Path::new(""));
        if rest.components().any(|part| part == Component::ParentDir) {
            let why = Cause::InTheWay("`..` behind a directory that does not exist leads nowhere");
            return Err(FileError::new(files.place(), "resolve", path, why));
        }
        if rest.as_os_str().is_empty() {
            return Ok(Resolved { path: real, there: Some(there), missing: Vec::new() });
        }
        let path = real.join(rest);
        let parents = path.ancestors().skip(1).take_while(|parent| **parent != real).map(Path::to_owned);
        let mut missing: Vec<PathBuf> = parents.collect();
        missing.reverse();
        return Ok(Resolved { path, there: own?, missing });
    }
    Err(FileError::new(files.place(), "resolve", path, Cause::NotFound))
}

impl Roots {
    /// Refuses a resolved path that lies outside.
    pub async fn check<F: Files>(&self, files: &F, path: &Path) -> Result<(), FileError> {
        let refuse = |cause| Err(FileError::new(files.place(), "use", path, cause));
        if files.place().is_none() && self.is_ours(path) {
            return refuse(Cause::Ours);
        }
        if self.allowed.is_empty() {
            return Ok(());
        }
        let real = join_all(self.allowed.iter().map(|root| files.real_path(root))).await;
        for (root, real) in self.allowed.iter().zip(real) {
            // A root may be a link, or not be there at all.
            if path.starts_with(root) && real.is_err() || real.is_ok_and(|real| path.starts_with(real)) {
                return Ok(());
            }
        }
        refuse(Cause::Outside)
    }

    /// Whether a path of this machine belongs to this program.
    pub fn is_ours(&self, path: &Path) -> bool {
        !self.ours.as_os_str().is_empty() && path.starts_with(&self.ours)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sftp::files::Kind;
    use crate::sftp::local::Local;

    #[tokio::test]
    async fn a_link_leads_where_it_leads() {
        let local = Local::default();
        let place = tempfile::tempdir().unwrap();
        let base = std::fs::canonicalize(place.path()).unwrap();
        for name in ["in", "out", "data"] {
            std::fs::create_dir(base.join(name)).unwrap();
        }
        std::os::unix::fs::symlink(base.join("out"), base.join("in/link")).unwrap();
        let roots = Roots { allowed: vec![base.join("in"), base.join("data")], ours: base.join("data") };
        for (path, real, allowed) in [
            ("in", "in", true),
            ("in/new/file", "in/new/file", true),
            ("in/link/file", "out/file", false),
            ("in/link", "out", false),
            ("in/../out/x", "out/x", false),
            ("inside", "inside", false),
            ("data/orchestrator.redb", "data/orchestrator.redb", false),
        ] {
            let resolved = resolve(&local, &base.join(path)).await.unwrap().path;
            assert_eq!(resolved, base.join(real), "{path}");
            assert_eq!(roots.check(&local, &resolved).await.is_ok(), allowed, "{path}");
        }
        resolve(&local, &base.join("in/none/../../out")).await.unwrap_err();
        Roots::default().check(&local, Path::new("/etc/passwd")).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_missing_on_the_way_is_known() {
        let local = Local::default();
        let place = tempfile::tempdir().unwrap();
        let base = std::fs::canonicalize(place.path()).unwrap();
        std::fs::write(base.join("file"), "x").unwrap();
        std::os::unix::fs::symlink("nowhere", base.join("dangling")).unwrap();
        for (path, there, missing) in [
            ("file", Some(Kind::File), vec![]),
            ("new", None, vec![]),
            ("a/b/new", None, vec!["a", "a/b"]),
            ("dangling", Some(Kind::Link), vec![]),
        ] {
            let resolved = resolve(&local, &base.join(path)).await.unwrap();
            assert_eq!(resolved.there.map(|there| there.kind), there, "{path}");
            let missing: Vec<PathBuf> = missing.iter().map(|path| base.join(path)).collect();
            assert_eq!(resolved.missing, missing, "{path}");
        }
    }
}
