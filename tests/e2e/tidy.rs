//! The house's rules that a compiler does not know.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::support::{alone, repository};

/// Every source file of ours.
fn sources(ending: &str) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![repository()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name == "target" || (name.starts_with('.') && name != ".ci" && name != ".cargo") {
                continue;
            }
            match entry.file_type()?.is_dir() {
                true => folders.push(entry.path()),
                false if name.ends_with(ending) => files.push(entry.path()),
                false => {}
            }
        }
    }
    ensure!(!files.is_empty(), "no file ends with {ending}");
    files.sort();
    Ok(files)
}

/// Fails with all offenders at once.
fn nobody(rule: &str, offenders: Vec<String>) -> Result<()> {
    ensure!(offenders.is_empty(), "{rule}:\n{}", offenders.join("\n"));
    Ok(())
}

fn shown(path: &Path) -> String {
    path.strip_prefix(repository()).unwrap_or(path).display().to_string()
}

#[test]
fn every_source_file_says_first_what_it_is_for() -> Result<()> {
    let mut offenders = Vec::new();
    for path in sources(".rs")? {
        let text = fs::read_to_string(&path)?;
        let sentence: String = text.lines().take_while(|line| line.starts_with("//!")).collect();
        if !sentence.trim_end().ends_with(['.', ':', '`']) || sentence.len() < 20 {
            offenders.push(shown(&path));
        }
    }
    nobody("a file opens with a `//!` paragraph: what it is for and what it is not for", offenders)
}

#[test]
fn no_source_file_is_longer_than_five_hundred_lines() -> Result<()> {
    let mut offenders = Vec::new();
    for path in sources(".rs")? {
        let lines = fs::read_to_string(&path)?.lines().count();
        if lines > 500 {
            offenders.push(format!("{}: {lines}", shown(&path)));
        }
    }
    nobody("a file is split by idea before it has 500 lines", offenders)
}

#[test]
fn a_page_has_one_sentence_per_line() -> Result<()> {
    let mut offenders = Vec::new();
    for path in sources(".md")? {
        let text = fs::read_to_string(&path)?;
        let mut code = false;
        for (number, line) in text.lines().enumerate() {
            if line.trim_start().starts_with("```") {
                code = !code;
            }
            let prose = !code && !line.starts_with(['|', '#', '<']);
            let ends = line.match_indices(". ").filter(|(at, _)| ends_a_sentence(line, *at)).count();
            if prose
                && ends > 0
                && !line.trim_start().starts_with(['-', '*', '1', '2', '3', '4', '5', '6', '7', '8', '9'])
            {
                offenders.push(format!("{}:{}", shown(&path), number + 1));
            }
        }
    }
    nobody("in Markdown each sentence has its own line", offenders)
}

/// Whether the full stop at `at` ends a sentence: a word of small letters before it, a capital after it.
fn ends_a_sentence(line: &str, at: usize) -> bool {
    let before = line[..at].chars().next_back();
    let after = line[at + 2..].chars().next();
    before.is_some_and(|c| c.is_lowercase() || c == '`' || c == ')') && after.is_some_and(char::is_uppercase)
}

#[test]
fn a_test_is_named_by_a_sentence() -> Result<()> {
    let mut offenders = Vec::new();
    for path in sources(".rs")? {
        let text = fs::read_to_string(&path)?;
        let lines: Vec<&str> = text.lines().collect();
        for pair in lines.windows(2) {
            let marked = pair[0].trim() == "#[test]" || pair[0].trim().starts_with("#[tokio::test");
            let name = pair[1].trim().trim_start_matches("async ").trim_start_matches("fn ");
            let name = name.split('(').next().unwrap_or_default();
            if marked && (name.starts_with("test_") || !name.contains('_')) {
                offenders.push(format!("{}: {name}", shown(&path)));
            }
        }
    }
    nobody("a test's name is a sentence", offenders)
}

/// The layers of the program, top to bottom, as `lib.rs` lists them.
fn layers() -> Result<Vec<String>> {
    let text = fs::read_to_string(repository().join("host/src/lib.rs"))?;
    Ok(text.lines().filter_map(|line| Some(line.strip_prefix("pub mod ")?.trim_end_matches(';').to_owned())).collect())
}

#[test]
fn a_module_imports_only_from_below() -> Result<()> {
    let layers = layers()?;
    let rank = |name: &str| layers.iter().position(|layer| layer == name);
    let root = repository().join("host/src");
    let mut offenders = Vec::new();
    for path in sources(".rs")?.into_iter().filter(|path| path.starts_with(&root)) {
        let inside = path.strip_prefix(&root)?.to_string_lossy().into_owned();
        let own = inside.split(['/', '.']).next().unwrap_or_default().to_owned();
        let Some(own_rank) = rank(&own) else { continue };
        for (number, line) in fs::read_to_string(&path)?.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for (at, _) in code.match_indices("crate::") {
                let name: String =
                    code[at + 7..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                if rank(&name).is_some_and(|rank| rank < own_rank) {
                    offenders.push(format!("{}:{}: {own} imports {name}", shown(&path), number + 1));
                }
            }
        }
    }
    nobody("a module imports only from lines below its own in lib.rs", offenders)
}

#[test]
fn only_the_face_knows_mcp_and_only_the_sandbox_knows_wasmtime() -> Result<()> {
    let root = repository().join("host/src");
    let mut offenders = Vec::new();
    for path in sources(".rs")?.into_iter().filter(|path| path.starts_with(&root)) {
        let text = fs::read_to_string(&path)?;
        let inside = path.strip_prefix(&root)?;
        // The composition root makes the pipes that the face talks through.
        let face = inside.starts_with("mcp") || inside.ends_with("serve.rs");
        if text.contains("rmcp::") && !face {
            offenders.push(format!("{} uses rmcp", shown(&path)));
        }
        if text.contains("wasmtime") && !inside.starts_with("plugins") && inside != Path::new("lib.rs") {
            offenders.push(format!("{} uses wasmtime", shown(&path)));
        }
    }
    nobody("one module each knows the wire types and the sandbox", offenders)
}

#[tokio::test]
async fn the_readme_names_every_tool_and_no_other() -> Result<()> {
    let (client, _place) = alone().await?;
    let readme = fs::read_to_string(repository().join("README.md"))?;
    let named: Vec<&str> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(name, _)| name)
        .filter(|name| name.contains('_') && name.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
        .collect();
    let tools: Vec<&str> = client.tools().await?.iter().map(|tool| tool.name.as_str()).collect();
    let missing = tools.iter().filter(|tool| !readme.contains(&format!("| `{tool}` |")));
    let too_many = named.iter().filter(|name| !tools.contains(name));
    let offenders =
        missing.map(|tool| format!("{tool} is missing")).chain(too_many.map(|tool| format!("{tool} is no tool")));
    nobody("the README lists the tools that there are", offenders.collect())
}

/// A guest that no test loads proves nothing.
#[test]
fn every_guest_has_a_test() -> Result<()> {
    let manifest = fs::read_to_string(repository().join("tests/guests/Cargo.toml"))?;
    let guests: Vec<&str> = manifest
        .split("[[example]]")
        .skip(1)
        .filter_map(|table| table.lines().find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"')))
        .collect();
    ensure!(guests.len() >= 8, "the guests' manifest was not understood: {guests:?}");
    let mut tests = String::new();
    for file in ["host/src/plugins/tests.rs", "tests/e2e/plugins.rs"] {
        tests.push_str(&fs::read_to_string(repository().join(file))?);
    }
    let unused = guests.into_iter().filter(|guest| !tests.contains(&format!("\"{guest}\""))).map(str::to_owned);
    nobody("every guest is loaded by a test", unused.collect())
}

#[test]
fn the_page_about_openssh_names_every_keyword_that_the_installed_client_knows() -> Result<()> {
    let told = std::process::Command::new("ssh").args(["-F", "none", "-G", "nowhere"]).output().context("ssh -G")?;
    let told = String::from_utf8(told.stdout)?.to_lowercase();
    let page = fs::read_to_string(repository().join("docs/ssh.md"))?.to_lowercase();
    let words: BTreeSet<&str> = page.split(|letter: char| !letter.is_alphanumeric()).collect();
    let keywords: BTreeSet<&str> = told.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(keywords.contains("proxyjump") || keywords.contains("identityfile"), "ssh -G told {told:?}");
    let missing = keywords.difference(&words).map(|keyword| format!("docs/ssh.md: {keyword}")).collect();
    nobody("every keyword of ssh_config(5) is mapped", missing)
}

#[test]
fn the_page_about_openssh_leaves_nothing_for_later() -> Result<()> {
    let page = fs::read_to_string(repository().join("docs/ssh.md"))?;
    let rows = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| OpenSSH |"));
    ensure!(rows.clone().count() > 50, "the page was not understood");
    let settled = |row: &&str| {
        let answer = row.split('|').nth(2).unwrap_or_default();
        let says = |words: &str| answer.contains(words);
        (says("done") || says("not wanted")) && !says("not yet") && !says("not settable")
    };
    let open = rows.filter(|row| !settled(row)).map(|row| format!("docs/ssh.md: {row}")).collect();
    nobody("a row is done, or not wanted with its reason", open)
}
