//! What can go wrong with a file, by place, step and path.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Code, Problem};

/// Why a step failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Cause {
    #[error("there is no such file or directory")]
    NotFound,
    #[error("permission denied")]
    Denied,
    /// OpenSSH says no more than that (SSH_FX_FAILURE) for a full disk, a file in the way and much else.
    #[error("the server says only {0:?}")]
    Failure(String),
    #[error("no space is left on the file system")]
    Full,
    #[error("the server cannot do that")]
    Unsupported,
    #[error("{0}")]
    Io(Arc<io::Error>),
    /// The connection, and everything that was open on it.
    #[error("the connection was lost{0}")]
    Lost(String),
    #[error("the server has not answered for {} s", .0.as_secs())]
    Stalled(Duration),
    #[error("the server does not speak SFTP correctly: {0}")]
    Protocol(String),
    #[error("the server offers no file transfer (SFTP subsystem)")]
    NoSubsystem,
    /// Connecting failed.
    #[error("{0}")]
    Connect(Box<Problem>),
    #[error("it changed while it was read")]
    Changed,
    #[error("what arrived is not what was sent (SHA-256 differs)")]
    Corrupt,
    #[error("{0}")]
    InTheWay(&'static str),
    #[error("{0}")]
    Pattern(String),
    #[error("another transfer is writing it")]
    Busy,
    #[error("the transfer was cancelled")]
    Cancelled,
    #[error("it lies outside of MCP_ALLOWED_ROOTS")]
    Outside,
    #[error("it belongs to this program, which keeps secrets there")]
    Ours,
}

/// What was not done to which file.
#[derive(Clone, Debug, thiserror::Error)]
pub struct FileError {
    /// A server's alias; `None` is this machine.
    pub place: Option<Arc<str>>,
    /// As it stands behind "could not".
    pub step: &'static str,
    pub path: PathBuf,
    pub cause: Cause,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.place.as_deref().unwrap_or("this machine");
        match &self.cause {
            Cause::Connect(problem) => f.write_str(&problem.message),
            Cause::Cancelled => write!(f, "{}; nothing unfinished was left behind", self.cause),
            cause if self.path.as_os_str().is_empty() => write!(f, "{place}: could not {}: {cause}", self.step),
            cause => write!(f, "{place}: could not {} {}: {cause}", self.step, shown(&self.path)),
        }
    }
}

impl FileError {
    pub fn new(place: Option<&Arc<str>>, step: &'static str, path: &Path, cause: Cause) -> Self {
        FileError { place: place.cloned(), step, path: path.to_owned(), cause }
    }

    /// The file is not there.
    pub fn is_not_found(&self) -> bool {
        match &self.cause {
            Cause::NotFound => true,
            Cause::Io(error) => error.kind() == io::ErrorKind::NotFound,
            _ => false,
        }
    }

    /// The connection is gone; what was transferred so far is not.
    pub fn is_lost(&self) -> bool {
        matches!(self.cause, Cause::Lost(_) | Cause::Stalled(_))
    }

    /// It concerns all files alike, so that the next one need not be tried.
    pub fn is_fatal(&self) -> bool {
        match &self.cause {
            Cause::Connect(_) | Cause::NoSubsystem | Cause::Protocol(_) | Cause::Full | Cause::Cancelled => true,
            Cause::Io(error) => {
                matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::ReadOnlyFilesystem)
            }
            _ => self.is_lost(),
        }
    }

    /// It ends the whole call, and not only one of its items.
    pub fn concerns_all(&self) -> bool {
        matches!(self.cause, Cause::Connect(_) | Cause::NoSubsystem | Cause::Protocol(_) | Cause::Cancelled)
    }

    fn hint(&self) -> Option<String> {
        Some(match &self.cause {
            Cause::NotFound => "Check the path; a relative one begins in the login user's home on a server.".to_owned(),
            Cause::Denied => format!("Check the rights of the login user on {}.", shown(&self.path)),
            Cause::Failure(_) => "Often a full disk, a quota or something of another kind at that path.".to_owned(),
            Cause::Full => "Make room on that file system first.".to_owned(),
            Cause::Lost(_) | Cause::Stalled(_) => {
                "Call it again with resume: true; no half file stands under the real name.".to_owned()
            }
            Cause::NoSubsystem => {
                "sshd_config needs a line `Subsystem sftp internal-sftp`; the login user may be restricted.".to_owned()
            }
            Cause::Protocol(_) => {
                "A start-up file of the login shell that prints something breaks SFTP; so does a ForceCommand."
                    .to_owned()
            }
            Cause::Connect(problem) => return problem.hint.clone(),
            Cause::Changed => "Something writes to it. Copy a snapshot, or try again when it is quiet.".to_owned(),
            Cause::InTheWay(_) if self.step == "replace" => {
                "Choose another path, or force: true where a link may be replaced.".to_owned()
            }
            Cause::Busy => "Wait for the other job (task_queue) to end.".to_owned(),
            Cause::Outside => "Only the operator can widen MCP_ALLOWED_ROOTS.".to_owned(),
            Cause::Ours => "Nothing in the data directory (MCP_DATA_DIR) is copied; choose another path.".to_owned(),
            Cause::Cancelled => "What had arrived stays; the same call copies the rest.".to_owned(),
            Cause::Corrupt => "Something damages or changes the file on its way; try again.".to_owned(),
            Cause::Unsupported => "This server's SFTP lacks it: call again without that option.".to_owned(),
            Cause::Pattern(_) => "Check the pattern: * and ? stay within a directory, ** does not.".to_owned(),
            Cause::Io(_) | Cause::InTheWay(_) => "Check the path and what stands there.".to_owned(),
        })
    }
}

/// A path for people: what is no text in it is escaped.
pub fn shown(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let mut text = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        for letter in chunk.valid().chars() {
            if letter.is_control() { text.extend(letter.escape_default()) } else { text.push(letter) }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

impl From<FileError> for Problem {
    fn from(error: FileError) -> Problem {
        if let Cause::Connect(problem) = error.cause {
            return *problem;
        }
        let code = match error.cause {
            Cause::Outside | Cause::Ours => Code::PolicyDenied,
            Cause::Cancelled => Code::Cancelled,
            _ => Code::TransferFailed,
        };
        let mut problem = Problem::new(code, error.to_string())
            .detail("path", shown(&error.path))
            .detail("step", error.step)
            .detail("reason", error.cause.to_string())
            .retryable(error.is_lost() || matches!(error.cause, Cause::Changed | Cause::Busy));
        if let Some(place) = &error.place {
            problem = problem.detail("alias", &**place);
        }
        match error.hint() {
            Some(hint) => problem.hint(hint),
            None => problem,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_place_step_path_and_cause() {
        let place: Arc<str> = "web".into();
        let error = FileError::new(Some(&place), "write", Path::new("/srv/a\nb"), Cause::Denied);
        assert_eq!(error.to_string(), "web: could not write /srv/a\\nb: permission denied");
        let problem = Problem::from(error);
        assert_eq!(problem.code, Code::TransferFailed);
        assert_eq!(problem.details["alias"], "web");
        assert_eq!(problem.details["step"], "write");
        let error = FileError::new(None, "read", Path::new("/etc/shadow"), Cause::Outside);
        assert_eq!(Problem::from(error).code, Code::PolicyDenied);
    }
}
