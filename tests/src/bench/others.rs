//! The same files through `rsync` and `rclone`, where they are installed: as they come, with the key and the host key of the
//! sshd that is measured.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Result;
use tokio::process::Command;

use super::transfer::{Bench, timed};

/// A program that people copy files with.
#[derive(Clone, Copy, Debug)]
pub enum Other {
    Rsync,
    Rclone,
}

impl Other {
    pub fn is_there(self) -> bool {
        let mut command = std::process::Command::new(self.program());
        command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|end| end.success())
    }

    fn program(self) -> &'static str {
        match self {
            Other::Rsync => "rsync",
            Other::Rclone => "rclone",
        }
    }

    /// Copies a file or what is in a folder; `None` where the program is not installed.
    pub async fn copy(
        self,
        bench: &Bench,
        known: &Path,
        port: u16,
        (from, to): (&Path, &Path),
        up: bool,
    ) -> Result<Option<Duration>> {
        if !self.is_there() {
            return Ok(None);
        }
        let folder = from.is_dir();
        let mut command = Command::new(self.program());
        let far = |path: &Path| -> Result<String> {
            Ok(match self {
                Other::Rsync => format!("{}@127.0.0.1:{}", bench.sshd.user, path.display()),
                Other::Rclone => {
                    let hosts = bench.known_hosts(known, port)?;
                    let (user, key) = (&bench.sshd.user, bench.sshd.client_key.path.display());
                    let hosts = hosts.display();
                    format!(
                        ":sftp,host=127.0.0.1,port={port},user={user},key_file={key},known_hosts_file={hosts}:{}",
                        path.display()
                    )
                }
            })
        };
        let (source, target) = (
            if up { from.display().to_string() } else { far(from)? },
            if up { far(to)? } else { to.display().to_string() },
        );
        match self {
            Other::Rsync => {
                let slash = if folder { "/" } else { "" };
                command.arg("-a").arg("-e").arg(bench.ssh_line(known, port)?);
                command.arg(format!("{source}{slash}")).arg(format!("{target}{slash}"));
            }
            Other::Rclone => {
                // No configuration of whoever runs this.
                command
                    .env("RCLONE_CONFIG", "/dev/null")
                    .arg(if folder { "copy" } else { "copyto" })
                    .args([source, target]);
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        timed(command, b"").await.map(Some)
    }
}
