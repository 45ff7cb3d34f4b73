//! Where files may be read and written: below the roots that the operator allowed, and never among our own secrets.
//!
//! A path is resolved first, symbolic links and all, and the resolved one is used from then on: what was checked is what is
//! touched.

use std::path::{Component, Path, PathBuf};

use super::error::{Cause, FileError};
use super::files::Files;

/// What the operator allows.
#[derive(Clone, Debug, Default)]
pub struct Roots {
    /// Empty is everywhere. The same for this machine and for servers.
    pub allowed: Vec<PathBuf>,
    /// The data directory, which holds secrets.
    pub ours: PathBuf,
}

/// Resolves symbolic links in what is there of a path; the rest of it is still to be made.
pub async fn resolve<F: Files>(files: &F, path: &Path) -> Result<PathBuf, FileError> {
    for ancestor in path.ancestors() {
        if files.meta(ancestor, true).await?.is_none() {
            continue;
        }
        let real = files.real_path(ancestor).await?;
        let rest = path.strip_prefix(ancestor).unwrap_or(Path::new(""));
        if rest.components().any(|part| part == Component::ParentDir) {
            let why = Cause::InTheWay("`..` behind a directory that does not exist leads nowhere");
            return Err(FileError::new(files.place(), "resolve", path, why));
        }
        return Ok(if rest.as_os_str().is_empty() { real } else { real.join(rest) });
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
        for root in &self.allowed {
            // A root may be a link, or not be there at all.
            let real = files.real_path(root).await;
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
    use crate::sftp::local::Local;

    #[tokio::test]
    async fn a_link_leads_where_it_leads() {
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
            let resolved = resolve(&Local, &base.join(path)).await.unwrap();
            assert_eq!(resolved, base.join(real), "{path}");
            assert_eq!(roots.check(&Local, &resolved).await.is_ok(), allowed, "{path}");
        }
        resolve(&Local, &base.join("in/none/../../out")).await.unwrap_err();
        Roots::default().check(&Local, Path::new("/etc/passwd")).await.unwrap();
    }
}
