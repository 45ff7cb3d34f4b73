//! `task_exec_interactive` on a real sshd: prompts in a terminal, and who answers them.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use orchestrator_tests::client::Launch;
use orchestrator_tests::result::ToolResult;
use orchestrator_tests::sshd::Options;
use serde_json::{Value, json};

use crate::support::{Rig, Sleep, exec_arguments};

/// Nothing of it may be found anywhere.
const SECRET: &str = "hunter2-Kz9-unmistakable";

/// Asks for a password as programs do: without an echo. Prints what it got in the end, which programs should not do.
const ASKS_FOR_PASSWORD: &str = r#"stty -echo; printf 'Password: '; read p; stty echo; echo; if [ "$p" = "$EXPECTED" ]; then echo "right: $p"; else echo "wrong: $p"; exit 5; fi"#;

async fn run(rig: &Rig, cmd: &str, more: Value) -> Result<ToolResult> {
    rig.client.call("task_exec_interactive", exec_arguments(cmd, more)).await
}

#[tokio::test]
async fn prompts_are_answered_and_the_transcript_comes_back() -> Result<()> {
    let rig = Rig::start().await?;
    let cmd = "test -t 0 && echo tty; printf 'Name: '; read n; printf 'Port [80]: '; read p; echo \"$n on $p\"";
    let more = json!({"responses": {"name": "ada", "/^Port \\[\\d+\\]/": "8080"}});
    let result = run(&rig, cmd, more).await?.ok()?;
    assert_eq!(result.str("transcript"), "tty\nName: ada\nPort [80]: 8080\nada on 8080\n");
    assert_eq!(
        result.structured["answered"],
        json!([{"prompt": "Name:", "answer": "ada"}, {"prompt": "Port [80]:", "answer": "8080"}])
    );
    assert!(result.text.contains("Name: <- \"ada\""), "{}", result.text);
    let job = rig.only_job("box").await?;
    assert_eq!((&job["status"], &job["tool"]), (&json!("completed"), &json!("task_exec_interactive")));
    Ok(())
}

#[tokio::test]
async fn the_same_prompt_is_answered_every_time_and_its_echo_never() -> Result<()> {
    let rig = Rig::start().await?;
    let cmd = "for i in 1 2 3; do printf 'say yes: '; read x; echo \"$i $x\"; done";
    let result = run(&rig, cmd, json!({"responses": {"yes": "yes"}, "timeout": 60})).await?.ok()?;
    assert_eq!(result.str("transcript"), "say yes: yes\n1 yes\nsay yes: yes\n2 yes\nsay yes: yes\n3 yes\n");
    assert_eq!(result.structured["answered"].as_array().map(Vec::len), Some(3));
    Ok(())
}

#[tokio::test]
async fn a_prompt_in_pieces_and_in_colours_is_one_prompt() -> Result<()> {
    let rig = Rig::start().await?;
    let cmd =
        r"printf '\033[1;3'; sleep 0.05; printf '2mEnter the na'; sleep 0.05; printf 'me\033[0m: '; read x; echo [$x]";
    let result = run(&rig, cmd, json!({"responses": {"Enter the name": "ada"}})).await?.ok()?;
    assert_eq!(result.str("transcript"), "Enter the name: ada\n[ada]\n");
    Ok(())
}

#[tokio::test]
async fn usual_questions_are_answered_unless_told_otherwise() -> Result<()> {
    let rig = Rig::start().await?;
    let cmd = "printf 'Do you want to continue? [Y/n] '; read x; printf 'Sure (yes/no)? '; read y; echo \"$x $y\"";
    let result = run(&rig, cmd, json!({})).await?.ok()?;
    assert!(result.str("transcript").ends_with("y yes\n"), "{}", result.text);
    for more in [json!({"autoRespond": false}), json!({"interactive": false, "responses": {"continue": "y"}})] {
        let refused = run(&rig, cmd, more).await?;
        let problem = refused.problem("COMMAND_TIMEOUT")?;
        problem.names(&["Do you want to continue? [Y/n]", "nobody answers", "responses"])?;
        assert_eq!(refused.structured["details"]["prompt"], "Do you want to continue? [Y/n]");
    }
    Ok(())
}

#[tokio::test]
async fn a_password_prompt_is_answered_only_from_responses() -> Result<()> {
    let rig = Rig::start().await?;
    let started = Instant::now();
    let silent = run(&rig, &format!("echo begun; {ASKS_FOR_PASSWORD}"), json!({"timeout": 100})).await?;
    silent.problem("COMMAND_TIMEOUT")?.names(&["Password:", "nobody answers", "env:NAME"])?;
    assert!(started.elapsed() < Duration::from_secs(60), "it was noticed only when the time was up");
    assert_eq!(silent.structured["details"]["transcript"], "begun\nPassword: ");
    assert_eq!(rig.only_job("box").await?["status"], "timed_out");
    Ok(())
}

#[tokio::test]
async fn the_answer_to_a_password_prompt_is_nowhere_to_be_read() -> Result<()> {
    let rig =
        Rig::with(Options::default(), |launch: Launch| launch.env("MCP_DEBUG", "true").env("THE_PASSWORD", SECRET))
            .await?;
    let file = rig.place.root().join("password");
    fs::write(&file, format!("{SECRET}\n"))?;
    let cmd = format!("EXPECTED=$(printf %s {}); {ASKS_FOR_PASSWORD}", SECRET.replace("hunter2", "hunter''2"));
    let mut said = String::new();
    for (answer, recorded) in [
        (SECRET.to_owned(), "[not kept]".to_owned()),
        ("env:THE_PASSWORD".to_owned(), "env:THE_PASSWORD".to_owned()),
        (format!("file:{}", file.display()), format!("file:{}", file.display())),
    ] {
        let result = run(&rig, &cmd, json!({"responses": {"Password": answer}})).await?.ok()?;
        assert!(result.str("transcript").ends_with("right: [secret]\n"), "{}", result.text);
        assert!(result.structured["answered"][0].get("answer").is_none(), "{:#}", result.structured);
        said.push_str(&format!("{}{}", result.text, result.structured));
        let id = result.str("id").to_owned();
        for tool in ["task_status", "task_output"] {
            let looked = rig.client.call(tool, json!({"id": id})).await?.ok()?;
            if tool == "task_status" {
                assert_eq!(looked.structured["arguments"]["responses"]["Password"], recorded);
            }
            said.push_str(&format!("{}{}", looked.text, looked.structured));
        }
    }
    said.push_str(&rig.client.stderr());
    rig.client.close().await?;
    assert!(!said.contains(SECRET), "the password was told: {said}");
    for path in rig.place.data_files()? {
        let bytes = fs::read(&path)?;
        let found = bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
        assert!(!found, "the password is in {}", path.display());
    }
    Ok(())
}

#[tokio::test]
async fn a_job_whose_answers_were_not_kept_says_so_when_it_is_retried() -> Result<()> {
    let rig = Rig::start().await?;
    let cmd = "printf 'Name: '; read n; exit 3";
    let failed = run(&rig, cmd, json!({"responses": {"Name": "ada"}})).await?;
    assert_eq!(failed.structured["exit_code"], 3, "{:#}", failed.structured);
    let retried = rig.client.call("task_retry", json!({"id": failed.str("id")})).await?;
    retried.problem("INVALID_ARGUMENT")?.names(&["Name", "not kept", "task_exec_interactive"])?;
    let kept = run(&rig, cmd, json!({"responses": [{"Name": "yes"}]})).await?;
    let retried = rig.client.call("task_retry", json!({"id": kept.str("id")})).await?;
    assert_eq!(retried.structured["result"]["exit_code"], 3, "{:#}", retried.structured);
    Ok(())
}

#[tokio::test]
async fn a_refused_password_is_not_tried_again() -> Result<()> {
    let rig = Rig::start().await?;
    let cmd = "n=0; while :; do printf '[sudo] password for x: '; stty -echo; read p; stty echo; n=$((n+1)); echo; echo \"Sorry, try again. ($n)\"; done";
    let result = run(&rig, cmd, json!({"responses": {"password": SECRET}, "timeout": 100})).await?;
    result.problem("COMMAND_TIMEOUT")?.names(&["was refused", "lock"])?;
    let transcript = result.structured["details"]["transcript"].as_str().context("no transcript")?;
    assert!(transcript.contains("(1)") && !transcript.contains("(2)"), "{transcript}");
    Ok(())
}

#[tokio::test]
async fn a_prompt_that_never_comes_does_no_harm() -> Result<()> {
    let rig = Rig::start().await?;
    let result = run(&rig, "echo no questions; exit 2", json!({"responses": {"Name": "ada"}})).await?;
    assert!(result.is_error && result.structured["exit_code"] == 2, "{:#}", result.structured);
    assert_eq!(result.structured["answered"], json!([]));
    assert!(result.text.starts_with("exit code 2\nno questions"), "{}", result.text);
    Ok(())
}

#[tokio::test]
async fn what_was_shown_last_is_told_when_the_time_is_up() -> Result<()> {
    let rig = Rig::start().await?;
    let sleep = Sleep::new();
    let result = run(&rig, &format!("printf 'Working on it: '; {}", sleep.command), json!({"timeout": 1})).await?;
    result.problem("COMMAND_TIMEOUT")?.names(&["Working on it:", "timeout"])?;
    sleep.is_gone().await
}

#[tokio::test]
async fn wrong_responses_are_refused_by_name() -> Result<()> {
    let rig = Rig::start().await?;
    for (responses, name) in [
        (json!({"/(/": "x"}), "regular expression"),
        (json!({"a": "cmd:id"}), "command"),
        (json!("x"), "responses"),
        (json!({"": "x"}), "empty prompt"),
    ] {
        let result = run(&rig, "true", json!({"responses": responses})).await?;
        result.problem("INVALID_ARGUMENT")?.names(&[name])?;
    }
    assert_eq!(rig.sshd.logins(), 0, "a refused call must not connect");
    Ok(())
}
