//! The tools from their arguments to their answers, on outputs that were captured from real programs (`testdata/README.md`)
//! or come from the scripts as they run on this machine.

mod containers;
mod files;
mod following;
mod journal_entries;
mod pm2_apps;

use std::fs;
use std::process::Command as Process;

use orchestrator_sdk::mock::Mock;
use orchestrator_sdk::serde_json::{Value, from_value, json};

use super::*;

fn host() -> Mock {
    Mock::new().server("web", &[])
}

fn call(host: &Mock, tool: &str, arguments: Value) -> Result<(String, Value), Problem> {
    let answer = host.call::<Logs>(tool, arguments)?;
    Ok((answer.text, answer.structured.unwrap()))
}

/// The message of a refused call, and its reason or the argument that was wrong.
fn refused(host: &Mock, tool: &str, arguments: Value) -> (String, String) {
    let problem = call(host, tool, arguments).unwrap_err();
    let why = problem.details.get("reason").or(problem.details.get("argument"));
    (problem.message.clone(), why.and_then(Value::as_str).unwrap_or_default().to_owned())
}

/// What is run as root is wanted as such, too.
fn is_wanted(command: Command) {
    let capabilities: &[&str] = if command.sudo { &["exec", "sudo"] } else { &["exec"] };
    let line: Vec<String> = std::iter::once(command.program).chain(command.args).collect();
    let covers = |scope: &[String]| match scope.split_last() {
        Some((last, leading)) if last == "*" => line.starts_with(leading),
        _ => scope == line,
    };
    let wants = orchestrator_sdk::describe::<Logs>().wants;
    for capability in capabilities {
        assert!(wants.iter().any(|want| want.capability == *capability && covers(&want.scope)), "{line:?}");
    }
}

#[test]
fn every_command_of_every_tool_is_wanted() {
    let mut hosts = Vec::new();
    for (tool, more) in [
        ("tail_file", json!({"filepath": "/f", "grep": "x", "follow": 3})),
        ("get_docker_logs", json!({"container": "db", "since": "1h", "timestamps": true})),
        ("get_pm2_logs", json!({"app": "x"})),
        ("get_journal_logs", json!({"unit": "x", "priority": "err", "since": "today"})),
    ] {
        let host = host();
        let mut arguments = more;
        arguments["alias"] = json!("web");
        // The mock has no answers, so the first round trip is the only one.
        assert_eq!(call(&host, tool, arguments).unwrap_err().code, "INTERNAL");
        hosts.push(host);
    }
    let commands: Vec<Command> = hosts.iter().flat_map(Mock::commands).map(|(_, command)| command).collect();
    assert_eq!(commands.len(), 7);
    commands.into_iter().for_each(is_wanted);
}

#[test]
fn the_descriptions_are_short_enough_for_a_model() {
    let tools = orchestrator_sdk::describe::<Logs>().tools;
    let sizes = tools.iter().map(|tool| {
        json!([tool.name, tool.title, tool.description, tool.input_schema, tool.output_schema]).to_string().len()
    });
    let total: usize = sizes.sum();
    assert!(total / tools.len() < 640, "{total} bytes");
}
