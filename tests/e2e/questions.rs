//! What a server asks during a login is answered by a person: on a page where the client can open one, at a terminal with a
//! verb, and nowhere else. The answer is kept nowhere.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use orchestrator_tests::client::{Client, Launch, Version};
use orchestrator_tests::daemon::Daemon;
use orchestrator_tests::embedded::{Accounts, Asks, CODE_PROMPT, Embedded, When};
use orchestrator_tests::keys::{KeyPair, Kind};
use orchestrator_tests::place::Place;
use orchestrator_tests::result::ToolResult;
use orchestrator_tests::wait;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::import::{said, verb};

const ASK: &str = "elicitation/create";
const DONE: &str = "notifications/elicitation/complete";
const PASSWORD: &str = "hunter2-Xq7-unmistakable";
/// Letters, so that no number in a file can look like one.
const CODES: [&str; 3] = ["code-Kp3-first", "code-Vz8-second", "code-Mt5-third"];

struct Rig {
    client: Client,
    server: Embedded,
    place: Place,
}

fn url_mode() -> Value {
    json!({"elicitation": {"url": {}}})
}

/// A server that asks, known as `vault` with what it wants besides.
async fn rig(when: When, launch: impl FnOnce(Launch) -> Launch) -> Result<Rig> {
    let place = Place::new()?;
    let key = KeyPair::generate(place.root(), "id", Kind::Ed25519)?;
    let keys = vec![key.public.parse().context("the public key")?];
    let accounts = Accounts { user: "ada".into(), password: Some(PASSWORD.into()), keys };
    let server = Embedded::start_asking(accounts, Asks::new(when, &CODES)).await?;
    let client = launch(Launch::new(&place).env("MCP_DEBUG", "true")).start().await?;
    let mut arguments = json!({"alias": "vault", "host": "127.0.0.1", "port": server.port(), "user": "ada",
        "hostKey": server.fingerprint});
    match when {
        When::AfterKey => arguments["keyPath"] = json!(key.path),
        _ => arguments["password"] = json!(PASSWORD),
    }
    client.call("server_add", arguments).await?.ok()?;
    Ok(Rig { client, server, place })
}

impl Rig {
    async fn exec(&self) -> Result<ToolResult> {
        self.client.call("task_exec", json!({"alias": "vault", "cmd": "echo in"})).await
    }

    /// Waits for the question, and agrees to open its page or not.
    async fn asked(&self, action: &str) -> Result<Asked> {
        Asked::of(&self.client.answer(ASK, json!({"action": action})).await?["params"])
    }

    /// Runs a command and answers what is asked.
    async fn exec_with(&self, texts: &[&str]) -> Result<ToolResult> {
        let answer = async { self.asked("accept").await?.answer(texts).await };
        let (result, answered) = tokio::join!(self.exec(), answer);
        ensure!(answered?.starts_with("HTTP/1.1 200"));
        result
    }

    /// Ends the program, and fails if an answer is anywhere in what it said or left.
    async fn leaves_nothing(self) -> Result<()> {
        let told = self.client.stderr();
        self.client.close().await?;
        leaves_nothing(&self.place, &told)
    }
}

fn leaves_nothing(place: &Place, told: &str) -> Result<()> {
    let mut files = vec![("what was said".to_owned(), told.as_bytes().to_vec())];
    for file in place.data_files()? {
        files.push((file.display().to_string(), fs::read(&file)?));
    }
    ensure!(files.iter().any(|(name, _)| name.ends_with("orchestrator.jsonl")), "no log was looked at");
    for (name, bytes) in files {
        for secret in CODES.iter().chain([&PASSWORD]) {
            let found = bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
            ensure!(!found, "{secret} stands in {name}");
        }
    }
    Ok(())
}

/// A question with its page.
struct Asked {
    params: Value,
    url: String,
}

impl Asked {
    fn of(params: &Value) -> Result<Asked> {
        ensure!(params["mode"] == "url", "{params}");
        let url = params["url"].as_str().context("no url")?.to_owned();
        ensure!(url.starts_with("http://127.0.0.1:"), "{url}");
        ensure!(params["message"].as_str().is_some_and(|text| text.contains("vault (127.0.0.1:")), "{params}");
        Ok(Asked { params: params.clone(), url })
    }

    /// The page as a browser gets it.
    async fn look(&self) -> Result<String> {
        self.request("GET", "").await
    }

    async fn answer(&self, texts: &[&str]) -> Result<String> {
        let body: Vec<String> = texts.iter().enumerate().map(|(at, text)| format!("answer{at}={text}")).collect();
        self.request("POST", &body.join("&")).await
    }

    async fn request(&self, method: &str, body: &str) -> Result<String> {
        let (host, path) = self.url.trim_start_matches("http://").split_once('/').context("no path")?;
        let mut stream = TcpStream::connect(host).await?;
        let request = format!(
            "{method} /{path} HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\nContent-Length: {}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    /// Nothing listens there any more.
    async fn is_closed(&self) -> Result<()> {
        let host = self.url.trim_start_matches("http://").split('/').next().unwrap_or_default().to_owned();
        wait::until("the page to be gone", Duration::from_secs(10), || std::net::TcpStream::connect(&host).is_err())
            .await
    }
}

#[tokio::test]
async fn a_code_after_the_password_is_asked_for_on_a_page_and_the_call_goes_on() -> Result<()> {
    let rig = rig(When::InTurn, |launch| launch.capabilities(url_mode())).await?;
    let person = async {
        let asked = rig.asked("accept").await?;
        ensure!(asked.params["message"].as_str().is_some_and(|text| text.contains(CODE_PROMPT.trim())));
        let page = asked.look().await?;
        ensure!(page.contains("Verification &lt;code&gt;: ") && page.contains("ada at vault"), "{page}");
        ensure!(!page.contains("Password") && !page.contains("<code>"), "{page}");
        let thanks = asked.answer(&[CODES[0]]).await?;
        ensure!(thanks.contains("You can close this page"), "{thanks}");
        let id = asked.params["elicitationId"].clone();
        rig.client.notification(|note| note["method"] == DONE && note["params"]["elicitationId"] == id).await?;
        asked.is_closed().await
    };
    let (result, answered) = tokio::join!(rig.exec(), person);
    answered?;
    assert_eq!(result?.ok()?.str("stdout"), "in\n");
    // The connection stays, so that nobody is asked again.
    for _ in 0..3 {
        rig.exec().await?.ok()?;
    }
    assert_eq!(rig.server.seen().logins, [("keyboard-interactive", true)]);
    let audit = fs::read_to_string(rig.place.data().join("audit.jsonl"))?;
    ensure!(audit.lines().filter(|line| line.contains("\"action\":\"answer\"")).count() == 1, "{audit}");
    rig.leaves_nothing().await
}

#[tokio::test]
async fn password_and_code_in_one_request_and_a_code_after_a_key_are_asked_for_too() -> Result<()> {
    for (when, texts) in [(When::Together, vec![PASSWORD, CODES[0]]), (When::AfterKey, vec![CODES[0]])] {
        let rig = rig(when, |launch| launch.capabilities(url_mode())).await?;
        rig.exec_with(&texts).await?.ok().with_context(|| format!("{when:?}"))?;
        rig.leaves_nothing().await?;
    }
    Ok(())
}

#[tokio::test]
async fn from_2026_on_the_call_is_repeated_and_waits_for_the_page() -> Result<()> {
    let rig = rig(When::AfterKey, |launch| launch.version(Version::V2026_07_28).capabilities(url_mode())).await?;
    let call = |responses: Value| {
        let mut params = json!({"name": "task_exec", "arguments": {"alias": "vault", "cmd": "echo in"}});
        if !responses.is_null() {
            params["inputResponses"] = responses;
        }
        rig.client.request("tools/call", params)
    };
    let ask = async || {
        let required = call(Value::Null).await?;
        assert_eq!(required["resultType"], "input_required", "{required}");
        let asked = required["inputRequests"].as_object().context("nothing is asked")?;
        let (name, request) = asked.iter().next().context("nothing is asked")?;
        assert_eq!(request["method"], ASK);
        anyhow::Ok((name.clone(), Asked::of(&request["params"])?))
    };
    let (name, declined) = ask().await?;
    let refused = call(json!({name.as_str(): {"action": "decline"}})).await?;
    assert_eq!(refused["structuredContent"]["details"]["reason"], "QUESTION_UNANSWERED", "{refused}");
    declined.is_closed().await?;
    let (name, asked) = ask().await?;
    let repeated = call(json!({name.as_str(): {"action": "accept"}}));
    let (done, answered) = tokio::join!(repeated, asked.answer(&[CODES[0]]));
    answered?;
    assert_eq!(done?["structuredContent"]["stdout"], "in\n");
    rig.leaves_nothing().await
}

#[tokio::test]
async fn a_client_that_cannot_open_pages_is_told_what_was_asked_and_what_to_do() -> Result<()> {
    for (version, capabilities) in [
        (Version::V2025_11_25, json!({"roots": {}})),
        // Forms are not for secrets.
        (Version::V2025_11_25, json!({"elicitation": {"form": {}}})),
        (Version::V2025_06_18, json!({"elicitation": {"url": {}}})),
        (Version::V2026_07_28, json!({"elicitation": {}})),
    ] {
        let rig = rig(When::AfterKey, |launch| launch.version(version).capabilities(capabilities)).await?;
        let problem = rig.exec().await?.problem("AUTH_FAILED")?;
        problem.names(&["vault", CODE_PROMPT.trim(), "mcp-orchestrator server login vault"])?;
        problem.at("login")?;
        assert_eq!(problem.details["questions"], json!([{"prompt": CODE_PROMPT, "echo": false}]));
        ensure!(!problem.retryable, "nothing changes by itself");
        rig.client.close().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_wrong_code_is_refused_and_the_next_call_asks_again() -> Result<()> {
    let rig = rig(When::AfterKey, |launch| launch.capabilities(url_mode())).await?;
    rig.exec_with(&["code-wrong"]).await?.problem("AUTH_FAILED")?.names(&["refused", "Call again"])?;
    rig.exec_with(&[CODES[1]]).await?.ok()?;
    let by_code: Vec<_> =
        rig.server.seen().logins.into_iter().filter(|(method, _)| method.starts_with("key")).collect();
    assert_eq!(by_code, [("keyboard-interactive", false), ("keyboard-interactive", true)]);
    rig.leaves_nothing().await
}

#[tokio::test]
async fn whoever_says_no_gets_the_error_that_there_was() -> Result<()> {
    let rig = rig(When::AfterKey, |launch| launch.capabilities(url_mode())).await?;
    for action in ["decline", "cancel"] {
        let (result, asked) = tokio::join!(rig.exec(), rig.asked(action));
        result?.problem("AUTH_FAILED")?.names(&["server login vault"])?;
        asked?.is_closed().await?;
    }
    // On the page itself.
    let no = async { rig.asked("accept").await?.request("POST", "answer0=&cancel=yes").await };
    let (result, answered) = tokio::join!(rig.exec(), no);
    ensure!(answered?.contains("Nothing was answered"));
    result?.problem("AUTH_FAILED")?;
    rig.client.close().await?;
    Ok(())
}

#[tokio::test]
async fn a_page_goes_with_the_call_and_with_the_client() -> Result<()> {
    let rig = rig(When::AfterKey, |launch| launch.capabilities(url_mode())).await?;
    let call = rig.client.begin_call("task_exec", json!({"alias": "vault", "cmd": "echo in"})).await?;
    let asked = rig.asked("accept").await?;
    rig.client.cancel(call.id).await?;
    asked.is_closed().await?;
    let _call = rig.client.begin_call("task_exec", json!({"alias": "vault", "cmd": "echo in"})).await?;
    let asked = rig.asked("accept").await?;
    rig.client.close().await?;
    asked.is_closed().await
}

#[tokio::test]
async fn many_calls_at_once_ask_once_and_a_transfer_asks_for_itself() -> Result<()> {
    let rig = rig(When::AfterKey, |launch| launch.capabilities(url_mode())).await?;
    let calls = futures::future::join_all((0..12).map(|_| rig.exec()));
    let person = async { rig.asked("accept").await?.answer(&[CODES[0]]).await };
    let (results, answered) = tokio::join!(calls, person);
    answered?;
    for result in results {
        result?.ok()?;
    }
    let local = rig.place.root().join("file");
    fs::write(&local, "content")?;
    let remote = rig.place.root().join("copy");
    let arguments = json!({"alias": "vault", "direction": "upload", "local": local, "remote": remote});
    let person = async { rig.asked("accept").await?.answer(&[CODES[1]]).await };
    let (result, answered) = tokio::join!(rig.client.call("task_transfer", arguments), person);
    answered?;
    // The embedded server has no SFTP; what counts is that it let us in.
    ensure!(!result?.text.contains("AUTH_FAILED"));
    let accepted = rig.server.seen().logins.iter().filter(|login| **login == ("keyboard-interactive", true)).count();
    assert_eq!(accepted, 2);
    rig.leaves_nothing().await
}

#[tokio::test]
async fn who_comes_to_a_question_while_it_is_answered_asks_nobody() -> Result<()> {
    // One of the calls has seen that the question is open, and looks for its page when that was answered and closed.
    let late = |launch: Launch| launch.capabilities(url_mode()).env("ORCHESTRATOR_FAILPOINT", "question-seen:2:1000");
    let rig = rig(When::AfterKey, late).await?;
    let person = async {
        let asked = rig.asked("accept").await?;
        // Until the others have met the question too.
        tokio::time::sleep(Duration::from_millis(300)).await;
        asked.answer(&[CODES[0]]).await
    };
    let calls = futures::future::join_all((0..6).map(|_| rig.exec()));
    let (results, answered) = tokio::join!(calls, person);
    answered?;
    for result in results {
        assert_eq!(result?.ok()?.str("stdout"), "in\n");
    }
    rig.leaves_nothing().await
}

#[tokio::test]
async fn an_operator_answers_with_a_verb_and_every_client_has_the_connection() -> Result<()> {
    let rig = rig(When::InTurn, Launch::shared).await?;
    let daemon = Daemon::of(&rig.place);
    rig.exec().await?.problem("AUTH_FAILED")?.names(&["server login vault"])?;
    let test = verb(&rig.place, &["server", "test", "vault"], "").await?;
    let told = String::from_utf8_lossy(&test.stderr).into_owned();
    ensure!(!test.status.success() && told.contains("server login vault") && told.contains("Verification"), "{told}");
    let wrong = verb(&rig.place, &["server", "login", "vault"], "code-wrong\n").await?;
    let told = String::from_utf8_lossy(&wrong.stderr).into_owned();
    ensure!(!wrong.status.success() && told.contains("refused what was answered"), "{told}");
    let nothing = verb(&rig.place, &["server", "login", "vault"], "").await?;
    ensure!(!nothing.status.success(), "{nothing:?}");
    let text = said(&verb(&rig.place, &["server", "login", "vault"], &format!("{}\n", CODES[0])).await?)?;
    for expected in [CODE_PROMPT, "connected and logged in", "The connection is kept"] {
        ensure!(text.contains(expected), "{expected:?} is not in {text}");
    }
    ensure!(!text.contains(CODES[0]), "{text}");
    assert_eq!(rig.exec().await?.ok()?.str("stdout"), "in\n");
    // Nothing is asked where the connection is there.
    said(&verb(&rig.place, &["server", "login", "vault"], "").await?)?;
    let told = rig.client.stderr();
    rig.client.close().await?;
    drop(daemon);
    leaves_nothing(&rig.place, &told)
}

#[tokio::test]
async fn at_a_terminal_what_is_typed_is_not_shown() -> Result<()> {
    let rig = rig(When::AfterKey, Launch::shared).await?;
    let _daemon = Daemon::of(&rig.place);
    let program = Launch::new(&rig.place).shared().command();
    let program = program.as_std();
    let line = format!(
        "stty -a | grep -o -- ' echo '; {} server login vault; stty -a | grep -o -- ' echo '",
        program.get_program().to_string_lossy()
    );
    // `script` is the terminal: it shows what a person would see.
    let mut command = Command::new("script");
    command.args(["-q", "-e", "-c", &line, "/dev/null"]).env_clear();
    command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().context("starting script")?;
    let mut keyboard = child.stdin.take().context("no keyboard")?;
    let mut screen = child.stdout.take().context("no screen")?;
    let mut shown = String::new();
    let look = async {
        let mut typed = false;
        let mut buffer = [0; 4096];
        loop {
            let read = screen.read(&mut buffer).await?;
            shown.push_str(&String::from_utf8_lossy(&buffer[..read]));
            if !typed && shown.contains(CODE_PROMPT) {
                typed = true;
                keyboard.write_all(format!("{}\n", CODES[0]).as_bytes()).await?;
            }
            if read == 0 {
                return anyhow::Ok(());
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), look).await.context("the verb does not end")??;
    ensure!(child.wait().await?.success(), "{shown}");
    ensure!(shown.contains("connected and logged in") && !shown.contains(CODES[0]), "{shown}");
    ensure!(shown.matches(" echo ").count() == 2, "the terminal was not set right again: {shown}");
    rig.client.close().await?;
    Ok(())
}
