//! The plugin of `docs/plugins.md`, built from the page as it stands there, and called.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use orchestrator_tests::place::Place;
use orchestrator_tests::sshd::Options;
use serde_json::json;

use crate::support::{Rig, repository};

/// The files of the page: each stands in a code block below `<!-- file: PATH -->`.
pub fn files(page: &str) -> Result<Vec<(PathBuf, String)>> {
    let mut files = Vec::new();
    for part in page.split("<!-- file: ").skip(1) {
        let (path, rest) = part.split_once(" -->").context("a file's mark is not closed")?;
        let (_, block) = rest.split_once("```").context("no code block below a file's mark")?;
        let (_, body) = block.split_once('\n').context("an empty code block")?;
        let (body, _) = body.split_once("\n```").context("a code block is not closed")?;
        files.push((PathBuf::from(path), format!("{body}\n")));
    }
    Ok(files)
}

/// Writes the page's crate to `folder`. Only the path to the SDK is changed: the folder does not stand beside this repository.
fn write_crate(folder: &Path) -> Result<()> {
    let page = fs::read_to_string(repository().join("docs/plugins.md"))?;
    let files = files(&page)?;
    ensure!(files.iter().any(|(path, _)| path.ends_with("Cargo.toml")), "the page has no Cargo.toml");
    for (path, mut body) in files {
        let path = folder.join(path);
        if path.ends_with("Cargo.toml") {
            let sdk = format!("orchestrator-sdk = {{ path = {:?} }}", repository().join("sdk"));
            let lines: Vec<String> = body
                .lines()
                .map(|line| if line.starts_with("orchestrator-sdk") { sdk.clone() } else { line.to_owned() })
                .collect();
            // A table of its own, since this crate stands in no workspace.
            body = lines.join("\n") + "\n[workspace]\n";
        }
        fs::create_dir_all(path.parent().context("no folder")?)?;
        fs::write(path, body)?;
    }
    // The dependencies are those of this repository's lock file: a test needs no network.
    fs::copy(repository().join("Cargo.lock"), folder.join("Cargo.lock"))?;
    Ok(())
}

#[tokio::test]
async fn the_plugin_of_the_guide_builds_and_works() -> Result<()> {
    let place = Place::new()?;
    let source = place.root().join("logins");
    write_crate(&source)?;
    let component = place.root().join("logins.wasm");
    let built = Command::new(env!("CARGO"))
        .current_dir(repository())
        .args(["xtask", "component"])
        .arg(&source)
        .arg("--out")
        .arg(&component)
        // Built once, and quickly from then on.
        .arg("--target-dir")
        .arg(repository().join("target/guide"))
        .env("CARGO_NET_OFFLINE", "true")
        .output()?;
    ensure!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));

    place.install_plugin(&component)?;
    place.configure("[plugins.logins.grants]\nservers = [\"*\"]\nexec = [[\"who\"]]\n")?;
    let rig = Rig::in_place(place, Options::default(), |launch| launch).await?;
    let result = rig.client.call("get_logins", json!({"alias": "box"})).await?.ok()?;
    assert!(result.structured["users"].is_array(), "{:#}", result.structured);
    Ok(())
}
