//! Which commands never end by themselves, told from their words alone. Careful: what is not plain to see ends.

use super::words::{Simple, simple_commands};

/// How deep `sh -c '…'` is looked into.
const DEPTH: usize = 4;

/// The command in `line` that will never end by itself, in a few words; `None` when there is none to be seen.
pub fn endless(line: &str) -> Option<String> {
    within(line, DEPTH)
}

fn within(line: &str, depth: usize) -> Option<String> {
    let commands = simple_commands(line);
    let mut first = 0;
    // One pipeline after the other.
    while let Some(rest) = commands.get(first..).filter(|rest| !rest.is_empty()) {
        let length = rest.iter().position(|command| !command.piped).map_or(rest.len(), |last| last + 1);
        let pipeline = rest.get(..length).unwrap_or(rest);
        if let Some(found) = pipeline_of(pipeline, depth) {
            return Some(found);
        }
        first += length;
    }
    None
}

fn pipeline_of(pipeline: &[Simple], depth: usize) -> Option<String> {
    if pipeline.last().is_some_and(|last| last.background) {
        return None;
    }
    let (place, found) = pipeline.iter().enumerate().find_map(|(place, command)| {
        let found = command_of(&command.words, place > 0, depth)?;
        Some((place, found))
    })?;
    // `tail -f x | head -5` ends once head has had enough.
    let ended = pipeline.iter().skip(place + 1).any(|reader| stops_reading(bare(&reader.words)));
    (!ended).then_some(found)
}

fn stops_reading(words: &[String]) -> bool {
    let Some((program, arguments)) = words.split_first() else { return false };
    match name(program) {
        "head" => true,
        "grep" | "egrep" | "fgrep" => {
            has(arguments, 'm', "max-count", "efABCd") || has(arguments, 'q', "quiet", "efABCd")
        }
        "sed" | "awk" | "gawk" | "mawk" => arguments.iter().any(|word| word.contains('q') || word.contains("exit")),
        _ => false,
    }
}

fn command_of(words: &[String], reads_pipe: bool, depth: usize) -> Option<String> {
    let words = bare(words);
    let (program, arguments) = words.split_first()?;
    let program = name(program);
    let follows = |takes| has(arguments, 'f', "follow", takes);
    let endless = match program {
        "tail" | "gtail" => {
            let follows =
                has(arguments, 'f', "follow", "ncs") || has(arguments, 'F', "", "ncs") || old_style(arguments);
            // A pipe is not followed, and with --pid it ends with that process.
            follows && !(reads_pipe && operands(arguments, "ncs").is_empty()) && !long(arguments, "pid")
        }
        "journalctl" => follows("nutpgoSUcDFMTb"),
        "dmesg" => has(arguments, 'w', "follow", "flns") || has(arguments, 'W', "follow-new", "flns"),
        "docker" | "podman" | "nerdctl" | "docker-compose" | "podman-compose" => return container(program, arguments),
        "kubectl" | "oc" | "k3s" => return cluster(program, arguments),
        "pm2" => match after_options(arguments, &[]).split_first() {
            Some((verb, rest)) if verb == "logs" || verb == "log" => !long(rest, "nostream"),
            Some((verb, _)) => matches!(verb.as_str(), "monit" | "dash" | "dashboard"),
            None => false,
        },
        "watch" => !asks_about_itself(arguments) && !has(leading(arguments, "nd"), 'g', "chgexit", "nq"),
        "top" => !asks_about_itself(arguments) && !has(arguments, 'n', "iterations", "dopuU"),
        "htop" | "btop" | "atop" | "nload" | "iftop" | "nethogs" => {
            !asks_about_itself(arguments) && arguments.is_empty()
        }
        "ping" | "ping6" => {
            let bounded = has(arguments, 'c', "count", "iIlmMpQsStTwW") || has(arguments, 'w', "", "ciIlmMpQsStTW");
            !bounded && !asks_about_itself(arguments) && !operands(arguments, "ciIlmMpQsStTwW").is_empty()
        }
        "tcpdump" => {
            let bounded = ['c', 'r', 'D', 'L', 'h'].iter().any(|flag| has(arguments, *flag, "", "iwsFGWCyzZBT"));
            !bounded && !asks_about_itself(arguments)
        }
        "vmstat" | "iostat" | "mpstat" => {
            let numbers = arguments.iter().filter(|word| word.parse::<f64>().is_ok()).count();
            // One number is an interval; the second would be the count.
            numbers == 1 && !arguments.iter().any(|word| word.starts_with('-'))
        }
        "inotifywait" => has(arguments, 'm', "monitor", "te"),
        "udevadm" => arguments.first().is_some_and(|verb| verb == "monitor"),
        "sh" | "bash" | "dash" | "zsh" | "ksh" | "ash" | "busybox" => {
            let script = script_of(program, arguments)?;
            return if depth == 0 { None } else { within(script, depth - 1) };
        }
        _ => false,
    };
    endless.then(|| short(words))
}

fn container(program: &str, arguments: &[String]) -> Option<String> {
    let global = ["-H", "--host", "-c", "--context", "--config", "-l", "--log-level"];
    let compose = ["-f", "--file", "-p", "--project-name", "--profile", "--env-file", "--project-directory", "--ansi"];
    let mut rest = if program.ends_with("-compose") {
        after_options(arguments, &compose)
    } else {
        after_options(arguments, &global)
    };
    let mut verb = rest.first()?.as_str();
    let mut shown = program.to_owned();
    if matches!(verb, "compose" | "container" | "service") {
        shown = format!("{program} {verb}");
        let options: &[&str] = if verb == "compose" { &compose } else { &[] };
        rest = after_options(rest.get(1..)?, options);
        verb = rest.first()?;
    }
    let flags = rest.get(1..)?;
    let endless = match verb {
        "logs" => has(flags, 'f', "follow", "n"),
        "stats" => !long(flags, "no-stream"),
        "events" => !long(flags, "until"),
        _ => false,
    };
    (endless && !long(flags, "help")).then(|| format!("{shown} {verb}{}", if verb == "logs" { " -f" } else { "" }))
}

fn cluster(program: &str, arguments: &[String]) -> Option<String> {
    let arguments = if program == "k3s" { arguments.strip_prefix(&["kubectl".to_owned()])? } else { arguments };
    let global = ["-n", "--namespace", "--context", "--kubeconfig", "--cluster", "--user", "-s", "--server"];
    let (verb, flags) = after_options(arguments, &global).split_first()?;
    let endless = match verb.as_str() {
        "logs" => has(flags, 'f', "follow", "cln"),
        "get" => has(flags, 'w', "watch", "lnof"),
        _ => false,
    };
    endless.then(|| format!("{program} {verb}{}", if verb == "logs" { " -f" } else { " -w" }))
}

/// The command itself: without keywords, assignments, and programs that only run another one.
/// Empty for what a program such as `timeout` ends.
fn bare(mut words: &[String]) -> &[String] {
    while let Some((word, rest)) = words.split_first() {
        words = match name(word) {
            "if" | "then" | "else" | "elif" | "while" | "until" | "do" | "{" | "!" | "time" | "nohup" | "exec"
            | "command" | "builtin" | "unbuffer" | "setsid" => after_options(rest, &["-a"]),
            "sudo" => after_options(rest, &["-u", "-g", "-h", "-p", "-C", "-T", "-r", "-t", "-U", "-D", "-R"]),
            "doas" => after_options(rest, &["-u", "-C"]),
            "env" => after_options(rest, &["-u", "-C", "-S"]),
            "nice" => after_options(rest, &["-n"]),
            "ionice" => after_options(rest, &["-c", "-n", "-p"]),
            "stdbuf" => after_options(rest, &["-i", "-o", "-e"]),
            "chronic" | "timeout" | "gtimeout" => return &[],
            _ if is_assignment(word) => rest,
            _ => return words,
        };
    }
    words
}

/// What stands behind the options at the beginning; `with_value` are those whose value is the next word.
fn after_options<'a>(mut words: &'a [String], with_value: &[&str]) -> &'a [String] {
    while let Some((word, rest)) = words.split_first() {
        if word == "--" {
            return rest;
        }
        if !word.starts_with('-') || word == "-" {
            break;
        }
        let takes = with_value.contains(&word.as_str());
        words = if takes { rest.get(1..).unwrap_or_default() } else { rest };
    }
    words
}

/// The options at the beginning, before the first word that is none.
fn leading<'a>(words: &'a [String], takes: &str) -> &'a [String] {
    let mut end = 0;
    while let Some(word) = words.get(end).filter(|word| word.starts_with('-')) {
        let last = word.chars().last().unwrap_or_default();
        end += if !word.starts_with("--") && takes.contains(last) && word.len() == 2 { 2 } else { 1 };
    }
    words.get(..end.min(words.len())).unwrap_or(words)
}

/// Whether an option is given, alone or in a cluster; `takes` are the short options that take a value.
fn has(words: &[String], short: char, long_name: &str, takes: &str) -> bool {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "--" {
            return false;
        }
        if let Some(option) = word.strip_prefix("--") {
            let (option, value) = option.split_once('=').unwrap_or((option, ""));
            if !long_name.is_empty() && option == long_name && value != "false" {
                return true;
            }
        } else if let Some(cluster) = word.strip_prefix('-') {
            for (at, letter) in cluster.char_indices() {
                if letter == short {
                    return true;
                }
                if takes.contains(letter) {
                    if at + letter.len_utf8() == cluster.len() {
                        words.next();
                    }
                    break;
                }
            }
        }
    }
    false
}

/// Whether a long option is given, with a value or without.
fn long(words: &[String], name: &str) -> bool {
    words.iter().take_while(|word| *word != "--").any(|word| {
        word.strip_prefix("--")
            .is_some_and(|option| option.split('=').next() == Some(name) && !option.ends_with("=false"))
    })
}

/// The words that are no options and no values of options.
fn operands<'a>(words: &'a [String], takes: &str) -> Vec<&'a str> {
    let mut found = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "--" {
            found.extend(words.by_ref().map(String::as_str));
        } else if let Some(option) = word.strip_prefix('-').filter(|option| !option.is_empty()) {
            let mut letters = option.chars();
            if letters.next().is_some_and(|letter| takes.contains(letter)) && letters.next().is_none() {
                words.next();
            }
        } else {
            found.push(word);
        }
    }
    found
}

/// `tail -100f`.
fn old_style(words: &[String]) -> bool {
    words
        .first()
        .and_then(|word| word.strip_prefix('-'))
        .and_then(|word| word.strip_suffix('f'))
        .is_some_and(|number| !number.is_empty() && number.chars().all(|char| char.is_ascii_digit()))
}

/// The text behind `-c`.
fn script_of<'a>(program: &str, arguments: &'a [String]) -> Option<&'a str> {
    let arguments = if program == "busybox" {
        arguments.strip_prefix(&["sh".to_owned()]).or_else(|| arguments.strip_prefix(&["ash".to_owned()]))?
    } else {
        arguments
    };
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let cluster = word.strip_prefix('-').filter(|cluster| !cluster.starts_with('-'));
        if cluster.is_some_and(|cluster| cluster.ends_with('c')) {
            return words.next().map(String::as_str);
        }
        if !word.starts_with(['-', '+']) {
            return None;
        }
        if word == "-o" || word == "-O" {
            words.next();
        }
    }
    None
}

fn asks_about_itself(arguments: &[String]) -> bool {
    arguments.iter().any(|word| matches!(word.as_str(), "--help" | "--version" | "-h" | "-V" | "-v"))
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        !name.starts_with(|first: char| first.is_ascii_digit())
            && !name.is_empty()
            && name.chars().all(|char| char.is_ascii_alphanumeric() || char == '_')
    })
}

/// The program without its folder.
fn name(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or(program)
}

/// The command's beginning, for a message.
fn short(words: &[String]) -> String {
    let text = words.join(" ");
    let shown: String = text.chars().take(60).collect();
    if shown.len() < text.len() { format!("{shown}…") } else { shown }
}

#[cfg(test)]
#[path = "endless_tests.rs"]
mod tests;
