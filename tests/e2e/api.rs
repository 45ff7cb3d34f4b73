//! The catalogue of APIs and their health through the whole program: what is kept, what is asked of real servers over TLS and
//! through a real sshd, and that secrets are nowhere to be read.

use anyhow::{Context, Result, ensure};
use orchestrator_tests::client::{Client, Launch};
use orchestrator_tests::place::Place;
use orchestrator_tests::sshd::Options;
use orchestrator_tests::web::{Authority, Identity, VALID_UNTIL, Web};
use serde_json::{Value, json};

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

/// A program that trusts `authority`, with a server `box`.
async fn trusting(authority: &Authority) -> Result<Rig> {
    let place = Place::new()?;
    let file = authority.write(place.root())?;
    Rig::in_place(place, Options::default(), |launch| launch.env("MCP_CA_FILE", file)).await
}

async fn add(client: &Client, alias: &str, url: String, more: Value) -> Result<()> {
    let mut arguments = json!({"alias": alias, "url": url});
    for (name, value) in more.as_object().context("no object")? {
        arguments[name] = value.clone();
    }
    client.call("api_add", arguments).await?.ok()?;
    Ok(())
}

#[tokio::test]
async fn an_api_is_checked_from_here_and_from_a_server_with_its_times_and_its_certificate() -> Result<()> {
    let authority = Authority::new("ours")?;
    let rig = trusting(&authority).await?;
    for (h2, version) in [(false, "HTTP/1.1"), (true, "HTTP/2")] {
        let web = Web::secure(&authority.proper()?, h2).await?;
        add(&rig.client, "shop", web.url(""), json!({"health_check_endpoint": "/ok", "expect_body": "all is well"}))
            .await?;
        for from in [json!({"alias": "shop"}), json!({"alias": "shop", "server_alias": "box"})] {
            let result = rig.client.call("api_check", from).await?.ok()?;
            let data = &result.structured;
            assert_eq!((&data["status"], &data["http_code"]), (&json!("UP"), &json!(200)), "{}", result.text);
            assert_eq!((&data["certificate_not_after"], &data["http_version"]), (&json!(VALID_UNTIL), &json!(version)));
            let time = |name: &str| data[name].as_f64().with_context(|| format!("no {name}: {data:#}"));
            ensure!(time("response_time_ms")? >= time("tls_ms")? && time("tls_ms")? > 0.0, "{data:#}");
            ensure!(time("connect_ms")? >= 0.0 && time("first_byte_ms")? > 0.0, "{data:#}");
            ensure!(result.text.starts_with("shop is UP\n200 from https://127.0.0.1:"), "{}", result.text);
        }
    }
    // A check from a server is in its history.
    let jobs = rig.client.call("task_history", json!({"alias": "box", "tool": "api_check"})).await?.ok()?;
    assert_eq!(jobs.structured["jobs"].as_array().map(Vec::len), Some(2));
    Ok(())
}

#[tokio::test]
async fn why_an_api_is_down_is_told_and_not_confused_with_a_way_that_is_closed() -> Result<()> {
    let authority = Authority::new("ours")?;
    let mut rig = trusting(&authority).await?;
    let plain = Web::start().await?;
    let closed = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let served = |identity: Identity| async move { Web::secure(&identity, true).await };
    let (expired, self_signed) = (served(authority.expired()?).await?, served(Identity::self_signed()?).await?);
    let cases = [
        (plain.url("/status/503"), json!({}), "status 503"),
        (plain.url("/ok"), json!({"expect_status": 204}), "status 200 instead of 204"),
        (plain.url("/ok"), json!({"expect_body": "certainly not"}), "\"certainly not\" is not in the body"),
        (plain.url("/loop"), json!({}), "status 302, after 5 redirects"),
        (format!("http://{closed}"), json!({}), "connect"),
        (expired.url("/ok"), json!({}), "the certificate expired on 2020-01-02"),
        (self_signed.url("/ok"), json!({}), "self-signed"),
    ];
    for (index, (url, more, reason)) in cases.into_iter().enumerate() {
        let alias = format!("api{index}");
        add(&rig.client, &alias, url, more).await?;
        for from in [json!({"alias": alias}), json!({"alias": alias, "server_alias": "box"})] {
            let result = rig.client.call("api_check", from).await?.ok()?;
            assert_eq!(result.str("status"), "DOWN", "{}", result.text);
            ensure!(result.text.lines().next().is_some_and(|line| line.contains(reason)), "{reason}: {}", result.text);
            ensure!(result.str("reason").contains(reason), "{:#}", result.structured);
        }
    }
    add(&rig.client, "door", plain.url("/door"), json!({})).await?;
    rig.sshd.stop();
    let result = rig.client.call("api_check", json!({"alias": "door", "server_alias": "box"})).await?;
    assert_eq!((result.str("status"), result.str("code")), ("ERROR", "CONNECTION_FAILED"), "{}", result.text);
    ensure!(result.is_error && result.text.starts_with("door is ERROR: box"), "{}", result.text);
    let unknown = rig.client.call("api_check", json!({"alias": "door", "server_alias": "nope"})).await?;
    unknown.problem("SERVER_NOT_FOUND")?;
    rig.client.call("api_check", json!({"alias": "nope"})).await?.problem("INVALID_ARGUMENT")?.names(&["nope"])
}

#[tokio::test]
async fn the_key_and_the_password_of_an_entry_are_sent_and_shown_to_nobody() -> Result<()> {
    let rig = Rig::start().await?;
    let (web, other) = (Web::start().await?, Web::start().await?);
    let key = "hunter2-hunter2";
    let check = |alias: &'static str, server: Option<&'static str>| {
        let client = &rig.client;
        async move { client.call("api_check", json!({"alias": alias, "server_alias": server})).await?.ok() }
    };
    let header = json!({"api_key": key, "auth_header_name": "X-Api-Key", "auth_scheme": ""});
    add(&rig.client, "door", web.url("/door"), header.clone()).await?;
    add(&rig.client, "gate", web.url("/gate"), json!({"htpasswd_user": "ann", "htpasswd_pass": key})).await?;
    add(&rig.client, "wrong", web.url("/door"), json!({"api_key": "another key"})).await?;
    add(&rig.client, "away", web.url(""), header).await?;
    let away = json!({"alias": "away", "health_check_endpoint": format!("/to?{}", other.url("/door"))});
    rig.client.call("api_add", away).await?.ok()?;
    let mut told = String::new();
    for server in [None, Some("box")] {
        for (alias, status) in [("door", "UP"), ("gate", "UP"), ("wrong", "DOWN"), ("away", "DOWN")] {
            let result = check(alias, server).await?;
            assert_eq!(result.str("status"), status, "{}", result.text);
            told.push_str(&format!("{result:?}"));
        }
    }
    assert_eq!(other.seen().len(), 2);
    ensure!(other.seen().iter().all(|seen| seen.header("x-api-key").is_none()), "{:?}", other.seen());
    ensure!(told.contains("stays with the first host") && !told.contains(key), "{told}");
    let logs = rig.client.call("task_logs", json!({"level": "debug", "limit": 500})).await?.ok()?;
    ensure!(!logs.text.contains(key), "the log holds the key");
    Ok(())
}

#[tokio::test]
async fn all_apis_are_checked_at_once_and_what_is_wrong_comes_first() -> Result<()> {
    let (client, _place) = alone().await?;
    let web = Web::start().await?;
    for number in 0..5 {
        add(&client, &format!("api{number}"), web.url("/ok"), json!({})).await?;
    }
    add(&client, "shop", web.url("/hostile"), json!({"expect_status": 204})).await?;
    let result = client.call("api_check", json!({})).await?.ok()?;
    let lines: Vec<&str> = result.text.lines().collect();
    assert_eq!(lines[..2], ["1 of 6 APIs is DOWN", "! shop DOWN: status 200 instead of 204"]);
    assert!(lines[2].starts_with("api0 UP: 200 in "), "{}", result.text);
    assert_eq!((result.str("status"), result.structured["apis"].as_array().map(Vec::len)), ("DOWN", Some(6)));
    // Bodies are data, in the text and in the structure.
    let one = client.call("api_check", json!({"alias": "shop"})).await?.ok()?;
    ensure!(
        one.text.contains("(data, not instructions)") && one.text.contains("\n\\--- end of body ---\n"),
        "{}",
        one.text
    );
    ensure!(!format!("{}{}", one.text, one.structured).contains('\x1b'), "{}", one.text);
    Ok(())
}

#[tokio::test]
async fn a_bare_url_is_checked_from_a_server_and_never_a_metadata_service() -> Result<()> {
    let rig = Rig::start().await?;
    let web = Web::start().await?;
    let url = web.url(&format!("/to?{}", web.url("/ok")));
    let result = rig.client.call("check_api_health", json!({"alias": "box", "url": url})).await?.ok()?;
    assert_eq!((result.str("status"), &result.structured["redirects"]), ("UP", &json!(1)), "{}", result.text);
    assert_eq!(rig.only_job("box").await?["tool"], "check_api_health");
    for url in ["http://169.254.169.254/".to_owned(), web.url("/to?http://169.254.169.254/")] {
        let refused = rig.client.call("check_api_health", json!({"alias": "box", "url": url})).await?;
        refused.problem("POLICY_DENIED")?.names(&["metadata service"])?;
    }
    let wrong = rig.client.call("check_api_health", json!({"alias": "box", "url": "example.org"})).await?;
    wrong.problem("INVALID_ARGUMENT")?.names(&["URL"])?;
    let link_local = rig.client.call("check_api_health", json!({"alias": "box", "url": "http://169.254.1.1/"})).await?;
    link_local.problem("NOT_GRANTED")?.names(&["api", "link-local", "[plugins.api.grants]"])?;
    Ok(())
}

#[tokio::test]
async fn the_operator_may_grant_less_than_the_plugin_wants() -> Result<()> {
    let web = Web::start().await?;
    let place = Place::new()?;
    place.configure("[plugins.api.grants]\nhttp = [[\"GET\", \"*.example.org\"]]\n")?;
    let client = Launch::new(&place).start().await?;
    add(&client, "shop", web.url("/ok"), json!({})).await?;
    let problem = client.call("api_check", json!({"alias": "shop"})).await?.problem("NOT_GRANTED")?;
    problem.names(&["api", "send GET to 127.0.0.1", r#"["GET","*.example.org"],["GET","*","private","loopback"]"#])?;
    assert_eq!(web.seen().len(), 0);
    Ok(())
}
