//! The catalogue of APIs through the whole program: what is kept, and that its secrets are nowhere to be read.

use anyhow::{Result, ensure};
use orchestrator_tests::client::Launch;
use serde_json::json;

use crate::support::{Rig, alone};

const KEY: &str = "hunter2-hunter2-hunter2";

#[tokio::test]
async fn the_catalogue_is_there_after_a_restart_and_shows_no_secret() -> Result<()> {
    let (client, place) = alone().await?;
    let add = json!({"alias": "shop", "url": "https://shop.example/v1", "health_check_endpoint": "/health",
        "api_key": KEY, "auth_header_name": "X-Api-Key", "auth_scheme": "", "htpasswd_user": "ann", "htpasswd_pass": KEY});
    let added = client.call("api_add", add).await?.ok()?;
    assert_eq!(added.structured["created"], true);
    assert_eq!(added.structured["api"]["auth_method"], "both");
    let changed = client.call("api_add", json!({"alias": "shop", "expect_status": 204})).await?.ok()?;
    client.close().await?;

    let client = Launch::new(&place).start().await?;
    let listed = client.call("api_list", json!({})).await?.ok()?;
    assert_eq!(listed.structured["apis"], json!([changed.structured["api"]]));
    assert_eq!(listed.text, "shop: GET https://shop.example/v1/health, API key, user and password");
    let moved = client.call("api_add", json!({"alias": "shop", "url": "https://evil.example"})).await?;
    let problem = moved.problem("INVALID_ARGUMENT")?;
    problem.names(&["api_key", "given again"])?;
    for shown in [format!("{added:?}"), format!("{changed:?}"), format!("{listed:?}"), format!("{problem:?}")] {
        ensure!(!shown.contains(KEY), "{shown}");
    }
    client.call("api_remove", json!({"alias": "shop"})).await?.ok()?;
    client.call("api_remove", json!({"alias": "shop"})).await?.problem("INVALID_ARGUMENT")?.names(&["shop"])?;
    assert_eq!(client.call("api_list", json!({})).await?.ok()?.structured["apis"], json!([]));
    client.close().await?;
    for file in place.data_files()? {
        let bytes = std::fs::read(&file)?;
        ensure!(!bytes.windows(KEY.len()).any(|window| window == KEY.as_bytes()), "{} holds it", file.display());
    }
    Ok(())
}

#[tokio::test]
async fn a_change_of_the_catalogue_is_no_job() -> Result<()> {
    let rig = Rig::start().await?;
    rig.client.call("api_add", json!({"alias": "shop", "url": "https://shop.example", "api_key": KEY})).await?.ok()?;
    let history = rig.client.call("task_history", json!({"tool": "api_add"})).await?.ok()?;
    assert_eq!(history.structured["jobs"], json!([]), "{:#}", history.structured);
    let logs = rig.client.call("task_logs", json!({"level": "debug", "limit": 500})).await?.ok()?;
    ensure!(!logs.text.contains(KEY), "the log holds the key");
    Ok(())
}
