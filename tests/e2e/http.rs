//! The import `http` through the whole program: a guest sends what a test tells it to, to servers of the harness, directly and
//! through a real sshd. What is refused is refused before anything arrives.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use orchestrator_tests::client::{Client, Launch};
use orchestrator_tests::place::Place;
use orchestrator_tests::result::ToolResult;
use orchestrator_tests::sshd::Options;
use orchestrator_tests::web::{Authority, Identity, VALID_BEFORE, VALID_UNTIL, Web};
use serde_json::{Value, json};

use crate::plugins::guest;
use crate::support::Rig;

const EVERYTHING: &str = r#"http = [["*", "*", "private", "loopback", "link-local"]]"#;
const SECRET: &str = "hunter2-hunter2";

/// A place where the guest has these grants.
fn place(grants: &str) -> Result<Place> {
    let place = Place::new()?;
    place.install_plugin(&guest("echo")?)?;
    place.configure(&format!("[plugins.echo.grants]\n{grants}\n"))?;
    Ok(place)
}

async fn granted(grants: &str) -> Result<(Client, Place)> {
    let place = place(grants)?;
    let client = Launch::new(&place).start().await?;
    Ok((client, place))
}

/// A server `box` that the guest may use, too.
async fn with_server(grants: &str, options: Options) -> Result<Rig> {
    Rig::in_place(place(grants)?, options, |launch| launch).await
}

async fn send(client: &Client, request: Value) -> Result<ToolResult> {
    client.call("guest_http", json!({"requests": [request]})).await
}

/// The answer to the only request.
async fn answer(client: &Client, request: Value) -> Result<Value> {
    Ok(send(client, request).await?.ok()?.structured["results"][0].clone())
}

#[tokio::test]
async fn a_plugin_without_a_grant_sends_nothing_and_is_told_which_line_to_ask_for() -> Result<()> {
    let web = Web::start().await?;
    let (client, _place) = granted("").await?;
    let problem = send(&client, json!({"url": web.url("/ok?key=abc-xyz")})).await?.problem("NOT_GRANTED")?;
    let at = format!("127.0.0.1:{}", web.address.port());
    problem.names(&["echo", "send GET", &at, "[plugins.echo.grants]", &format!(r#"http = [["GET","{at}"]]"#)])?;
    ensure!(!problem.hint.contains("abc-xyz"), "{}", problem.hint);
    assert_eq!(web.seen().len(), 0);
    Ok(())
}

#[tokio::test]
async fn a_loopback_address_has_to_be_named_in_the_grant_by_whatever_name_it_is_reached() -> Result<()> {
    let web = Web::start().await?;
    let (client, _place) = granted(r#"http = [["GET", "*"], ["POST", "*", "loopback"]]"#).await?;
    for host in ["127.0.0.1", "localhost", "0x7f.1", "[::ffff:127.0.0.1]"] {
        let problem = send(&client, json!({"url": web.url_as(host, "/ok")})).await?.problem("NOT_GRANTED")?;
        problem.names(&["whose address is loopback", r#""loopback""#])?;
    }
    let private = send(&client, json!({"url": "http://10.255.255.1/"})).await?.problem("NOT_GRANTED")?;
    private.names(&["whose address is private"])?;
    let local = send(&client, json!({"url": "http://169.254.1.1/"})).await?.problem("NOT_GRANTED")?;
    local.names(&["whose address is link-local"])?;
    assert_eq!(web.seen().len(), 0);
    let posted = answer(&client, json!({"method": "POST", "url": web.url_as("localhost", "/ok"), "body": "x"})).await?;
    assert_eq!(posted["status"], 200);
    assert_eq!((web.seen().len(), web.seen()[0].body.as_str()), (1, "x"));
    Ok(())
}

#[tokio::test]
async fn a_method_or_a_host_outside_of_the_grant_is_refused() -> Result<()> {
    let web = Web::start().await?;
    let (client, _place) =
        granted(&format!(r#"http = [["GET", "127.0.0.1:{}", "loopback"]]"#, web.address.port())).await?;
    answer(&client, json!({"url": web.url("/ok")})).await?;
    let post = send(&client, json!({"method": "POST", "url": web.url("/ok")})).await?;
    post.problem("NOT_GRANTED")?.names(&["send POST"])?;
    let other = Web::start().await?;
    send(&client, json!({"url": other.url("/ok")})).await?.problem("NOT_GRANTED")?;
    send(&client, json!({"url": web.url_as("localhost", "/ok")})).await?.problem("NOT_GRANTED")?;
    assert_eq!((web.seen().len(), other.seen().len()), (1, 0));
    Ok(())
}

#[tokio::test]
async fn a_clouds_metadata_service_is_refused_whatever_is_granted_also_by_a_redirect_and_from_a_server() -> Result<()> {
    let web = Web::start().await?;
    let rig = with_server(&format!("servers = [\"*\"]\n{EVERYTHING}"), Options::default()).await?;
    let forbidden = [
        "http://169.254.169.254/latest/meta-data/",
        "http://[fd00:ec2::254]/",
        "http://[::ffff:169.254.169.254]/",
        "http://2852039166/",
        "http://100.100.100.200/",
        "http://metadata.google.internal/computeMetadata/v1/",
    ];
    for url in forbidden {
        for via in [None, Some("box")] {
            let problem = send(&rig.client, json!({"url": url, "via": via})).await?.problem("POLICY_DENIED")?;
            problem.names(&["metadata service", "no grant changes it"])?;
        }
        let redirected = json!({"url": web.url(&format!("/to?{url}")), "redirects": 3});
        let problem = send(&rig.client, redirected).await?.problem("POLICY_DENIED")?;
        assert_eq!(problem.details["redirects"], 1, "{url}");
    }
    assert_eq!(rig.sshd.logins(), 0, "a connection was made for a request that is refused");
    send(&rig.client, json!({"url": "http://224.0.0.1/"})).await?.problem("POLICY_DENIED")?;
    Ok(())
}

#[tokio::test]
async fn a_redirect_is_judged_like_a_request_and_takes_no_secret_to_another_origin() -> Result<()> {
    let (first, second, third) = (Web::start().await?, Web::start().await?, Web::start().await?);
    let grant = |web: &Web| format!(r#"["GET", "127.0.0.1:{}", "loopback"]"#, web.address.port());
    let (client, _place) = granted(&format!("http = [{}, {}]", grant(&first), grant(&second))).await?;
    client.call("guest_secret", json!({"op": "set", "key": "token", "value": SECRET})).await?.ok()?;
    let with = |url: String| {
        json!({"url": url, "redirects": 3, "secret_headers": [["x-api-key", "", "token"]],
            "basic_auth": ["ann", "token"], "headers": [["cookie", "c=1"], ["x-plain", "p"]]})
    };
    let done = answer(&client, with(first.url(&format!("/to?{}", second.url("/ok"))))).await?;
    assert_eq!(
        (&done["status"], &done["redirects"], &done["url"]),
        (&json!(200), &json!(1), &json!(second.url("/ok")))
    );
    let (sent, arrived) = (first.seen(), second.seen());
    assert_eq!(sent[0].header("x-api-key"), Some(SECRET));
    assert_eq!(arrived[0].header("x-plain"), Some("p"));
    for name in ["x-api-key", "authorization", "cookie"] {
        assert!(sent[0].header(name).is_some() && arrived[0].header(name).is_none(), "{name}: {arrived:?}");
    }
    // Within one origin they stay.
    answer(&client, with(first.url("/to?/door"))).await?;
    assert_eq!(first.seen()[2].header("x-api-key"), Some(SECRET));
    // Where it is not granted to go nothing arrives.
    send(&client, with(first.url(&format!("/to?{}", third.url("/ok"))))).await?.problem("NOT_GRANTED")?;
    assert_eq!(third.seen().len(), 0);
    // As many as were allowed, and not one more.
    let circle = answer(&client, with(first.url("/loop"))).await?;
    assert_eq!((&circle["status"], &circle["redirects"]), (&json!(302), &json!(3)));
    Ok(())
}

#[tokio::test]
async fn a_secret_arrives_and_comes_back_to_nobody() -> Result<()> {
    let web = Web::start().await?;
    let (client, place) = granted(EVERYTHING).await?;
    client.call("guest_secret", json!({"op": "set", "key": "token", "value": SECRET})).await?.ok()?;
    let request = json!({"url": web.url("/echo?key=in-the-query"), "secret_headers": [["x-token", "Bearer ", "token"]],
        "basic_auth": ["ann", "token"]});
    let result = send(&client, request).await?.ok()?;
    let seen = web.seen();
    assert_eq!(seen[0].header("x-token"), Some("Bearer hunter2-hunter2"));
    assert_eq!(seen[0].header("authorization"), Some("Basic YW5uOmh1bnRlcjItaHVudGVyMg=="));
    assert!(seen[0].header("user-agent").is_some_and(|agent| agent.starts_with("mcp-orchestrator/")));
    let body = result.structured["results"][0]["body"].as_str().context("no body")?.to_owned();
    ensure!(body.contains("x-token: Bearer [secret]") && body.contains("authorization: Basic [secret]"), "{body}");
    // Refused before it is opened, and told without it.
    let failing = json!({"url": "http://127.0.0.1:1/", "secret_headers": [["x-token", "", "token"]]});
    let problem = send(&client, failing).await?.problem("CONNECTION_FAILED")?;
    let missing = json!({"url": web.url("/ok"), "secret_headers": [["x-token", "", "nope"]]});
    send(&client, missing).await?.problem("INVALID_ARGUMENT")?.names(&["nope"])?;
    client.close().await?;
    let audit = std::fs::read_to_string(place.data().join("audit.jsonl"))?;
    let line: Value = serde_json::from_str(audit.lines().next().context("no audit line")?)?;
    assert_eq!((&line["action"], &line["outcome"]), (&json!("http"), &json!("200")));
    assert_eq!(line["command"], json!(format!("GET {}?…", web.url("/echo"))));
    assert!(line["job"].is_string() && line["plugin"].as_str().is_some_and(|plugin| plugin.starts_with("echo ")));
    let told = format!("{result:?} {problem:?} {audit}");
    for hidden in [SECRET, "YW5uOmh1bnRlcjItaHVudGVyMg=="] {
        ensure!(!told.contains(hidden), "{told}");
        for file in place.data_files()? {
            let bytes = std::fs::read(&file)?;
            let found = bytes.windows(hidden.len()).any(|window| window == hidden.as_bytes());
            ensure!(!found, "{} holds it", file.display());
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_certificate_is_verified_and_told_about_with_http_1_and_2() -> Result<()> {
    let authority = Authority::new("ours")?;
    let place = place(&format!("servers = [\"*\"]\n{EVERYTHING}"))?;
    let file = authority.write(place.root())?;
    let rig = Rig::in_place(place, Options::default(), |launch| launch.env("MCP_CA_FILE", file)).await?;
    for (h2, version) in [(false, "HTTP/1.1"), (true, "HTTP/2")] {
        let web = Web::secure(&authority.proper()?, h2).await?;
        for (url, via) in
            [(web.url("/ok"), None), (web.url_as("localhost", "/ok"), None), (web.url("/ok"), Some("box"))]
        {
            let done = answer(&rig.client, json!({"url": url, "via": via})).await?;
            assert_eq!((&done["status"], &done["http_version"]), (&json!(200), &json!(version)), "{url}");
            assert_eq!(done["certificate_not_after"], VALID_UNTIL);
            assert_eq!(done["body"], "all is well\n");
        }
    }
    let cases = [
        (Identity::self_signed()?, "CERT_SELF_SIGNED", "self-signed and not trusted", VALID_UNTIL),
        (Identity::self_signed_authority()?, "CERT_SELF_SIGNED", "self-signed and not trusted", VALID_UNTIL),
        (authority.expired()?, "CERT_EXPIRED", "expired on 2020-01-02", VALID_BEFORE),
        (authority.of_another_name()?, "CERT_WRONG_NAME", "for another name", VALID_UNTIL),
        (Authority::new("theirs")?.proper()?, "CERT_UNKNOWN_ISSUER", "issuer is not trusted", VALID_UNTIL),
    ];
    for (identity, reason, words, until) in cases {
        let web = Web::secure(&identity, true).await?;
        for via in [None, Some("box")] {
            let problem =
                send(&rig.client, json!({"url": web.url("/ok"), "via": via})).await?.problem("CONNECTION_FAILED")?;
            problem.at("tls")?;
            problem.names(&[words])?;
            assert_eq!((&problem.details["reason"], &problem.details["subject"]), (&json!(reason), &json!("target")));
            assert_eq!(problem.details["certificate_not_after"], until, "{reason}");
        }
        assert_eq!(web.seen().len(), 0, "{reason}: a request was sent");
    }
    Ok(())
}

#[tokio::test]
async fn a_request_goes_out_from_the_server_that_it_names() -> Result<()> {
    let web = Web::start().await?;
    let rig = with_server(&format!("servers = [\"box\"]\n{EVERYTHING}"), Options::default()).await?;
    for host in ["127.0.0.1", "localhost"] {
        let done = answer(&rig.client, json!({"url": web.url_as(host, "/ok"), "via": "box"})).await?;
        assert_eq!((&done["status"], &done["body"]), (&json!(200), &json!("all is well\n")));
    }
    assert_eq!(rig.sshd.logins(), 1, "the pool's connection is used again");
    let closed = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let problem = send(&rig.client, json!({"url": format!("http://{closed}/"), "via": "box"})).await?;
    let problem = problem.problem("CONNECTION_FAILED")?;
    problem.names(&["box cannot connect"])?;
    problem.at("connect")?;
    assert_eq!(problem.details["subject"], "target");
    // The connection is good for the next one.
    rig.exec("true").await?.ok()?;
    assert_eq!(rig.sshd.logins(), 1);
    let audit = std::fs::read_to_string(rig.place.data().join("audit.jsonl"))?;
    ensure!(audit.lines().filter(|line| line.contains(r#""server":"box","action":"http""#)).count() == 3, "{audit}");
    Ok(())
}

#[tokio::test]
async fn a_connection_that_was_cut_is_made_again_for_a_request() -> Result<()> {
    let web = Web::start().await?;
    let rig = with_server(&format!("servers = [\"box\"]\n{EVERYTHING}"), Options::default()).await?;
    let request = || json!({"url": web.url("/ok"), "via": "box"});
    answer(&rig.client, request()).await?;
    rig.sshd.sever();
    assert_eq!(answer(&rig.client, request()).await?["status"], 200);
    assert_eq!(rig.sshd.logins(), 2);
    Ok(())
}

/// A port that does not answer: its queue of connections that nobody accepts is full, so the kernel drops what comes.
fn deaf_port() -> Result<(std::net::TcpListener, Vec<std::net::TcpStream>)> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let mut waiting = Vec::new();
    while waiting.len() < 10_000 {
        match std::net::TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
            Ok(stream) => waiting.push(stream),
            Err(_) => return Ok((listener, waiting)),
        }
    }
    anyhow::bail!("the queue of {address} is never full")
}

#[tokio::test]
async fn a_place_that_does_not_answer_is_told_apart_from_a_server_that_does_not() -> Result<()> {
    let rig = with_server(&format!("servers = [\"box\"]\n{EVERYTHING}"), Options::default()).await?;
    let (listener, _waiting) = deaf_port()?;
    let url = format!("http://{}/", listener.local_addr()?);
    for via in [None, Some("box")] {
        let request = json!({"url": url, "via": via, "timeout_ms": 1500});
        let problem = send(&rig.client, request).await?.problem("CONNECTION_FAILED")?;
        problem.at("connect")?;
        problem.names(&["timed out after 1."])?;
        assert_eq!((&problem.details["reason"], &problem.details["subject"]), (&json!("ETIMEDOUT"), &json!("target")));
    }
    // The way there is good, and was not given up.
    rig.exec("true").await?.ok()?;
    assert_eq!(rig.sshd.logins(), 1);
    Ok(())
}

#[tokio::test]
async fn a_server_has_to_be_granted_and_to_allow_it() -> Result<()> {
    let web = Web::start().await?;
    let options = Options { config: vec!["AllowTcpForwarding no".to_owned()], ..Options::default() };
    let rig = with_server(&format!("servers = [\"box\"]\n{EVERYTHING}"), options).await?;
    let other = json!({"url": web.url("/ok"), "via": "db-1"});
    send(&rig.client, other).await?.problem("NOT_GRANTED")?.names(&["servers", "db-1"])?;
    let problem =
        send(&rig.client, json!({"url": web.url("/ok"), "via": "box"})).await?.problem("CONNECTION_FAILED")?;
    problem.names(&["sshd does not allow it", "AllowTcpForwarding"])?;
    assert_eq!((&problem.details["subject"], problem.retryable), (&json!("server"), false));
    assert_eq!(web.seen().len(), 0);
    // What the server would have to resolve counts as private.
    let rig = with_server("servers = [\"box\"]\nhttp = [[\"*\", \"*\", \"loopback\"]]", Options::default()).await?;
    let name = json!({"url": "http://intranet.example/", "via": "box"});
    send(&rig.client, name).await?.problem("NOT_GRANTED")?.names(&["whose address is private"])?;
    assert_eq!(rig.sshd.logins(), 0);
    Ok(())
}

#[tokio::test]
async fn a_slow_server_is_waited_for_as_long_as_was_said_and_the_step_is_told() -> Result<()> {
    let web = Web::start().await?;
    let (client, _place) = granted(EVERYTHING).await?;
    let slow = |path: &str| json!({"url": web.url(path), "timeout_ms": 700});
    let problem = send(&client, slow("/slow")).await?.problem("COMMAND_TIMEOUT")?;
    problem.at("request")?;
    problem.names(&["timed out after 0.", "first byte"])?;
    let problem = send(&client, slow("/slow-body")).await?.problem("COMMAND_TIMEOUT")?;
    problem.at("body")?;
    assert_eq!(problem.details["http_code"], 200);
    let large = answer(&client, json!({"url": web.url("/large"), "max_body": 1000})).await?;
    assert_eq!((large["body"].as_str().map(str::len), &large["body_truncated"]), (Some(1000), &json!(true)));
    let whole = answer(&client, json!({"url": web.url("/ok"), "max_body": 12})).await?;
    assert_eq!(whole["body_truncated"], false);
    Ok(())
}

#[tokio::test]
async fn requests_are_sent_at_the_same_time_and_one_that_fails_does_not_end_the_others() -> Result<()> {
    let web = Web::start().await?;
    let (client, _place) = granted(EVERYTHING).await?;
    let slow = || json!({"url": web.url("/slow"), "timeout_ms": 2500});
    let mut requests = vec![json!({"url": web.url("/ok")}), json!({"url": "http://169.254.169.254/"})];
    requests.extend((0..8).map(|_| slow()));
    requests.push(json!({"url": web.url("/status/503")}));
    let started = Instant::now();
    let result = client.call("guest_http", json!({"requests": requests})).await?.ok()?;
    ensure!(started.elapsed() < Duration::from_secs(15), "eight times 2.5 s one after the other are 20 s");
    let results = result.structured["results"].as_array().context("no results")?;
    let told: Vec<Value> =
        results.iter().map(|one| one.get("code").or(one.get("status")).cloned().unwrap_or_default()).collect();
    assert_eq!((&told[0], &told[1], &told[10]), (&json!(200), &json!("POLICY_DENIED"), &json!(503)));
    assert!(told[2..10].iter().all(|one| one == "COMMAND_TIMEOUT"), "{told:?}");
    let many: Vec<Value> = (0..33).map(|_| slow()).collect();
    let refused = client.call("guest_http", json!({"requests": many})).await?.ok()?;
    assert_eq!(refused.structured["results"].as_array().map(Vec::len), Some(33));
    assert!(refused.structured.to_string().contains("none of them was sent"));
    Ok(())
}

#[tokio::test]
async fn a_request_ends_when_its_job_is_cancelled() -> Result<()> {
    let web = Web::start().await?;
    let (client, _place) = granted(EVERYTHING).await?;
    let pending = client.begin_call("guest_http", json!({"requests": [{"url": web.url("/slow")}]})).await?;
    orchestrator_tests::wait::until("the request to arrive", Duration::from_secs(60), || !web.seen().is_empty())
        .await?;
    client.cancel(pending.id).await?;
    let job = client.call("task_history", json!({"tool": "guest_http"})).await?.ok()?;
    let id = job.structured["jobs"][0]["id"].clone();
    let ended = client.call("task_wait", json!({"id": id, "timeout": 60})).await?;
    assert_eq!(ended.str("status"), "cancelled", "{:#}", ended.structured);
    Ok(())
}

#[tokio::test]
async fn a_grant_that_cannot_be_stops_the_start_with_its_name() -> Result<()> {
    let place = place(r#"http = [["GET", "*", "everywhere"]]"#)?;
    let output = Launch::new(&place).run().await?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success() && told.contains("plugins.echo.grants") && told.contains("link-local"), "{told}");
    Ok(())
}
