//! Names of unfinished files: beside the file that they will become, hidden, and told apart from everybody else's.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};

/// A longer name would not fit beside the rest into the 255 bytes that file systems allow.
const LONGEST: usize = 200;

/// This installation, in eight letters. The same target gets the same temporary name from it every time, so that what a
/// killed process left is found by the next transfer, and never taken for somebody else's.
#[derive(Clone, Debug)]
pub struct Tag(String);

impl Tag {
    /// From what tells this installation from others.
    pub fn new(identity: &[u8]) -> Tag {
        let digest = Sha256::digest(identity);
        Tag(data_encoding::HEXLOWER.encode(digest.get(..4).unwrap_or_default()))
    }

    /// `.NAME.TAG.part` beside the file.
    pub fn beside(&self, target: &Path) -> PathBuf {
        let name = target.file_name().unwrap_or(OsStr::new("file"));
        let mut temporary = OsString::from(".");
        if name.len() > LONGEST {
            let digest = Sha256::digest(name.as_bytes());
            temporary.push(data_encoding::HEXLOWER.encode(&digest));
        } else {
            temporary.push(name);
        }
        temporary.push(format!(".{}.part", self.0));
        target.with_file_name(temporary)
    }

    /// Whether a name in a listing is one of ours.
    pub fn made(&self, name: &Path) -> bool {
        let name = name.as_os_str().as_bytes();
        name.starts_with(b".") && name.ends_with(format!(".{}.part", self.0).as_bytes())
    }
}

/// Who writes which file now, over the whole process: two transfers must not write one temporary file.
#[derive(Clone, Debug, Default)]
pub struct Claims(Arc<Mutex<BTreeSet<Claimed>>>);

/// A place, and a path there.
type Claimed = (Option<Arc<str>>, PathBuf);

/// The right to write a file; given back when dropped.
#[derive(Debug)]
pub struct Claim {
    claims: Claims,
    key: Claimed,
}

impl Claims {
    /// `None`: somebody else is writing it.
    pub fn take(&self, place: Option<&Arc<str>>, path: &Path) -> Option<Claim> {
        let key = (place.cloned(), path.to_owned());
        let new = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone());
        new.then(|| Claim { claims: self.clone(), key })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.claims.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_name_is_hidden_and_fits() {
        let tag = Tag::new(b"here");
        let other = Tag::new(b"there");
        for name in ["a", "a b'\n", &"x".repeat(200), &"x".repeat(255)] {
            let target = Path::new("/srv/www").join(name);
            let temporary = tag.beside(&target);
            assert_eq!(temporary.parent(), target.parent());
            let name = temporary.file_name().unwrap();
            assert!(name.len() <= 255 && name.as_bytes().starts_with(b"."), "{name:?}");
            assert!(tag.made(Path::new(name)) && !other.made(Path::new(name)));
            assert_eq!(temporary, tag.beside(&target));
            assert_ne!(temporary, other.beside(&target));
        }
        assert_ne!(tag.beside(Path::new(&"x".repeat(254))), tag.beside(Path::new(&"x".repeat(255))));
    }

    #[test]
    fn a_file_is_written_by_one_at_a_time() {
        let claims = Claims::default();
        let web: Arc<str> = "web".into();
        let first = claims.take(Some(&web), Path::new("/a")).unwrap();
        assert!(claims.take(Some(&web), Path::new("/a")).is_none());
        let _elsewhere = claims.take(None, Path::new("/a")).unwrap();
        drop(first);
        claims.take(Some(&web), Path::new("/a")).unwrap();
    }
}
