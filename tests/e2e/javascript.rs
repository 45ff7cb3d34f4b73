//! The plugin in JavaScript of `docs/plugins-in-other-languages.md`, built from the page as it stands there, and called.
//!
//! It needs Node.js and an npm package, so a plain `cargo test` leaves it out; `cargo xtask test` runs it where it can install
//! the package, and says so where it cannot.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use orchestrator_tests::place::Place;
use orchestrator_tests::sshd::Options;
use serde_json::json;

use crate::readme_plugin::files;
use crate::support::{Rig, repository};

#[ignore = "needs an npm package: cargo xtask test"]
#[tokio::test]
async fn the_plugin_in_javascript_of_the_guide_builds_and_works() -> Result<()> {
    let place = Place::new()?;
    let page = fs::read_to_string(repository().join("docs/plugins-in-other-languages.md"))?;
    let (name, source) = files(&page)?
        .into_iter()
        .find(|(path, _)| path.extension().is_some_and(|ending| ending == "js"))
        .context("the page has no JavaScript")?;
    fs::write(place.root().join(&name), source)?;
    let component = place.root().join("logins.wasm");
    let tool = std::env::var_os("ORCHESTRATOR_QJS").context("ORCHESTRATOR_QJS is not set: cargo xtask test")?;
    let built = Command::new(tool)
        .current_dir(place.root())
        .args(["--sync", "--world", "plugin", "--wit"])
        .arg(repository().join("wit"))
        .arg("--js")
        .arg(&name)
        .arg("--output")
        .arg(&component)
        .output()?;
    ensure!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));

    place.install_plugin(&component)?;
    place.configure("[plugins.logins.grants]\nservers = [\"box\"]\nexec = [[\"who\"]]\n")?;
    let who = ("who", "printf 'ann pts/0 2026-11-22 10:00\\nbj\\303\\266rn tty1 2026-11-22 09:00\\n'".to_owned());
    let options = Options { programs: Some(vec![who]), ..Options::default() };
    let rig = Rig::in_place(place, options, |launch| launch).await?;
    let found = rig.client.call("get_logins", json!({"alias": "box"})).await?.ok()?;
    assert_eq!(found.text, "2 sessions: ann, björn");
    assert_eq!(found.structured["users"], json!(["ann", "björn"]));
    // Its own problem and the host's arrive as what they are.
    rig.client.call("get_logins", json!({"alias": 5})).await?.problem("INVALID_ARGUMENT")?.names(&["alias"])?;
    rig.client.call("get_logins", json!({"alias": "nope"})).await?.problem("SERVER_NOT_FOUND")?;
    rig.client.call("server_add", rig.server("other")).await?.ok()?;
    let refused = rig.client.call("get_logins", json!({"alias": "other"})).await?.problem("NOT_GRANTED")?;
    refused.names(&["logins", "other", "[plugins.logins.grants]"])
}
