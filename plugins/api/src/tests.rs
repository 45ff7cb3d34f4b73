//! The tools against a mock host: what is kept, what is shown, and where secrets go.

use orchestrator_sdk::mock::Mock;
use orchestrator_sdk::serde_json::{Value, json};

use super::*;

const KEY: &str = "hunter2-hunter2";

fn call(host: &Mock, tool: &str, arguments: Value) -> Result<(String, Value), Problem> {
    let answer = host.call::<Api>(tool, arguments)?;
    let structured = answer.structured.unwrap();
    assert!(!format!("{} {structured}", answer.text).contains(KEY), "a secret is shown");
    Ok((answer.text, structured))
}

/// The message of a refusal, after which everything is as it was.
fn refused(host: &Mock, tool: &str, arguments: Value) -> String {
    let before = (host.all_kept(), host.secrets());
    let problem = call(host, tool, arguments).unwrap_err();
    assert_eq!(problem.code, "INVALID_ARGUMENT");
    assert!(!format!("{problem:?}").contains(KEY), "a secret is shown");
    assert_eq!((host.all_kept(), host.secrets()), before);
    problem.message
}

#[test]
fn an_api_is_added_listed_changed_and_removed() {
    let host = Mock::new();
    assert_eq!(call(&host, "api_list", json!({})).unwrap().0, "No APIs yet; api_add adds one.");
    let (text, data) = call(&host, "api_add", json!({"alias": "shop", "url": "https://shop.example/v1/"})).unwrap();
    assert_eq!(text, "Added shop: GET https://shop.example/v1, no authentication");
    assert_eq!(data["created"], true);
    let change = json!({"alias": "shop", "health_check_endpoint": "health", "health_check_method": "HEAD",
        "notes": "two\nlines", "expect_status": 204});
    let (text, data) = call(&host, "api_add", change).unwrap();
    assert_eq!(text, "Changed shop: HEAD https://shop.example/v1/health, no authentication - two lines");
    assert_eq!(data["created"], false);
    let (_, data) = call(&host, "api_list", json!({})).unwrap();
    assert_eq!(
        data["apis"],
        json!([{"alias": "shop", "url": "https://shop.example/v1", "health_check_endpoint": "/health",
            "health_check_method": "HEAD", "auth_method": "none", "auth_header_name": "Authorization",
            "auth_scheme": "Bearer", "notes": "two\nlines", "expect_status": 204}])
    );
    call(&host, "api_remove", json!({"alias": "shop"})).unwrap();
    assert!(host.all_kept().is_empty());
    assert_eq!(
        refused(&host, "api_remove", json!({"alias": "shop"})),
        "`alias`: there is no API \"shop\" in the catalogue"
    );
}

#[test]
fn a_secret_goes_to_the_vault_and_goes_with_what_used_it() {
    let host = Mock::new();
    let add = json!({"alias": "shop", "url": "https://shop.example", "api_key": KEY});
    let (text, data) = call(&host, "api_add", add).unwrap();
    assert!(text.ends_with(", API key"), "{text}");
    assert_eq!(data["api"]["auth_method"], "api_key");
    assert_eq!(host.secrets()["shop/api_key"], KEY);
    assert!(!host.all_kept().values().any(|value| String::from_utf8_lossy(value).contains(KEY)));
    // A change of something else keeps it.
    call(&host, "api_add", json!({"alias": "shop", "notes": "x"})).unwrap();
    assert!(host.secrets().contains_key("shop/api_key"));
    call(&host, "api_add", json!({"alias": "shop", "auth_method": "none"})).unwrap();
    assert!(host.secrets().is_empty());
    let both = json!({"alias": "shop", "api_key": KEY, "auth_header_name": "X-Api-Key", "htpasswd_user": "ann",
        "htpasswd_pass": KEY});
    assert_eq!(call(&host, "api_add", both).unwrap().1["api"]["auth_method"], "both");
    assert_eq!(host.secrets().len(), 2);
    call(&host, "api_remove", json!({"alias": "shop"})).unwrap();
    assert!(host.secrets().is_empty());
}

#[test]
fn a_stored_secret_is_not_taken_along_to_another_host() {
    let host = Mock::new();
    call(&host, "api_add", json!({"alias": "shop", "url": "https://shop.example/v1", "api_key": KEY})).unwrap();
    call(&host, "api_add", json!({"alias": "shop", "url": "https://shop.example/v2"})).unwrap();
    for url in ["https://evil.example/v2", "http://shop.example/v2", "https://shop.example:444/v2"] {
        let message = refused(&host, "api_add", json!({"alias": "shop", "url": url}));
        assert!(message.starts_with("`api_key` must be given again"), "{message}");
    }
    call(&host, "api_add", json!({"alias": "shop", "url": "https://new.example", "api_key": KEY})).unwrap();
    call(&host, "api_add", json!({"alias": "shop", "url": "https://third.example", "auth_method": "none"})).unwrap();
}

#[test]
fn a_secret_without_its_entry_counts_for_nothing() {
    let host = Mock::new();
    (&host as &dyn Host).secret_put("shop/api_key", KEY).unwrap();
    let message =
        refused(&host, "api_add", json!({"alias": "shop", "url": "https://evil.example", "auth_method": "api_key"}));
    assert_eq!(message, "`api_key` is needed with this `auth_method`");
    call(&host, "api_add", json!({"alias": "shop", "url": "https://evil.example"})).unwrap();
    assert!(host.secrets().is_empty());
}

#[test]
fn what_cannot_be_is_refused_by_the_name_of_its_argument_and_changes_nothing() {
    let host = Mock::new();
    let check = |more: Value, argument: &str| {
        let mut arguments = json!({"alias": "shop", "url": "https://shop.example"});
        for (name, value) in more.as_object().unwrap() {
            arguments[name] = value.clone();
        }
        let message = refused(&host, "api_add", arguments);
        assert!(message.contains(&format!("`{argument}`")), "{message}");
    };
    check(json!({"alias": "a/b"}), "alias");
    check(json!({"url": null}), "url");
    check(json!({"url": format!("https://ann:{KEY}@shop.example")}), "url");
    check(json!({"health_check_method": "PATCH"}), "health_check_method");
    check(json!({"auth_method": "none", "api_key": KEY}), "api_key");
    check(json!({"auth_method": "api_key"}), "api_key");
    check(json!({"api_key": format!("{KEY}\r\nX: y")}), "api_key");
    check(json!({"api_key": ""}), "api_key");
    check(json!({"api_key": [KEY]}), "api_key");
    check(json!({"api_key": KEY, "auth_header_name": "X: y"}), "auth_header_name");
    check(json!({"api_key": KEY, "auth_scheme": "two words"}), "auth_scheme");
    check(json!({"htpasswd_pass": KEY}), "htpasswd_user");
    check(json!({"htpasswd_pass": KEY, "htpasswd_user": "a:b"}), "htpasswd_user");
    check(json!({"api_key": KEY, "htpasswd_pass": KEY, "htpasswd_user": "a"}), "auth_header_name");
    check(json!({"expect_status": 600}), "expect_status");
    check(json!({"expect_body": "ok", "health_check_method": "HEAD"}), "expect_body");
    check(json!({"notes": "x".repeat(1001)}), "notes");
}

#[test]
fn the_descriptions_are_short_enough_for_a_model() {
    let bytes: usize = orchestrator_sdk::describe::<Api>()
        .tools
        .iter()
        .map(|tool| {
            json!([tool.name, tool.title, tool.description, tool.input_schema, tool.output_schema]).to_string().len()
        })
        .sum();
    assert!(bytes < 3_250, "{bytes} bytes");
}
