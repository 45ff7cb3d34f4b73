//! Unknown host keys are asked about where the client can show a form, and only a person's yes makes them known.

use std::fs;

use anyhow::{Context, Result, ensure};
use orchestrator_tests::client::{Client, Launch, Version};
use orchestrator_tests::place::Place;
use orchestrator_tests::result::ToolResult;
use orchestrator_tests::sshd::Sshd;
use serde_json::{Value, json};

const ASK: &str = "elicitation/create";

/// A server behind another one, neither of them known, and a client of this kind.
async fn unknown(version: Version, capabilities: Value) -> Result<(Client, Sshd, Sshd, Place)> {
    let place = Place::new()?;
    let (gate, inner) = (Sshd::start().await?, Sshd::start().await?);
    let client = Launch::new(&place).version(version).capabilities(capabilities).start().await?;
    for (alias, sshd, jump) in [("gate", &gate, ""), ("inner", &inner, "gate")] {
        let arguments = json!({"alias": alias, "host": "127.0.0.1", "port": sshd.port(), "user": sshd.user,
            "keyPath": sshd.client_key.path, "jump": jump});
        client.call("server_add", arguments).await?.ok()?;
    }
    Ok((client, gate, inner, place))
}

fn yes() -> Value {
    json!({"action": "accept", "content": {"trust": true}})
}

fn message(request: &Value) -> Result<&str> {
    request["params"]["message"].as_str().with_context(|| format!("{request} asks nothing"))
}

#[tokio::test]
async fn a_yes_makes_each_key_on_the_way_known_and_the_call_goes_on() -> Result<()> {
    let (client, gate, inner, place) = unknown(Version::V2025_06_18, json!({"elicitation": {}})).await?;
    let arguments = json!({"alias": "inner", "cmd": "echo in"});
    let call = client.call("task_exec", arguments.clone());
    let answers = async {
        let first = client.answer(ASK, yes()).await?;
        let second = client.answer(ASK, yes()).await?;
        ensure!(message(&first)?.contains(gate.fingerprint()), "{first}");
        ensure!(message(&second)?.contains(inner.fingerprint()), "{second}");
        Ok(())
    };
    let (result, answered) = tokio::join!(call, answers);
    answered?;
    assert_eq!(result?.ok()?.str("stdout"), "in\n");
    assert_eq!(fs::read_to_string(place.data().join("known_hosts"))?, gate.known_hosts() + &inner.known_hosts());
    let audit = fs::read_to_string(place.data().join("audit.jsonl"))?;
    ensure!(audit.lines().filter(|line| line.contains("\"trust\"")).count() == 2, "{audit}");
    // Nothing is asked twice.
    client.call("task_exec", arguments).await?.ok()?;
    client.close().await?;
    Ok(())
}

#[tokio::test]
async fn a_call_with_an_idempotency_key_says_how_to_go_on() -> Result<()> {
    let (client, _gate, _inner, _place) = unknown(Version::V2025_11_25, json!({"elicitation": {}})).await?;
    let call = client.call("task_exec", json!({"alias": "gate", "cmd": "echo in", "idempotencyKey": "once"}));
    let (result, asked) = tokio::join!(call, client.answer(ASK, yes()));
    asked?;
    ensure!(result?.problem("HOST_KEY_UNKNOWN")?.hint.contains("another idempotencyKey"));
    client.close().await?;
    Ok(())
}

#[tokio::test]
async fn any_other_answer_leaves_the_error_that_there_was() -> Result<()> {
    let (client, gate, _inner, place) = unknown(Version::V2025_11_25, json!({"elicitation": {"form": {}}})).await?;
    for answer in [
        json!({"action": "decline"}),
        json!({"action": "cancel"}),
        json!({"action": "accept", "content": {"trust": false}}),
        json!({"action": "accept"}),
    ] {
        let call = client.call("task_exec", json!({"alias": "gate", "cmd": "echo in"}));
        let (result, asked) = tokio::join!(call, client.answer(ASK, answer));
        asked?;
        result?.problem("HOST_KEY_UNKNOWN")?.names(&[gate.fingerprint()])?;
    }
    ensure!(!place.data().join("known_hosts").exists() && gate.logins() == 0);
    client.close().await?;
    Ok(())
}

#[tokio::test]
async fn a_client_without_forms_is_not_asked() -> Result<()> {
    for (version, capabilities) in [
        (Version::V2025_11_25, json!({"roots": {}})),
        (Version::V2025_11_25, json!({"elicitation": {"url": {}}})),
        (Version::V2025_03_26, json!({"elicitation": {}})),
        (Version::V2026_07_28, json!({"roots": {}})),
    ] {
        let (client, _gate, _inner, _place) = unknown(version, capabilities).await?;
        let result = client.call("task_exec", json!({"alias": "gate", "cmd": "echo in"})).await?;
        ensure!(result.text.contains("HOST_KEY_UNKNOWN"), "{}", result.text);
        client.close().await?;
    }
    Ok(())
}

#[tokio::test]
async fn from_2026_on_the_call_is_repeated_with_the_answer() -> Result<()> {
    let (client, gate, _inner, place) = unknown(Version::V2026_07_28, json!({"elicitation": {"form": {}}})).await?;
    let call = |responses: Value| {
        let mut params = json!({"name": "task_exec", "arguments": {"alias": "gate", "cmd": "echo in"}});
        if !responses.is_null() {
            params["inputResponses"] = responses;
        }
        client.request("tools/call", params)
    };
    let required = call(Value::Null).await?;
    assert_eq!(required["resultType"], "input_required", "{required}");
    let asked = required["inputRequests"].as_object().context("nothing is asked")?;
    let (name, request) = asked.iter().next().context("nothing is asked")?;
    assert_eq!(request["method"], ASK);
    ensure!(message(request)?.contains(gate.fingerprint()), "{request}");
    // An answer to what was not asked counts nothing.
    let again = call(json!({"host_key_0000000000000000": yes()})).await?;
    assert_eq!(again["resultType"], "input_required", "{again}");
    ensure!(!place.data().join("known_hosts").exists());
    let done = call(json!({name.as_str(): yes()})).await?;
    assert_eq!(done["structuredContent"]["stdout"], "in\n", "{done}");
    assert_eq!(fs::read_to_string(place.data().join("known_hosts"))?, gate.known_hosts());
    client.close().await?;
    Ok(())
}

#[tokio::test]
async fn from_2026_on_whoever_says_no_is_not_asked_again_in_the_same_call() -> Result<()> {
    let (client, gate, _inner, place) = unknown(Version::V2026_07_28, json!({"elicitation": {"form": {}}})).await?;
    for answer in [json!({"action": "decline"}), json!({"action": "accept", "content": {"trust": false}})] {
        let mut params = json!({"name": "task_exec", "arguments": {"alias": "gate", "cmd": "echo in"}});
        let required = client.request("tools/call", params.clone()).await?;
        let asked = required["inputRequests"].as_object().context("nothing is asked")?;
        let name = asked.keys().next().context("nothing is asked")?;
        params["inputResponses"] = json!({name.as_str(): answer});
        let refused = client.request("tools/call", params).await?;
        ToolResult::parse("task_exec", &refused)?.problem("HOST_KEY_UNKNOWN")?.names(&[gate.fingerprint()])?;
    }
    ensure!(!place.data().join("known_hosts").exists());
    client.close().await?;
    Ok(())
}
