//! Where a secret is, instead of the secret: `env:NAME`, `file:/path`, `cmd:…`.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use zeroize::Zeroizing;

use super::{Secret, SecretError};

/// The longest secret that a reference may lead to; private keys fit.
const LIMIT: u64 = 64 << 10;
/// How long a command may take. A keyring that asks its user for a password needs a few seconds.
const COMMAND_LIMIT: Duration = Duration::from_secs(10);
/// How much of a command's standard error is told.
const STDERR_SHOWN: usize = 400;

impl Secret {
    /// What it refers to, where it is meant as a reference; else itself.
    pub async fn resolved(&self) -> Result<Secret, SecretError> {
        match Reference::looks_like_one(self.expose()) {
            true => Reference::parse(self.expose())?.resolve().await,
            false => Ok(self.clone()),
        }
    }
}

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// An environment variable of the orchestrator.
    Env(String),
    /// A file; one line end at its end is not part of the secret.
    File(PathBuf),
    /// What `sh -c` prints, without white space at both ends.
    Command(String),
}

impl Reference {
    /// Whether `text` is meant as a reference, right or wrong.
    pub fn looks_like_one(text: &str) -> bool {
        ["env:", "file:", "cmd:"].iter().any(|prefix| text.starts_with(prefix))
    }

    pub fn parse(text: &str) -> Result<Reference, SecretError> {
        let wrong = || {
            // The part after a prefix that is not one of ours may be a secret.
            let shown =
                text.split_once(':').filter(|_| Reference::looks_like_one(text)).map_or("…", |(kind, _)| kind);
            SecretError::NotAReference(format!("{shown}:"))
        };
        let (kind, rest) = text.split_once(':').ok_or_else(wrong)?;
        match kind {
            "env" if is_name(rest) => Ok(Reference::Env(rest.to_owned())),
            "file" if rest.starts_with('/') && !rest.contains('\0') => Ok(Reference::File(rest.into())),
            "cmd" if !rest.trim().is_empty() && !rest.contains('\0') => Ok(Reference::Command(rest.trim().to_owned())),
            _ => Err(wrong()),
        }
    }

    /// `env`, `file` or `cmd`.
    pub fn kind(&self) -> &'static str {
        match self {
            Reference::Env(_) => "env",
            Reference::File(_) => "file",
            Reference::Command(_) => "cmd",
        }
    }

    /// Gets the secret. Blocks on the file, or up to 10 s on the command.
    pub async fn resolve(&self) -> Result<Secret, SecretError> {
        let secret = match self {
            Reference::Env(name) => match std::env::var(name) {
                Ok(value) => Secret::new(value),
                Err(std::env::VarError::NotPresent) => return Err(SecretError::Env(name.clone())),
                Err(std::env::VarError::NotUnicode(_)) => return Err(SecretError::NotText("environment variable")),
            },
            Reference::File(path) => read_file(path.clone()).await?,
            Reference::Command(line) => run(line, COMMAND_LIMIT).await?,
        };
        if secret.expose().is_empty() {
            return Err(SecretError::Empty(match self {
                Reference::Env(_) => "environment variable",
                Reference::File(_) => "file",
                Reference::Command(_) => "output of the command",
            }));
        }
        Ok(secret)
    }
}

fn is_name(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && chars.all(|char| char.is_ascii_alphanumeric() || char == '_')
}

async fn read_file(path: PathBuf) -> Result<Secret, SecretError> {
    let failed = |source| SecretError::File { path: path.clone(), source };
    let file = tokio::fs::File::open(&path).await.map_err(failed)?;
    let mode = file.metadata().await.map_err(failed)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        tracing::warn!(path = %path.display(), mode = format!("{mode:o}"), "a file with a secret can be read by others");
    }
    let bytes = read_limited(file, "file").await?.map_err(failed)?;
    let text = text(&bytes, "file")?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    Ok(Secret::new(text.strip_suffix('\r').unwrap_or(text)))
}

pub(super) async fn run(line: &str, limit: Duration) -> Result<Secret, SecretError> {
    let mut child = Command::new("sh")
        .args(["-c", line])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own, so that everything that the shell started can be ended with it.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(SecretError::Command)?;
    let group = child.id();
    match tokio::time::timeout(limit, finish(&mut child)).await {
        Ok(result) => result,
        Err(_) => {
            kill_group(group);
            Err(SecretError::CommandTimeout(limit))
        }
    }
}

async fn finish(child: &mut Child) -> Result<Secret, SecretError> {
    let stdout = child.stdout.take();
    let stderr = child.stderr.take();
    let output = async {
        match stdout {
            Some(stdout) => read_limited(stdout, "output of the command").await,
            None => Ok(Ok(Zeroizing::default())),
        }
    };
    let complaint = async {
        let mut start = Vec::new();
        if let Some(mut stderr) = stderr {
            let _ = (&mut stderr).take(STDERR_SHOWN as u64).read_to_end(&mut start).await;
            // Read to the end, so that the command is not held up by what nobody wants to see.
            let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
        }
        String::from_utf8_lossy(&start).trim().to_owned()
    };
    let (output, complaint, status) = tokio::join!(output, complaint, child.wait());
    let status = status.map_err(SecretError::Command)?;
    if !status.success() {
        let stderr = if complaint.is_empty() { "it printed no error".to_owned() } else { complaint };
        return Err(SecretError::CommandFailed { status: status.to_string(), stderr });
    }
    let output = output?.map_err(SecretError::Command)?;
    Ok(Secret::new(text(&output, "output of the command")?.trim()))
}

fn kill_group(leader: Option<u32>) {
    let group = leader.and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
    if let Some(group) = group {
        // It may have ended just now.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
}

async fn read_limited(
    source: impl AsyncRead + Unpin,
    kind: &'static str,
) -> Result<std::io::Result<Zeroizing<Vec<u8>>>, SecretError> {
    let mut bytes = Zeroizing::new(Vec::new());
    if let Err(error) = source.take(LIMIT + 1).read_to_end(&mut bytes).await {
        return Ok(Err(error));
    }
    if bytes.len() as u64 > LIMIT {
        return Err(SecretError::Long { kind, limit: LIMIT });
    }
    Ok(Ok(bytes))
}

fn text<'a>(bytes: &'a [u8], kind: &'static str) -> Result<&'a str, SecretError> {
    std::str::from_utf8(bytes).map_err(|_| SecretError::NotText(kind))
}
