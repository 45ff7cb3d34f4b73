//! How a server is doing: which commands are run, and which answer they make.
//!
//! This is `get_system_resources`: what its commands print is read in `parse`, how it is judged and told is in `report`. The
//! other tool is in `services`. No state is kept between calls.

mod parse;
mod report;
mod services;

use std::collections::BTreeMap;

use orchestrator_sdk::prelude::*;

pub use report::Resources;

/// The plugin.
pub struct Monitoring;

impl Plugin for Monitoring {
    fn describe() -> Description {
        let description = Description::new("monitoring", env!("CARGO_PKG_VERSION"), "How a server is doing.")
            .tool(
                Tool::new(
                    "get_system_resources",
                    "System resources",
                    "How a server is doing: CPU, load, memory, swap, disks, uptime, OS, busiest processes. \
                     Not for services or logs.",
                    get_system_resources,
                )
                .read_only()
                .server_argument("alias"),
            )
            .wants_servers("*", "Any server can be asked how it is doing.")
            .wants_exec(&["sh", "-c", FACTS], "Prints files about the system, its memory, mounts and user names.")
            .wants_exec(&["sh", "-c", SAMPLE], "Prints CPU times and the list of processes twice, half a second apart.")
            .wants_exec(&["df", "-P", "-k"], "Prints how full the disks are.")
            .wants_exec(&["df", "-P", "-i"], "Prints how many inodes of the disks are used.");
        services::describe(description)
    }
}

export!(Monitoring);

/// Files that describe the system, each behind a line with its path.
const FACTS: &str = include_str!("facts.sh");
/// Two samples of CPU and processes. Processes are read outside of the time that the CPU is measured in.
const SAMPLE: &str = include_str!("sample.sh");
/// `df` waits for a network filesystem whose server is gone, for ever.
const DF_SECONDS: u64 = 10;
const SCRIPT_SECONDS: u64 = 20;

#[derive(Deserialize, JsonSchema)]
struct Arguments {
    /// The server's alias.
    alias: String,
    /// How many of the busiest processes.
    #[serde(default = "five")]
    #[schemars(range(max = 50))]
    top: u32,
}

fn five() -> u32 {
    5
}

/// The commands, in the order in which their answers are read.
fn commands() -> Vec<Command> {
    let script = |script: &str| Command::new("sh").args(["-c", script]).timeout_seconds(SCRIPT_SECONDS);
    let df = |unit: &str| Command::new("df").args(["-P", unit]).timeout_seconds(DF_SECONDS);
    vec![script(FACTS), script(SAMPLE), df("-k"), df("-i")]
}

fn get_system_resources(host: &dyn Host, arguments: Arguments) -> Result<Output<Resources>, Problem> {
    let names = ["the script for facts", "the script for CPU and processes", "df -P -k", "df -P -i"];
    let answers = host.exec_all(&arguments.alias, commands());
    let mut notes = Vec::new();
    let mut outputs: Vec<String> = Vec::new();
    let mut refusals: Vec<Problem> = Vec::new();
    for (name, answer) in names.into_iter().zip(answers) {
        match answer {
            Ok(finished) => {
                if finished.stdout_truncated {
                    notes.push(format!("{name} printed more than can be read; the rest is left out"));
                }
                if finished.stdout.is_empty() {
                    notes.push(format!("{name} printed nothing and {}", finished.ending()));
                }
                outputs.push(finished.stdout_text().into_owned());
            }
            Err(problem) if is_of_one_command(&problem) => {
                notes.push(format!("{name} did not run to its end: {}", problem.message));
                outputs.push(String::new());
                refusals.push(problem);
            }
            Err(problem) => return Err(problem),
        }
    }
    if refusals.len() == names.len() {
        return Err(refusals.swap_remove(0));
    }
    let [facts, sample, blocks, inodes] = outputs.as_slice() else {
        return Err(Problem::new("INTERNAL", "the host did not answer every command"));
    };
    let resources = read(&arguments, facts, sample, blocks, inodes, notes);
    if resources.os.is_none() && resources.memory.is_none() && resources.filesystems.is_none() {
        let message = format!("{} has neither a POSIX shell nor df: {}", arguments.alias, resources.notes.join("; "));
        return Err(Problem::failed(message).detail("alias", arguments.alias));
    }
    Ok(Output::new(resources.text(), resources))
}

/// Whether the other commands may still have run. Everything else concerns the connection, and is passed on as it is.
fn is_of_one_command(problem: &Problem) -> bool {
    ["COMMAND_TIMEOUT", "NOT_GRANTED", "POLICY_DENIED"].contains(&problem.code.as_str())
}

/// Everything from what was printed.
fn read(
    arguments: &Arguments,
    facts: &str,
    sample: &str,
    blocks: &str,
    inodes: &str,
    mut notes: Vec<String>,
) -> Resources {
    let facts = parse::sections(facts);
    let file = |path: &str| facts.get(path).copied();
    let names = file("/etc/passwd").map(parse::user_names).unwrap_or_default();
    let sample: BTreeMap<&str, &str> = parse::sections(sample);
    let sample = parse::sample(&sample, &facts, &names);
    if sample.others_hidden {
        notes.push("processes of other users are hidden from the login user (hidepid)".to_owned());
    }
    let processes = sample.processes.map(|mut processes| {
        processes.truncate(usize::try_from(arguments.top).unwrap_or(usize::MAX));
        processes
    });
    let resources = Resources {
        alias: arguments.alias.clone(),
        warnings: Vec::new(),
        os: parse::os(file("/etc/os-release").or(file("/usr/lib/os-release")), file("uname")),
        uptime_seconds: file("/proc/uptime").and_then(parse::uptime_seconds),
        cpu: sample.cpu,
        load_average: file("/proc/loadavg").and_then(parse::load_average),
        memory: parse::memory(&facts),
        pressure: parse::pressure(&facts),
        swap: file("/proc/meminfo").and_then(parse::swap),
        filesystems: parse::filesystems(blocks, Some(inodes), file("/proc/mounts")),
        processes,
        notes,
    };
    noted(resources).judged()
}

/// Says what is missing.
fn noted(mut resources: Resources) -> Resources {
    let missing = [
        (resources.os.is_none(), "the system did not tell what it is (uname)"),
        (resources.uptime_seconds.is_none(), "uptime is unknown: /proc/uptime could not be read"),
        (resources.cpu.is_none(), "CPU use is unknown: /proc/stat could not be read twice"),
        (resources.load_average.is_none(), "load is unknown: /proc/loadavg could not be read"),
        (resources.memory.is_none(), "memory is unknown: /proc/meminfo could not be read"),
        (resources.swap.is_none(), "swap is unknown: /proc/meminfo does not tell"),
        (resources.filesystems.is_none(), "disks are unknown: df printed no table"),
        (resources.processes.is_none(), "processes are unknown: /proc/PID/stat could not be read twice"),
    ];
    resources.notes.extend(missing.into_iter().filter(|(is_missing, _)| *is_missing).map(|(_, note)| note.to_owned()));
    resources
}

#[cfg(test)]
mod tests;
