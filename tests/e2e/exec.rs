//! `task_exec` on a real sshd: what goes in, what comes out, and how it ends.

use anyhow::{Context, Result};
use orchestrator_tests::client::Launch;
use orchestrator_tests::sshd::Options;
use serde_json::json;

use crate::support::{Rig, Sleep, exec_arguments};

#[tokio::test]
async fn output_error_output_and_exit_code_are_kept_apart() -> Result<()> {
    let rig = Rig::start().await?;
    let good = rig.exec("echo out; echo err >&2").await?.ok()?;
    assert_eq!((good.str("stdout"), good.str("stderr")), ("out\n", "err\n"));
    assert_eq!(good.structured["exit_code"], 0);
    assert_eq!(good.str("alias"), "box");
    assert!(good.structured["duration_ms"].is_number());
    let bad = rig.exec("echo out; echo err >&2; exit 42").await?;
    assert!(bad.is_error);
    assert_eq!(bad.structured["exit_code"], 42);
    assert_eq!((bad.str("stdout"), bad.str("stderr")), ("out\n", "err\n"));
    assert!(bad.text.contains("42"), "the exit code is not told: {}", bad.text);
    assert!(bad.text.find("42") < bad.text.find("err"), "the exit code does not come first: {}", bad.text);
    Ok(())
}

#[tokio::test]
async fn a_missing_program_is_a_result_with_code_127() -> Result<()> {
    let rig = Rig::start().await?;
    let result = rig.exec("no-such-program-here").await?;
    assert!(result.is_error);
    assert_eq!(result.structured["exit_code"], 127);
    assert!(result.str("stderr").contains("no-such-program-here"));
    Ok(())
}

#[tokio::test]
async fn a_command_line_is_the_shells_business() -> Result<()> {
    let rig = Rig::start().await?;
    let result = rig.exec(r#"x='a  b'; echo "$x" | tr a-z A-Z; echo $((6*7)) "quo'te" \$HOME"#).await?.ok()?;
    assert_eq!(result.str("stdout"), "A  B\n42 quo'te $HOME\n");
    Ok(())
}

#[tokio::test]
async fn a_command_of_several_lines_runs_as_written() -> Result<()> {
    let rig = Rig::start().await?;
    let result = rig.exec("for i in 1 2; do\n  echo line $i\ndone\ncat <<END\n  kept  as is\nEND\n").await?.ok()?;
    assert_eq!(result.str("stdout"), "line 1\nline 2\n  kept  as is\n");
    Ok(())
}

#[tokio::test]
async fn bytes_that_are_no_text_do_not_break_the_answer() -> Result<()> {
    let rig = Rig::start().await?;
    let result = rig.exec(r"printf '\377\376\000ok'; printf '\200' >&2").await?.ok()?;
    assert!(result.str("stdout").ends_with("ok"), "{:?}", result.str("stdout"));
    assert_eq!(result.structured["stdout_bytes"], 5);
    assert_eq!(result.structured["stderr_bytes"], 1);
    Ok(())
}

#[tokio::test]
async fn fifteen_megabytes_are_shown_in_part_and_counted_whole() -> Result<()> {
    let rig = Rig::start().await?;
    let result = rig.exec("echo BEGIN; head -c 15000000 /dev/zero | tr '\\0' x; echo; echo END").await?.ok()?;
    assert_eq!(result.structured["stdout_bytes"], 15_000_000 + 6 + 1 + 4);
    assert_eq!(result.structured["truncated"], true);
    let shown = result.str("stdout");
    assert!(shown.chars().count() < 21_000, "{} characters are shown", shown.chars().count());
    assert!(shown.starts_with("BEGIN\n") && shown.ends_with("END\n"), "head and tail are not shown");
    assert!(result.text.len() < 25_000, "the text has {} bytes", result.text.len());
    let memory = resident_kib(rig.client.pid())?;
    assert!(memory < 150_000, "{memory} KiB after one large output");
    Ok(())
}

fn resident_kib(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

#[tokio::test]
async fn a_character_is_never_split() -> Result<()> {
    let rig = Rig::start().await?;
    let result = rig.exec("i=0; while [ $i -lt 4000 ]; do printf 'äöüß€漢字🦀'; i=$((i+1)); done").await?.ok()?;
    assert_eq!(result.structured["truncated"], true);
    assert!(!result.str("stdout").contains('\u{fffd}'), "a character was split");
    assert!(result.str("stdout").starts_with("äöüß€漢字🦀") && result.str("stdout").ends_with("äöüß€漢字🦀"));
    Ok(())
}

#[tokio::test]
async fn colours_are_not_shown() -> Result<()> {
    let rig = Rig::start().await?;
    let result = rig.exec(r"printf '\033[1;31mred\033[0m plain\n'").await?.ok()?;
    assert_eq!(result.str("stdout"), "red plain\n");
    assert_eq!(result.structured["stdout_bytes"], 21);
    Ok(())
}

#[tokio::test]
async fn standard_input_arrives_whole_and_is_closed() -> Result<()> {
    let rig = Rig::start().await?;
    let result = rig.exec_with("cat; echo end", json!({"stdin": "grüße\n"})).await?.ok()?;
    assert_eq!(result.str("stdout"), "grüße\nend\n");
    Ok(())
}

#[tokio::test]
async fn a_command_that_reads_its_input_ends_when_there_is_none() -> Result<()> {
    let rig = Rig::start().await?;
    let result = rig.exec_with("cat; read x; echo \"[$x]\"", json!({"timeout": 20})).await?.ok()?;
    assert_eq!(result.str("stdout"), "[]\n");
    Ok(())
}

#[tokio::test]
async fn environment_and_folder_are_set_for_the_command() -> Result<()> {
    let rig = Rig::start().await?;
    let value = "a 'b' \"c\" $HOME `id` ; ä\nnext";
    let more = json!({"env": {"GREETING": value}, "workdir": "/usr/share"});
    let result = rig.exec_with("printf '%s|' \"$GREETING\"; pwd", more).await?.ok()?;
    assert_eq!(result.str("stdout"), format!("{value}|/usr/share\n"));
    let missing = rig.exec_with("echo ran", json!({"workdir": "/no/such/folder"})).await?;
    assert!(missing.is_error && !missing.text.contains("ran\n"), "{}", missing.text);
    assert!(missing.text.contains("/no/such/folder"), "{}", missing.text);
    Ok(())
}

#[tokio::test]
async fn an_environment_name_that_is_none_is_refused() -> Result<()> {
    let rig = Rig::start().await?;
    let result = rig.exec_with("true", json!({"env": {"A=B; id": "x"}})).await?;
    result.problem("INVALID_ARGUMENT")?.names(&["env"])
}

#[tokio::test]
async fn a_signal_is_told_by_name() -> Result<()> {
    let rig = Rig::start().await?;
    let result = rig.exec("echo before; kill -KILL $$").await?;
    assert!(result.is_error);
    assert_eq!(result.structured["signal"], "KILL", "{:#}", result.structured);
    assert_eq!(result.str("stdout"), "before\n");
    assert!(result.text.contains("KILL"), "{}", result.text);
    Ok(())
}

#[tokio::test]
async fn a_command_past_its_time_is_really_ended() -> Result<()> {
    let rig = Rig::start().await?;
    let sleep = Sleep::new();
    let result = rig.exec_with(&format!("echo begun; {}; echo never", sleep.command), json!({"timeout": 1})).await?;
    let problem = result.problem("COMMAND_TIMEOUT")?;
    problem.names(&["box", "timeout"])?;
    problem.at("run")?;
    sleep.is_gone().await?;
    assert!(!result.text.contains("never"));
    assert_eq!(rig.only_job("box").await?["status"], "timed_out");
    Ok(())
}

#[tokio::test]
async fn a_command_that_ignores_gentle_signals_is_ended_too() -> Result<()> {
    let rig = Rig::start().await?;
    let sleep = Sleep::new();
    let stubborn = format!("trap '' INT TERM HUP; echo begun; {}; {}", sleep.command, sleep.command);
    rig.exec_with(&stubborn, json!({"timeout": 1})).await?.problem("COMMAND_TIMEOUT")?;
    sleep.is_gone().await
}

#[tokio::test]
async fn arguments_of_the_wrong_kind_are_refused_by_name() -> Result<()> {
    let rig = Rig::start().await?;
    for (more, name) in [
        (json!({"timeout": -1}), "timeout"),
        (json!({"timeout": "soon"}), "timeout"),
        (json!({"stdin": 5}), "stdin"),
        (json!({"env": ["A"]}), "env"),
        (json!({"cmd": ""}), "cmd"),
        (json!({"cmd": "echo \u{0}"}), "cmd"),
        (json!({"workdir": true}), "workdir"),
    ] {
        let result = rig.client.call("task_exec", exec_arguments("true", more.clone())).await?;
        result
            .problem("INVALID_ARGUMENT")
            .and_then(|problem| problem.names(&[name]))
            .with_context(|| more.to_string())?;
    }
    assert_eq!(rig.sshd.logins(), 0, "a refused call must not connect");
    Ok(())
}

#[tokio::test]
async fn a_long_command_is_handed_over_with_what_it_has_printed() -> Result<()> {
    let rig = Rig::with_env("MCP_SYNC_TIMEOUT_S", "1").await?;
    let handed = rig.exec("echo first; sleep 3; echo second").await?.ok()?;
    assert_eq!(handed.str("state"), "running", "{:#}", handed.structured);
    assert_eq!(handed.str("stdout"), "first\n");
    assert!(handed.text.contains("task_wait"), "{}", handed.text);
    let id = handed.str("id").to_owned();
    assert!(handed.text.contains(&id), "{}", handed.text);

    let running = rig.client.call("task_status", json!({"id": id})).await?.ok()?;
    assert_eq!(running.str("status"), "running");
    let ended = rig.client.call("task_wait", json!({"id": id, "timeout": 30})).await?.ok()?;
    assert_eq!(ended.str("status"), "completed", "{:#}", ended.structured);
    assert!(ended.structured["result"].to_string().contains("second"), "{:#}", ended.structured);
    let after = rig.client.call("task_status", json!({"id": id})).await?.ok()?;
    assert_eq!(after.str("status"), "completed");
    Ok(())
}

#[tokio::test]
async fn waiting_for_a_job_is_bounded() -> Result<()> {
    let rig = Rig::with_env("MCP_SYNC_TIMEOUT_S", "1").await?;
    let sleep = Sleep::new();
    let handed = rig.exec(&sleep.command).await?.ok()?;
    let waited = rig.client.call("task_wait", json!({"id": handed.str("id"), "timeout": 1})).await?;
    assert_eq!(waited.str("status"), "running", "{:#}", waited.structured);
    Ok(())
}

#[tokio::test]
async fn one_connection_serves_one_command_after_another() -> Result<()> {
    let rig = Rig::start().await?;
    for i in 0..5 {
        let result = rig.exec(&format!("echo {i}")).await?.ok()?;
        assert_eq!(result.str("stdout"), format!("{i}\n"));
    }
    assert_eq!(rig.sshd.logins(), 1, "{}", rig.sshd.log());
    Ok(())
}

#[tokio::test]
async fn commands_run_side_by_side() -> Result<()> {
    let rig = Rig::start().await?;
    many(&rig, 12).await
}

#[tokio::test]
async fn a_server_with_few_sessions_refuses_nobody() -> Result<()> {
    let options = Options { config: vec!["MaxSessions 2".to_owned()], ..Options::default() };
    let rig = Rig::with(options, |launch: Launch| launch.env("MAX_CONNECTIONS_PER_SERVER", "2")).await?;
    many(&rig, 12).await?;
    assert!(rig.sshd.logins() <= 2, "{} logins", rig.sshd.logins());
    Ok(())
}

async fn many(rig: &Rig, count: usize) -> Result<()> {
    let mut pending = Vec::new();
    for i in 0..count {
        let arguments = exec_arguments(&format!("sleep 0.3; echo {i}"), json!({}));
        pending.push(rig.client.begin_call("task_exec", arguments).await?);
    }
    for (i, pending) in pending.into_iter().enumerate() {
        let result = rig.client.finish_call("task_exec", pending).await?.ok()?;
        assert_eq!(result.str("stdout"), format!("{i}\n"));
    }
    Ok(())
}
