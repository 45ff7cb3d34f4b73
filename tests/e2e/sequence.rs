//! `task_exec_sequence` on a real sshd: one shell for all steps, and a result for each.

use anyhow::{Context, Result};
use orchestrator_tests::result::ToolResult;
use serde_json::{Value, json};

use crate::support::{Rig, Sleep};

async fn run(rig: &Rig, commands: Value, more: Value) -> Result<ToolResult> {
    let mut arguments = json!({"alias": "box", "commands": commands});
    if let (Some(arguments), Value::Object(more)) = (arguments.as_object_mut(), more) {
        arguments.extend(more);
    }
    rig.client.call("task_exec_sequence", arguments).await
}

/// One property of every step.
fn each(result: &ToolResult, property: &str) -> Vec<Value> {
    let steps = result.structured["steps"].as_array().cloned().unwrap_or_default();
    steps.iter().map(|step| step[property].clone()).collect()
}

#[tokio::test]
async fn directory_variables_and_functions_carry_over() -> Result<()> {
    let rig = Rig::start().await?;
    let commands =
        json!(["cd /usr/share", "export GREETING='a  b'", "f() { echo \"$PWD: $GREETING\"; }", "f; echo err >&2"]);
    let result = run(&rig, commands, json!({})).await?.ok()?;
    assert_eq!(each(&result, "stdout"), ["", "", "", "/usr/share: a  b\n"]);
    assert_eq!(each(&result, "stderr"), ["", "", "", "err\n"]);
    assert_eq!(each(&result, "status"), ["ok"; 4]);
    assert_eq!(each(&result, "exit_code"), [0; 4]);
    assert!(result.text.starts_with("all 4 steps ok\n"), "{}", result.text);
    assert!(each(&result, "duration_ms").iter().all(Value::is_number));
    let job = rig.only_job("box").await?;
    assert_eq!((&job["status"], &job["tool"]), (&json!("completed"), &json!("task_exec_sequence")));
    Ok(())
}

#[tokio::test]
async fn the_first_failure_ends_it_and_what_was_not_run_is_said() -> Result<()> {
    let rig = Rig::start().await?;
    let commands = json!(["echo a", "echo b; (exit 7)", "echo c", "echo d"]);
    let result = run(&rig, commands.clone(), json!({})).await?;
    assert!(result.is_error);
    assert_eq!(each(&result, "status"), ["ok", "failed", "not_run", "not_run"]);
    assert_eq!(result.structured["steps"][1]["exit_code"], 7);
    assert!(
        result.text.starts_with("step 2 of 4 failed with exit code 7; steps 3 to 4 were not run\n"),
        "{}",
        result.text
    );
    assert_eq!(rig.only_job("box").await?["status"], "failed");
    let all = run(&rig, commands, json!({"continueOnError": true})).await?;
    assert!(all.is_error);
    assert_eq!(each(&all, "stdout"), ["a\n", "b\n", "c\n", "d\n"]);
    let one = json!([{"command": "(exit 3)", "continueOnError": true}, "echo b", "(exit 4)", "echo d"]);
    let one = run(&rig, one, json!({})).await?;
    assert_eq!(each(&one, "status"), ["failed", "ok", "failed", "not_run"]);
    Ok(())
}

#[tokio::test]
async fn an_exit_ends_the_shell_with_its_own_code() -> Result<()> {
    let rig = Rig::start().await?;
    let result = run(&rig, json!(["echo a", "echo b; exit 3", "echo c"]), json!({"continueOnError": true})).await?;
    assert_eq!(each(&result, "status"), ["ok", "failed", "not_run"]);
    assert_eq!(result.structured["steps"][1]["exit_code"], 3);
    assert!(result.text.contains("ended the shell"), "{}", result.text);
    let killed = run(&rig, json!(["kill -KILL $$", "echo b"]), json!({})).await?;
    assert_eq!(killed.structured["steps"][0]["signal"], "KILL", "{:#}", killed.structured);
    Ok(())
}

#[tokio::test]
async fn no_step_can_eat_or_swallow_the_next() -> Result<()> {
    let rig = Rig::start().await?;
    let commands = json!(["cat", "read x; echo \"[$x]\"", "echo \"open", "printf 'no line end'", "echo last"]);
    let result = run(&rig, commands, json!({"continueOnError": true, "timeout": 60})).await?;
    assert_eq!(each(&result, "stdout"), ["", "[]\n", "", "no line end", "last\n"]);
    assert_eq!(result.structured["steps"][2]["status"], "failed");
    Ok(())
}

#[tokio::test]
async fn a_step_past_its_time_is_ended_with_the_shell() -> Result<()> {
    let rig = Rig::start().await?;
    let sleep = Sleep::new();
    let commands = json!(["echo a", {"command": format!("echo b; {}", sleep.command), "timeout": 1}, "echo c"]);
    let result = run(&rig, commands, json!({"continueOnError": true})).await?;
    assert!(result.is_error);
    assert_eq!(each(&result, "status"), ["ok", "timed_out", "not_run"]);
    assert_eq!(each(&result, "stdout"), ["a\n", "b\n", ""]);
    assert!(result.text.contains("and was stopped, the shell with it; step 3 was not run"), "{}", result.text);
    sleep.is_gone().await
}

#[tokio::test]
async fn the_time_of_all_ends_it_and_tells_how_far_it_came() -> Result<()> {
    let rig = Rig::start().await?;
    let sleep = Sleep::new();
    let result = run(&rig, json!(["echo a", sleep.command, "echo c"]), json!({"timeout": 2})).await?;
    let problem = result.problem("COMMAND_TIMEOUT")?;
    problem.names(&["step 2 of 3 was running", "step 3 was not run"])?;
    let steps = &result.structured["details"]["steps"];
    assert_eq!(steps[0]["stdout"], "a\n", "{:#}", result.structured);
    assert_eq!(rig.only_job("box").await?["status"], "timed_out");
    sleep.is_gone().await
}

#[tokio::test]
async fn what_never_ends_has_its_share_and_the_rest_runs() -> Result<()> {
    let rig = Rig::start().await?;
    let commands = json!(["cd /", {"command": "pwd; tail -f /dev/null", "timeout": 1}, "echo after"]);
    let result = run(&rig, commands, json!({})).await?.ok()?;
    assert_eq!(each(&result, "status"), ["ok", "stopped", "ok"], "{:#}", result.structured);
    assert_eq!(each(&result, "stdout"), ["", "/\n", "after\n"]);
    assert!(result.text.contains("never ends by itself"), "{}", result.text);
    Ok(())
}

#[tokio::test]
async fn long_output_is_shown_in_part_and_can_be_read_whole() -> Result<()> {
    let rig = Rig::start().await?;
    let commands = json!(["echo first", "seq 1 20000", "echo last"]);
    let result = run(&rig, commands, json!({})).await?.ok()?;
    let steps = &result.structured["steps"];
    assert_eq!((&steps[0]["stdout"], &steps[2]["stdout"]), (&json!("first\n"), &json!("last\n")));
    assert_eq!(steps[1]["truncated"], true);
    let shown = steps[1]["stdout"].as_str().context("no output")?;
    assert!(shown.len() > 15_000 && shown.len() < 21_000, "{} bytes", shown.len());
    assert!(shown.starts_with("1\n2\n") && shown.ends_with("20000\n"), "{shown}");
    let id = result.str("id");
    let whole = rig.client.call("task_output", json!({"id": id, "grep": "^(first|10000|last)$"})).await?.ok()?;
    for line in ["first", "10000", "last"] {
        assert!(whole.text.contains(line), "{}", whole.text);
    }
    assert!(!whole.structured.to_string().contains("u001e"), "a mark is in the output");
    Ok(())
}

#[tokio::test]
async fn the_commands_are_in_the_audit_log_and_not_in_the_process_list() -> Result<()> {
    let rig = Rig::start().await?;
    let secret = "only-in-the-sequence";
    let commands = json!([format!("x={secret}"), "cat /proc/$$/cmdline | tr '\\0' ' '"]);
    let result = run(&rig, commands, json!({})).await?.ok()?;
    let line = result.structured["steps"][1]["stdout"].as_str().context("no output")?;
    assert!(line.contains("eval") && !line.contains(secret), "{line}");
    rig.client.close().await?;
    let audit = std::fs::read_to_string(rig.place.data().join("audit.jsonl"))?;
    assert!(audit.contains(secret) && audit.contains("task_exec_sequence"), "{audit}");
    Ok(())
}

#[tokio::test]
async fn what_is_left_running_does_not_hold_up_the_rest() -> Result<()> {
    let rig = Rig::start().await?;
    let sleep = Sleep::new();
    let commands = json!([format!("{} & echo $!", sleep.command), "echo b"]);
    let result = run(&rig, commands, json!({"timeout": 60})).await?.ok()?;
    assert_eq!(each(&result, "status"), ["ok", "ok"]);
    let pid = result.structured["steps"][0]["stdout"].as_str().context("no output")?.trim().to_owned();
    rig.exec(&format!("kill {pid}")).await?.ok()?;
    sleep.is_gone().await
}

#[tokio::test]
async fn a_wrong_sequence_is_refused_by_name() -> Result<()> {
    let rig = Rig::start().await?;
    for (commands, name) in
        [(json!([]), "commands"), (json!(["id", ""]), "commands[1]"), (json!([{"cmd": "id"}]), "command")]
    {
        run(&rig, commands, json!({})).await?.problem("INVALID_ARGUMENT")?.names(&[name])?;
    }
    assert_eq!(rig.sshd.logins(), 0, "a refused call must not connect");
    Ok(())
}
