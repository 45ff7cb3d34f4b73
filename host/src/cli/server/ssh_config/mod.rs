//! OpenSSH's client configuration, as far as it says where a host is and how to log in to it (ssh_config(5)).
//!
//! Read in full first, with everything that it includes, and then asked per host. No command in it is ever run.

mod words;
mod resolve;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use wildmatch::WildMatch;

pub use resolve::{Asker, Found, tokens};

/// As in OpenSSH.
const MAX_DEPTH: usize = 16;

/// One line that means something.
#[derive(Debug, PartialEq)]
enum Item {
    /// What follows is about hosts that these patterns match.
    Host(Vec<String>),
    /// What follows counts under these conditions.
    Match(Vec<String>),
    /// The files that are included here, in order.
    Include(Vec<Vec<Item>>),
    /// Any other keyword, in small letters.
    Setting(String, Vec<String>),
}

/// A configuration with everything that it includes.
#[derive(Debug)]
pub struct Config {
    items: Vec<Item>,
    /// What could not be understood.
    pub notes: Vec<String>,
}

impl Config {
    /// Reads a file. `home` is where relative includes and `~` lead.
    pub fn read(path: &Path, home: &Path) -> Result<Config> {
        let mut notes = Vec::new();
        let items = read(path, home, 0, &mut notes)?;
        Ok(Config { items, notes })
    }

    /// Every name that stands in a `Host` line in full, in order, each once; and the patterns, which name nobody.
    pub fn names(&self) -> (Vec<String>, Vec<String>) {
        let (mut names, mut patterns) = (Vec::new(), Vec::new());
        collect(&self.items, &mut names, &mut patterns);
        (names, patterns)
    }
}

fn collect(items: &[Item], names: &mut Vec<String>, patterns: &mut Vec<String>) {
    for item in items {
        match item {
            Item::Host(all) => {
                for pattern in all.iter().filter(|pattern| !pattern.starts_with('!')) {
                    let list = if pattern.contains(['*', '?']) { &mut *patterns } else { &mut *names };
                    if !list.contains(pattern) {
                        list.push(pattern.clone());
                    }
                }
            }
            Item::Include(files) => files.iter().for_each(|file| collect(file, names, patterns)),
            Item::Match(_) | Item::Setting(..) => {}
        }
    }
}

fn read(path: &Path, home: &Path, depth: usize, notes: &mut Vec<String>) -> Result<Vec<Item>> {
    if depth > MAX_DEPTH {
        bail!("{} is included through more than {MAX_DEPTH} files", path.display());
    }
    let text = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    let mut items = Vec::new();
    for (index, line) in String::from_utf8_lossy(&text).lines().enumerate() {
        let place = || format!("line {} of {}", index + 1, path.display());
        let (keyword, arguments) = match words::split(line) {
            Ok(None) => continue,
            Ok(Some(words)) => words,
            Err(why) => {
                notes.push(format!("{} was passed over: {why}", place()));
                continue;
            }
        };
        items.push(match keyword.as_str() {
            "host" => Item::Host(arguments),
            "match" => Item::Match(arguments),
            "include" => {
                let mut files = Vec::new();
                for file in arguments.iter().flat_map(|pattern| included(pattern, home)) {
                    files.push(read(&file, home, depth + 1, notes).with_context(place)?);
                }
                Item::Include(files)
            }
            _ => Item::Setting(keyword, arguments),
        });
    }
    Ok(items)
}

/// The files that a pattern of `Include` names, in the order of their names. None is no error.
fn included(pattern: &str, home: &Path) -> Vec<PathBuf> {
    let path = match pattern.strip_prefix("~/") {
        Some(rest) => home.join(rest),
        None => home.join(".ssh").join(pattern),
    };
    let mut found = vec![PathBuf::new()];
    for part in path.components() {
        let name = part.as_os_str().to_string_lossy();
        found = match name.contains(['*', '?']) {
            false => found.into_iter().map(|folder| folder.join(part)).collect(),
            true => found.into_iter().flat_map(|folder| matching(&folder, &name)).collect(),
        };
    }
    found.retain(|path| path.is_file());
    found
}

/// What a folder has by this pattern. A leading dot must be written out, as for a shell.
fn matching(folder: &Path, pattern: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let glob = WildMatch::new(pattern);
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| {
            let name = entry.ok()?.file_name();
            let text = name.to_string_lossy();
            let hidden = text.starts_with('.') && !pattern.starts_with('.');
            (!hidden && glob.matches(&text)).then(|| folder.join(&name))
        })
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests;
