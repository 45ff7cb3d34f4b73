//! The same facts from this program and from the Node project that it replaces, `@fkom13/mcp-sftp-orchestrator`, about the same
//! host of the lab at the same time. What is known to differ is asserted as it is, and explained in
//! `docs/differences-from-the-node-project.md`.
//!
//! It needs the lab and the npm package, so a plain `cargo test` leaves it out and says so; `cargo xtask compare` installs the
//! package, outside of this repository, and runs it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use orchestrator_tests::client::Client;
use orchestrator_tests::lab::{self, Lab};
use orchestrator_tests::place::Place;
use orchestrator_tests::seed;
use serde_json::{Value, json};

/// Only this user's: where a user has no PM2, the Node project's question starts one.
const ALIAS: &str = "ops";

/// Both programs, which know the lab's Debian host.
struct Both {
    lab: Lab,
    node: Client,
    /// Where the Node project keeps its files.
    _place: Place,
}

impl Both {
    async fn start() -> Result<Both> {
        let login = lab::login("debian")?;
        let place = Place::new()?;
        let known = json!({ALIAS: {
            "host": login.address.ip(), "port": login.address.port(), "user": ALIAS, "keyPath": login.key,
        }});
        let node = seed::start(&place, &known).await?.context("no Node project here: cargo xtask compare")?;
        Ok(Both { lab: Lab::enter(|launch| launch).await?, node, _place: place })
    }

    /// What each answers, the Node project's as the text of its answer.
    async fn ask(&self, tool: &str, arguments: Value) -> Result<(Value, String)> {
        let mut with_alias = arguments.clone();
        with_alias["alias"] = json!(ALIAS);
        let call = json!({"name": tool, "arguments": with_alias});
        let theirs = self.node.request("tools/call", call).await?;
        let text = theirs["content"][0]["text"].as_str().unwrap_or_default().to_owned();
        ensure!(theirs["isError"] != true, "the Node project's {tool}: {text}");
        Ok((self.lab.call(tool, ALIAS, arguments).await?.ok()?.structured, text))
    }
}

/// What `free -h` and `df -h` print: `2.6Gi`, `252G`; with half a unit of the last digit that is shown.
fn bytes(text: &str) -> Result<(f64, f64)> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let number: f64 = digits.parse().with_context(|| format!("{text:?} is no size"))?;
    let letter = text[digits.len()..].chars().next().unwrap_or('B');
    let power = "BKMGTP".find(letter).with_context(|| format!("{text:?} has no known unit"))?;
    let unit = 1024_f64.powi(i32::try_from(power)?);
    Ok((number * unit, if digits.contains('.') { unit / 10.0 } else { unit }))
}

/// Both say the same size, as far as the digits of the one go. `drift` is what may change between two questions.
fn assert_same_size(what: &str, ours: &Value, theirs: &Value, drift: f64) -> Result<()> {
    let (number, unit) = bytes(theirs.as_str().with_context(|| format!("{what}: {theirs}"))?)?;
    let ours = ours.as_f64().with_context(|| format!("{what}: {ours}"))?;
    assert!((ours - number).abs() <= unit + drift, "{what}: {ours} here, {theirs} there");
    Ok(())
}

fn names(list: &Value) -> BTreeSet<&str> {
    list.as_array().into_iter().flatten().filter_map(|item| item["name"].as_str()).collect()
}

#[ignore = "needs the lab and the npm package: cargo xtask compare"]
#[tokio::test]
async fn memory_and_disk_are_those_of_the_node_project() -> Result<()> {
    let both = Both::start().await?;
    let (ours, theirs) = both.ask("get_system_resources", json!({})).await?;
    let theirs: Value = serde_json::from_str(&theirs)?;
    let drift = 512.0 * 1024.0 * 1024.0;
    for part in ["total", "used", "available"] {
        assert_same_size(part, &ours["memory"][format!("{part}_bytes")], &theirs["memory"][part], drift)?;
    }
    let disks = ours["filesystems"].as_array().context("no filesystems")?;
    let root = disks.iter().find(|disk| disk["mount"] == "/").with_context(|| format!("no / in {disks:#?}"))?;
    for (field, part) in [("size_bytes", "total"), ("used_bytes", "used"), ("available_bytes", "available")] {
        assert_same_size(part, &root[field], &theirs["disk"][part], drift)?;
    }
    let load: f64 = theirs["load_average"][2].as_str().context("no load")?.parse()?;
    let loads = ours["load_average"].as_array().context("no load")?;
    let last = loads.last().and_then(Value::as_f64).context("no load")?;
    assert!((last - load).abs() < 0.5, "{last} here, {load} there");
    Ok(())
}

#[ignore = "needs the lab and the npm package: cargo xtask compare"]
#[tokio::test]
async fn services_and_containers_are_those_of_the_node_project_and_more() -> Result<()> {
    let both = Both::start().await?;
    let (ours, theirs) = both.ask("get_services_status", json!({})).await?;
    let theirs: Value = serde_json::from_str(&theirs)?;
    let running: BTreeSet<&str> = ours["systemd"]["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|unit| unit["sub"] == "running")
        .filter_map(|unit| unit["name"].as_str())
        .collect();
    assert!(names(&theirs["systemd"]).is_subset(&running), "{theirs:#}");
    // It expects no blanks in front of a name, and systemctl prints two.
    assert!(running.len() > 5 && theirs["systemd"] == json!([]), "{theirs:#}");

    let containers = ours["docker"]["items"].as_array().context("no containers")?;
    let health = |status: &str| status.rsplit_once('(').map(|(_, health)| health.trim_end_matches(')').to_owned());
    let ours_running: BTreeMap<&str, Option<&str>> = containers
        .iter()
        .filter(|container| container["state"] == "running")
        .filter_map(|container| Some((container["name"].as_str()?, container["health"].as_str())))
        .collect();
    let told = theirs["docker"].as_array().context("no containers")?;
    let theirs_running: BTreeMap<&str, Option<String>> = told
        .iter()
        .filter_map(|container| Some((container["name"].as_str()?, health(container["status"].as_str()?))))
        .collect();
    let theirs_running: BTreeMap<&str, Option<&str>> =
        theirs_running.iter().map(|(name, health)| (*name, health.as_deref())).collect();
    assert_eq!(ours_running, theirs_running);
    // It lists running containers only.
    assert!(names(&ours["docker"]["items"]).contains("job") && !theirs_running.contains_key("job"));

    assert_eq!(names(&ours["pm2"]["items"]), names(&theirs["pm2"]));
    // It takes the fourth column for the status, which is the version since PM2 4.
    let statuses: BTreeSet<&str> =
        theirs["pm2"].as_array().into_iter().flatten().filter_map(|app| app["status"].as_str()).collect();
    assert_eq!(statuses, BTreeSet::from(["N/A"]));
    Ok(())
}

#[ignore = "needs the lab and the npm package: cargo xtask compare"]
#[tokio::test]
async fn jails_and_bans_are_those_of_the_node_project() -> Result<()> {
    let both = Both::start().await?;
    // The line of the tree with this label.
    let value = |text: &str, label: &str| -> Result<String> {
        let line = text.lines().find_map(|line| line.split_once(&format!("{label}:")));
        Ok(line.with_context(|| format!("no {label} in {text}"))?.1.trim().to_owned())
    };
    let (ours, theirs) = both.ask("get_fail2ban_status", json!({})).await?;
    let listed = value(&theirs, "Jail list")?;
    assert_eq!(names(&ours["jails"]), listed.split(", ").collect());
    for jail in listed.split(", ") {
        let (ours, theirs) = both.ask("get_fail2ban_status", json!({"jail": jail})).await?;
        let ours = &ours["jails"][0];
        for (field, label) in [
            ("currently_failed", "Currently failed"),
            ("total_failed", "Total failed"),
            ("currently_banned", "Currently banned"),
            ("total_banned", "Total banned"),
        ] {
            assert_eq!(ours[field].to_string(), value(&theirs, label)?, "{jail}: {label}");
        }
        let banned: BTreeSet<&str> =
            ours["banned"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        assert_eq!(banned, value(&theirs, "Banned IP list")?.split_whitespace().collect(), "{jail}");
    }
    Ok(())
}
