//! `import DIR`: takes over what the Node project `mcp-sftp-orchestrator` has in its data directory: `servers.json`,
//! `server_groups.json` (as tags) and `apis.json`.
//!
//! Nothing there is changed. What an entry means is in `node.rs`; it is added by the same tools that an agent uses, which
//! check it and seal its secrets.

mod node;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Map, Value};

use super::caller::Caller;
use super::report::{Fate, Report};
use super::say;
use node::Entry;

#[derive(Args)]
pub struct Arguments {
    /// The data directory of the Node project; its default is ~/.config/mcp-orchestrator
    dir: PathBuf,
    /// Update entries that are known here by what the files say
    #[arg(long)]
    force: bool,
    /// Only say what would be imported
    #[arg(long)]
    dry_run: bool,
}

pub fn run(data_dir: Option<PathBuf>, arguments: &Arguments) -> Result<ExitCode> {
    let mut report = Report::new(arguments.dry_run);
    let servers = read(&arguments.dir.join("servers.json"), &mut report)?;
    let groups = read(&arguments.dir.join("server_groups.json"), &mut report)?.unwrap_or_default();
    let apis = read(&arguments.dir.join("apis.json"), &mut report)?;
    if servers.is_none() && apis.is_none() {
        bail!("{} has neither servers.json nor apis.json", arguments.dir.display());
    }
    let mut caller = Caller::open(data_dir, "import")?;
    if let Some(servers) = servers {
        report.heading("Servers:");
        let known = caller.aliases("server_list", "servers")?;
        let entries = servers.iter().map(|(alias, entry)| (alias, node::server(alias, entry, &groups)));
        add_all(&mut caller, "server_add", &known, entries, arguments, &mut report)?;
    }
    if let Some(apis) = apis {
        report.heading("APIs:");
        let known = caller.aliases("api_list", "apis")?;
        let entries = apis.iter().map(|(alias, entry)| (alias, node::api(alias, entry)));
        add_all(&mut caller, "api_add", &known, entries, arguments, &mut report)?;
    }
    let (text, code) = report.finish();
    say(&text)?;
    Ok(code)
}

fn add_all<'a>(
    caller: &mut Caller,
    tool: &str,
    known: &[String],
    entries: impl Iterator<Item = (&'a String, Result<Entry, String>)>,
    arguments: &Arguments,
    report: &mut Report,
) -> Result<()> {
    for (alias, entry) in entries {
        let is_known = known.contains(alias);
        if is_known && !arguments.force {
            report.entry(Fate::Kept, alias, "is known here already; --force updates it by what the file says");
            continue;
        }
        match entry {
            Err(why) => report.entry(Fate::Failed, alias, &why),
            Ok(entry) => {
                if !arguments.dry_run
                    && let Err(refusal) = caller.call(tool, &Value::Object(entry.arguments))?
                {
                    report.entry(Fate::Failed, alias, &refusal.to_string());
                    continue;
                }
                let update = if is_known { " (update)" } else { "" };
                report.entry(Fate::Imported, alias, &format!("{}{update}", entry.shown));
                entry.notes.iter().for_each(|note| report.note(note));
            }
        }
    }
    Ok(())
}

/// The object in a file; `None` where there is no such file. The Node project falls back to its own copy of the last good
/// version when a file is broken, and so do we.
fn read(path: &Path, report: &mut Report) -> Result<Option<Map<String, Value>>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    };
    let broken = match serde_json::from_str(&text) {
        Ok(object) => return Ok(Some(object)),
        Err(error) => error,
    };
    let mut copy = path.as_os_str().to_owned();
    copy.push(".bak");
    let copy = PathBuf::from(copy);
    let good = std::fs::read_to_string(&copy).ok().and_then(|text| serde_json::from_str(&text).ok());
    let Some(object) = good else {
        bail!("{} is not a JSON object ({broken}), and there is no good {} either", path.display(), copy.display());
    };
    report.heading(&format!("{} is broken ({broken}); {} was read instead.", path.display(), copy.display()));
    Ok(Some(object))
}
