//! Patterns for many files: `*`, `?`, `[…]`, `{a,b}` within a name, `**` over directories. A pattern's fixed beginning is
//! where the search starts, and the tree below it is kept.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};

use super::files::{Kind, Meta};

/// A pattern that was understood.
#[derive(Debug)]
pub struct Glob {
    /// The directory below which it is looked for.
    pub fixed: String,
    whole: GlobMatcher,
    /// What the first, the first two … components match, up to the first `**`: a directory that none of them matches leads
    /// nowhere.
    beginnings: Vec<GlobMatcher>,
    /// It goes down to any depth.
    deep: bool,
}

/// Whether a path is a pattern.
pub fn is_glob(path: &str) -> bool {
    path.contains(['*', '?', '[', '{'])
}

fn compile(pattern: &str) -> Result<GlobMatcher, String> {
    let glob = GlobBuilder::new(pattern).literal_separator(true).backslash_escape(true).build();
    glob.map(|glob| glob.compile_matcher()).map_err(|error| error.to_string())
}

/// Cuts a pattern at its slashes, but for those between braces.
fn components(pattern: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0_i32, 0, Vec::new());
    for (at, letter) in pattern.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            '/' if depth <= 0 => {
                parts.extend(pattern.get(start..at));
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.extend(pattern.get(start..));
    parts
}

impl Glob {
    pub fn new(pattern: &str) -> Result<Glob, String> {
        let parts = components(pattern);
        let fixed_parts = parts.iter().take_while(|part| !is_glob(part)).count();
        let (fixed, rest) = parts.split_at(fixed_parts.min(parts.len().saturating_sub(1)));
        let mut beginnings = Vec::new();
        let mut deep = false;
        for end in 1..=rest.len() {
            let beginning = rest.get(..end).unwrap_or(rest);
            if beginning.last().is_some_and(|part| part.contains("**") || part.contains('/')) {
                deep = true;
                break;
            }
            beginnings.push(compile(&beginning.join("/"))?);
        }
        let fixed = match fixed {
            [""] => "/".to_owned(),
            [] => ".".to_owned(),
            parts => parts.join("/"),
        };
        Ok(Glob { fixed, whole: compile(&rest.join("/"))?, beginnings, deep })
    }

    /// Whether a directory below the fixed beginning, or what is in it, may match.
    pub fn may_lead_to_match(&self, directory: &Path) -> bool {
        let depth = directory.components().count();
        match depth.checked_sub(1).and_then(|index| self.beginnings.get(index)) {
            Some(beginning) => beginning.is_match(directory),
            // Deeper than the pattern: below something that matches, which is copied whole.
            None => self.deep || self.is_below_match(directory),
        }
    }

    fn is_below_match(&self, path: &Path) -> bool {
        path.ancestors().any(|ancestor| !ancestor.as_os_str().is_empty() && self.whole.is_match(ancestor))
    }

    /// What matches, what is below it, and the directories that lead there.
    pub fn select(&self, entries: Vec<(PathBuf, Meta)>) -> Vec<(PathBuf, Meta)> {
        let mut wanted: BTreeSet<PathBuf> = BTreeSet::new();
        for (path, _) in entries.iter().filter(|(path, _)| self.is_below_match(path)) {
            for ancestor in path.ancestors() {
                if !wanted.insert(ancestor.to_owned()) {
                    break;
                }
            }
        }
        let is_wanted =
            |path: &Path, meta: &Meta| wanted.contains(path) && (meta.kind == Kind::Dir || self.is_below_match(path));
        entries.into_iter().filter(|(path, meta)| is_wanted(path, meta)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: [&str; 9] =
        ["a.log", "b.txt", "sub/", "sub/c.log", "sub/deep/", "sub/deep/d.log", "other/", "other/e.log", "x.conf"];

    fn check(pattern: &str, fixed: &str, expected: &[&str]) {
        let glob = Glob::new(pattern).unwrap();
        assert_eq!(glob.fixed, fixed, "{pattern}");
        let mut entries = Vec::new();
        for name in TREE {
            let kind = if name.ends_with('/') { Kind::Dir } else { Kind::File };
            let path = PathBuf::from(name.trim_end_matches('/'));
            // Only what a walk would have listed.
            let mut above = path.ancestors().skip(1).filter(|path| !path.as_os_str().is_empty());
            if above.all(|directory| glob.may_lead_to_match(directory)) {
                entries.push((path, Meta { kind, size: 0, mode: 0, owner: None, modified: 0, accessed: 0 }));
            }
        }
        let found: Vec<String> = glob.select(entries).into_iter().map(|(path, _)| path.display().to_string()).collect();
        assert_eq!(found, expected, "{pattern}");
    }

    #[test]
    fn a_pattern_selects_and_keeps_the_tree() {
        check("/srv/*.log", "/srv", &["a.log"]);
        check(
            "/srv/**/*.log",
            "/srv",
            &["a.log", "sub", "sub/c.log", "sub/deep", "sub/deep/d.log", "other", "other/e.log"],
        );
        check("/srv/s*", "/srv", &["sub", "sub/c.log", "sub/deep", "sub/deep/d.log"]);
        check("/srv/{sub,other}/*.log", "/srv", &["sub", "sub/c.log", "other", "other/e.log"]);
        check("/srv/[ab].*", "/srv", &["a.log", "b.txt"]);
        check("/srv/?.conf", "/srv", &["x.conf"]);
        check("*.txt", ".", &["b.txt"]);
        check("/*.txt", "/", &["b.txt"]);
        check("~/www/*.txt", "~/www", &["b.txt"]);
        check("/srv/nothing*", "/srv", &[]);
        assert!(Glob::new("/srv/[a").is_err());
    }
}
