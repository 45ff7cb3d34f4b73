//! Hundreds of hostile arguments through a plugin's `exec`, over a real sshd: each arrives byte for byte, and none of them runs
//! anything. Accounts with each shell as their login shell are the lab's part (`lab.rs`); here the shells are forced.

use anyhow::{Context, Result, ensure};
use orchestrator_tests::client::Client;
use orchestrator_tests::place::Place;
use orchestrator_tests::sshd::Options;
use serde_json::json;

use crate::plugins::guest;
use crate::shells::{SHELLS, forced};
use crate::support::Rig;

/// What a plugin may run at once.
const AT_ONCE: usize = 32;
/// All of so many become one line; a server takes 128 KiB as one argument of its shell.
const TOGETHER: usize = 100;
const GENERATED: usize = 400;

/// Ways to have `RUN` run, in one shell or another.
const INJECTIONS: [&str; 36] = [
    "$(RUN)",
    "`RUN`",
    "; RUN ;",
    "&& RUN",
    "|| RUN",
    "| RUN",
    "|& RUN",
    "& RUN &",
    "\nRUN\n",
    "\r\nRUN\r\n",
    "\\\nRUN\n",
    "<(RUN)",
    ">(RUN)",
    "=(RUN)",
    "(RUN)",
    "{ RUN; }",
    "'; RUN; '",
    "\"; RUN; \"",
    "\\'; RUN; \\'",
    "\\\\'; RUN; '",
    "'\\''; RUN; '\\''",
    "'\"'\"'; RUN; '\"'\"'",
    "'\nRUN\n'",
    "\"\nRUN\n\"",
    "'!'; RUN; '!'",
    "\\!; RUN",
    "${x:=$(RUN)}",
    "$((`RUN`))",
    "${(e):-$(RUN)}",
    "$'\\n'RUN",
    "#\nRUN",
    "\0'; RUN; '",
    "x.\"); RUN; (\"",
    "%s\\n\\047; RUN; \\047",
    "> MARK",
    ">> MARK; >! MARK; ^ MARK",
];

/// What the generated ones are made of: all that means something to a shell, and some things that only look odd.
const ALPHABET: [&str; 56] = [
    "'",
    "'",
    "\"",
    "\\",
    "\\",
    "$",
    "`",
    "!",
    "!",
    "\n",
    "\n",
    "\r",
    "\t",
    " ",
    ";",
    "&",
    "|",
    "<",
    ">",
    "(",
    ")",
    "{",
    "}",
    "[",
    "]",
    "*",
    "?",
    "~",
    "#",
    "=",
    "%",
    "^",
    "@",
    ":",
    ",",
    ".",
    "-",
    "+",
    "/",
    "a",
    "0",
    "é",
    "日",
    "🦀",
    "\u{1}",
    "\u{1b}[2J",
    "\u{7f}",
    "\u{a0}",
    "\u{2028}",
    "RUN",
    "$(RUN)",
    "`RUN`",
    "%s",
    "\\047",
    "\\c",
    "exec ",
];

/// The words; those that run something make a file with the name of `mark`. The seed is part of a failure's message.
fn hostile(mark: &str, seed: u64) -> Vec<String> {
    // xorshift64 (Marsaglia): the same words for the same seed, for ever.
    let mut state = seed.max(1);
    let mut next = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap_or(0)
    };
    let generated = (0..GENERATED).map(|_| {
        let length = 1 + next(14);
        (0..length).map(|_| ALPHABET[next(ALPHABET.len())]).collect::<String>()
    });
    let words = INJECTIONS.into_iter().map(str::to_owned).chain(generated);
    // No process can be given a NUL; that it is refused is tested where lines are written.
    words.map(|word| word.replace("RUN", &format!("touch {mark}")).replace("MARK", mark).replace('\0', "")).collect()
}

/// Sends every word by itself and then many together, and looks for what they may have run.
pub async fn prove(client: &Client, alias: &str) -> Result<()> {
    let seed: u64 = rand::random();
    let mark = format!("canary-{seed:016x}");
    let words = hostile(&mark, seed);
    ensure!(words.len() > 400, "{} words are not hundreds", words.len());
    // At its first start fish makes its folders, and complains where two of it do so at once.
    client.call("guest_exec", json!({"alias": alias, "command": {"program": "true"}})).await?.ok()?;
    let printf = |words: &[String]| {
        let args: Vec<&str> = std::iter::once("%s\\0").chain(words.iter().map(String::as_str)).collect();
        json!({"program": "printf", "args": args})
    };
    let groups = words.chunks(1).chain(words.chunks(TOGETHER)).collect::<Vec<_>>();
    for groups in groups.chunks(AT_ONCE) {
        let commands: Vec<_> = groups.iter().map(|words| printf(words)).collect();
        let arguments = json!({"alias": alias, "commands": commands});
        let answer = client.call("guest_exec_all", arguments).await?.ok()?;
        let results = answer.structured["results"].as_array().context("no results")?;
        ensure!(results.len() == groups.len(), "{} answers to {} commands", results.len(), groups.len());
        for (words, result) in groups.iter().zip(results) {
            let expected: String = words.iter().map(|word| format!("{word}\0")).collect();
            let arrived = result["stdout"] == expected && result["stderr"] == "" && result["exit_code"] == 0;
            ensure!(arrived, "{alias}, seed {seed}: {words:?} arrived as {result:#}");
        }
    }
    let listing = json!({"alias": alias, "command": {"program": "ls", "args": ["-A"]}});
    let left = client.call("guest_exec", listing).await?.ok()?;
    ensure!(!left.text.contains(&mark), "{alias}, seed {seed}: something was run and left {}", left.text);
    // The canary can sing: the same file is found when it is made on purpose.
    for program in ["touch", "ls", "rm"] {
        let command = json!({"alias": alias, "command": {"program": program, "args": [mark]}});
        let done = client.call("guest_exec", command).await?.ok()?;
        ensure!(done.structured["exit_code"] == 0, "{program} on {alias}: {:#}", done.structured);
    }
    Ok(())
}

/// A place with the plugin that runs what it is told to, and may.
pub fn place() -> Result<Place> {
    let place = Place::new()?;
    place.install_plugin(&guest("echo")?)?;
    place.configure("[plugins.echo.grants]\nservers = [\"*\"]\nexec = [[\"*\"]]\n")?;
    Ok(place)
}

#[tokio::test]
async fn hundreds_of_hostile_arguments_arrive_through_every_shell_and_run_nothing() -> Result<()> {
    for (shell, call) in SHELLS {
        let Some(force) = forced(shell, call) else { continue };
        let options = Options { config: vec![force], ..Options::default() };
        let rig = Rig::in_place(place()?, options, |launch| launch).await?;
        prove(&rig.client, "box").await.with_context(|| shell.to_owned())?;
    }
    Ok(())
}
