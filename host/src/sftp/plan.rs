//! What is to be done, before anything is: two listings are compared, name by name. No I/O.

use std::path::{Path, PathBuf};

use super::files::{Kind, Meta};

/// Something to be copied, by its path below the roots of both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub path: PathBuf,
    pub source: Meta,
    /// What it takes the place of.
    pub target: Option<Meta>,
}

/// Everything that there is to do, in the order in which it is done.
#[derive(Debug, Default)]
pub struct Plan {
    /// Parents before their children.
    pub directories: Vec<Item>,
    pub files: Vec<Item>,
    /// Of the same size: only their content tells whether they differ.
    pub doubtful: Vec<Item>,
    pub links: Vec<Item>,
    /// Equal already.
    pub skipped: u64,
    /// Neither files, directories nor links.
    pub special: Vec<PathBuf>,
    /// Temporary files that a transfer which was killed has left.
    pub stale: Vec<PathBuf>,
    /// What cannot be done, and why.
    pub blocked: Vec<(PathBuf, &'static str)>,
    /// In all files together.
    pub bytes: u64,
}

/// What decides beside the listings.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    /// Replace what is equal, and links in the place of files.
    pub force: bool,
    /// The same size and time prove nothing.
    pub careful: bool,
}

/// What is to be done about one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    Copy,
    /// Copy if the content differs.
    Compare,
    Link,
    MakeDir,
    /// The directory is there.
    Enter,
    Skip,
    Special,
    Blocked(&'static str),
}

/// Compares what is to be copied with what is there.
pub fn deed(source: &Meta, target: Option<&Meta>, rules: Rules) -> Deed {
    use Kind::{Dir, File, Link, Special};
    let force = rules.force;
    let Some(target) = target else {
        return match source.kind {
            File => Deed::Copy,
            Dir => Deed::MakeDir,
            Link => Deed::Link,
            Special => Deed::Special,
        };
    };
    match (source.kind, target.kind) {
        (Special, _) => Deed::Special,
        (File, File) if force || source.size != target.size => Deed::Copy,
        (File, File) if source.modified == target.modified && !rules.careful => Deed::Skip,
        (File, File) => Deed::Compare,
        (Dir, Dir) => Deed::Enter,
        // The caller compares where they lead.
        (Link, Link) => Deed::Link,
        (File, Link) if force => Deed::Copy,
        (Link, File) if force => Deed::Link,
        (File, Link) => Deed::Blocked("a symbolic link is in its place; force replaces the link"),
        (Link, File) => Deed::Blocked("a file is in the place of the link; force replaces it"),
        (Dir, Link) => Deed::Blocked("a symbolic link is in the place of the directory, and is not followed"),
        (Dir, _) => Deed::Blocked("something that is no directory is in its place"),
        (_, Dir) => Deed::Blocked("a directory is in its place"),
        (_, Special) => Deed::Blocked("a device, FIFO or socket is in its place"),
    }
}

impl Plan {
    /// Takes one name in. Says whether its directory is to be looked into.
    pub fn add(&mut self, path: &Path, source: Meta, target: Option<Meta>, rules: Rules) -> bool {
        let deed = deed(&source, target.as_ref(), rules);
        let is_dir = source.kind == Kind::Dir;
        let bytes = source.size;
        let item = Item { path: path.to_owned(), source, target };
        match deed {
            Deed::Copy => {
                self.bytes += bytes;
                self.files.push(item);
            }
            Deed::Compare => self.doubtful.push(item),
            Deed::Link => self.links.push(item),
            Deed::MakeDir => self.directories.push(item),
            Deed::Enter => {}
            Deed::Skip => self.skipped += 1,
            Deed::Special => self.special.push(item.path),
            Deed::Blocked(why) => self.blocked.push((item.path, why)),
        }
        is_dir && !matches!(deed, Deed::Blocked(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(kind: Kind, size: u64, modified: u32) -> Meta {
        Meta { kind, size, mode: 0o644, owner: None, modified, accessed: 0 }
    }

    fn check(source: Meta, target: Option<Meta>, force: bool, expected: Deed) {
        let blocked = |deed| if let Deed::Blocked(_) = deed { Deed::Blocked("") } else { deed };
        let found = blocked(deed(&source, target.as_ref(), Rules { force, careful: false }));
        assert_eq!(found, expected, "{source:?} onto {target:?}, force {force}");
    }

    #[test]
    fn what_is_there_decides_what_is_done() {
        use Kind::{Dir, File, Link, Special};
        let file = |size, time| meta(File, size, time);
        check(file(3, 1), None, false, Deed::Copy);
        check(file(3, 1), Some(file(4, 1)), false, Deed::Copy);
        check(file(3, 1), Some(file(3, 1)), false, Deed::Skip);
        check(file(3, 1), Some(file(3, 2)), false, Deed::Compare);
        check(file(3, 1), Some(file(3, 1)), true, Deed::Copy);
        let careful = Rules { force: false, careful: true };
        assert_eq!(deed(&file(3, 1), Some(&file(3, 1)), careful), Deed::Compare);
        check(meta(Dir, 0, 0), None, false, Deed::MakeDir);
        check(meta(Dir, 0, 0), Some(meta(Dir, 0, 9)), false, Deed::Enter);
        check(meta(Link, 0, 0), None, false, Deed::Link);
        check(meta(Link, 0, 0), Some(meta(Link, 0, 0)), false, Deed::Link);
        check(meta(Special, 0, 0), None, true, Deed::Special);
        for (source, target) in [(Dir, File), (Dir, Link), (File, Dir), (Link, Dir), (File, Special), (Dir, Special)] {
            for force in [false, true] {
                check(meta(source, 0, 0), Some(meta(target, 0, 0)), force, Deed::Blocked(""));
            }
        }
        for (source, target, forced) in [(File, Link, Deed::Copy), (Link, File, Deed::Link)] {
            check(meta(source, 0, 0), Some(meta(target, 0, 0)), false, Deed::Blocked(""));
            check(meta(source, 0, 0), Some(meta(target, 0, 0)), true, forced);
        }
    }

    #[test]
    fn nothing_below_a_blocked_directory_is_looked_at() {
        let mut plan = Plan::default();
        let forced = Rules { force: true, careful: false };
        assert!(plan.add(Path::new("a"), meta(Kind::Dir, 0, 0), None, forced));
        assert!(!plan.add(Path::new("b"), meta(Kind::Dir, 0, 0), Some(meta(Kind::Link, 0, 0)), forced));
        assert!(!plan.add(Path::new("c"), meta(Kind::File, 5, 0), None, forced));
        assert_eq!((plan.directories.len(), plan.blocked.len(), plan.files.len(), plan.bytes), (1, 1, 1, 5));
    }
}
