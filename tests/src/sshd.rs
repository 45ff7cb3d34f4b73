//! A real OpenSSH server for one test: own port on the loopback, own host keys, own authorized keys, in the foreground.
//!
//! It logs in the user who runs the tests. Passwords need accounts of the machine, so they are the embedded server's part.

use std::fs;
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::keys::{KeyPair, Kind};
use crate::wait;

/// How the server is set up.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Host key algorithms; empty is one ed25519 key.
    pub host_keys: Vec<Kind>,
    /// Further lines of `sshd_config`, such as `MaxSessions 2`.
    pub config: Vec<String>,
    /// Shell scripts by name, in a PATH with nothing else but the basic tools of every system: what this machine has
    /// installed besides is then neither found nor run.
    pub programs: Option<Vec<(&'static str, String)>>,
}

/// What is in the PATH of a server with `programs`, as far as this machine has it.
const BASIC_TOOLS: [&str; 18] = [
    "bash", "cat", "date", "df", "env", "grep", "gzip", "head", "id", "ls", "sed", "sh", "sleep", "stat", "tail",
    "timeout", "uname", "wc",
];

/// A running server. It is killed when it is dropped; its sessions end with their clients.
pub struct Sshd {
    child: Child,
    pub address: SocketAddr,
    pub host_keys: Vec<KeyPair>,
    /// An ed25519 key that may log in.
    pub client_key: KeyPair,
    /// Who may log in: the user who runs the tests.
    pub user: String,
    folder: TempDir,
}

impl Sshd {
    /// A server as most tests want it.
    pub async fn start() -> Result<Sshd> {
        Sshd::start_with(Options::default()).await
    }

    pub async fn start_with(options: Options) -> Result<Sshd> {
        let folder = tempfile::Builder::new().prefix("sshd-").tempdir()?;
        let kinds = if options.host_keys.is_empty() { vec![Kind::Ed25519] } else { options.host_keys.clone() };
        let mut host_keys = Vec::new();
        for kind in kinds {
            host_keys.push(KeyPair::generate(folder.path(), &format!("host_{kind:?}"), kind)?);
        }
        let client_key = KeyPair::generate(folder.path(), "client", Kind::Ed25519)?;
        fs::write(folder.path().join("authorized_keys"), format!("{}\n", client_key.public))?;
        if let Some(programs) = &options.programs {
            install(&folder.path().join("bin"), programs)?;
        }
        // Another process may take the port between our asking for a free one and sshd's binding it.
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
            if let Some((child, address)) = launch(folder.path(), port, &host_keys, &options).await? {
                return Ok(Sshd { child, address, host_keys, client_key, user: user_name()?, folder });
            }
        }
        bail!("sshd found no free port in five attempts")
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The SHA256 fingerprint of the first host key.
    pub fn fingerprint(&self) -> &str {
        self.host_keys.first().map_or("", |key| &key.fingerprint)
    }

    /// The lines of known_hosts for this server.
    pub fn known_hosts(&self) -> String {
        self.host_keys.iter().map(|key| format!("[127.0.0.1]:{} {}\n", self.port(), key.bare_public())).collect()
    }

    /// Lets one more key log in.
    pub fn authorize(&self, key: &KeyPair) -> Result<()> {
        self.authorize_line(&key.public)
    }

    /// The same by its line of authorized_keys.
    pub fn authorize_line(&self, line: &str) -> Result<()> {
        let path = self.folder.path().join("authorized_keys");
        let lines = fs::read_to_string(&path)?;
        Ok(fs::write(path, format!("{lines}{line}\n"))?)
    }

    /// A folder of this server that goes with it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What sshd has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// How many logins sshd has accepted so far.
    pub fn logins(&self) -> usize {
        self.log().lines().filter(|line| line.contains("Accepted publickey for")).count()
    }

    /// Cuts every connection by killing its session process; the server goes on listening.
    pub fn sever(&self) {
        for pid in children(self.child.id()) {
            for grandchild in children(pid) {
                kill(grandchild);
            }
            kill(pid);
        }
    }

    /// Stops listening and cuts every connection, as a machine that goes down.
    pub fn stop(&mut self) {
        self.sever();
        // It fails only when sshd has ended by itself, and then there is nothing to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- sshd on {} ---\n{}", self.address, self.log());
        }
        self.stop();
    }
}

/// Starts sshd and waits until it answers; `None` when the port was taken meanwhile.
async fn launch(
    folder: &Path,
    port: u16,
    host_keys: &[KeyPair],
    options: &Options,
) -> Result<Option<(Child, SocketAddr)>> {
    let log = fs::File::create(folder.join("log"))?;
    let config = folder.join("sshd_config");
    fs::write(&config, render(folder, port, host_keys, options))?;
    if rustix::process::geteuid().is_root() {
        // Debian makes this folder when its own service starts, which may never have happened here.
        fs::create_dir_all("/run/sshd").context("making /run/sshd")?;
    }
    // sshd refuses to start from a relative path, since it runs itself again for each connection.
    let mut child = Command::new(program()?)
        .args(["-D", "-e", "-f"])
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .context("starting sshd")?;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut ended = false;
    let ready = wait::until("sshd's banner", Duration::from_secs(10), || {
        ended = child.try_wait().is_ok_and(|status| status.is_some());
        ended || answers(address)
    })
    .await;
    if ended {
        let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
        if log.contains("Address already in use") {
            return Ok(None);
        }
        bail!("sshd ended at once:\n{log}");
    }
    if let Err(error) = ready {
        child.kill()?;
        child.wait()?;
        return Err(error);
    }
    Ok(Some((child, address)))
}

/// Makes a folder that can be a whole PATH.
fn install(bin: &Path, programs: &[(&str, String)]) -> Result<()> {
    fs::create_dir(bin)?;
    for name in BASIC_TOOLS {
        let places = ["/usr/bin", "/bin"].map(|folder| Path::new(folder).join(name));
        if let Some(place) = places.iter().find(|place| place.exists()) {
            symlink(place, bin.join(name))?;
        }
    }
    for (name, script) in programs {
        let path = bin.join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

fn render(folder: &Path, port: u16, host_keys: &[KeyPair], options: &Options) -> String {
    // All variables are set on one line, since sshd reads the first one only.
    let path = options.programs.as_ref().map(|_| format!(" PATH={}", folder.join("bin").display())).unwrap_or_default();
    let mut lines = vec![
        "ListenAddress 127.0.0.1".to_owned(),
        format!("Port {port}"),
        format!("AuthorizedKeysFile {}", folder.join("authorized_keys").display()),
        // An empty home: what the person who runs the tests keeps in a .bashrc is neither tested nor waited for.
        format!("SetEnv HOME={}{path}", folder.display()),
    ];
    // `sshd` takes the first value that it reads for a keyword, so what a test asks for comes before the defaults.
    lines.extend(options.config.iter().cloned());
    lines.extend(host_keys.iter().map(|key| format!("HostKey {}", key.path.display())));
    for line in [
        "PidFile none",
        "StrictModes no",
        "UsePAM no",
        "UseDNS no",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "PermitRootLogin yes",
        "PrintMotd no",
        "PrintLastLog no",
        "LogLevel VERBOSE",
        "MaxStartups 100:30:200",
        "Subsystem sftp internal-sftp",
    ] {
        // It takes a subsystem only once.
        let keyword = line.split(' ').next().unwrap_or_default();
        if keyword != "Subsystem" || !options.config.iter().any(|own| own.starts_with(keyword)) {
            lines.push(line.to_owned());
        }
    }
    lines.join("\n") + "\n"
}

/// Whether an SSH server greets at `address`.
fn answers(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) else { return false };
    let mut greeting = [0; 4];
    stream.set_read_timeout(Some(Duration::from_secs(2))).is_ok()
        && stream.read_exact(&mut greeting).is_ok()
        && &greeting == b"SSH-"
}

fn program() -> Result<PathBuf> {
    ["/usr/sbin/sshd", "/usr/local/sbin/sshd", "/usr/bin/sshd", "/usr/local/bin/sshd"]
        .into_iter()
        .map(PathBuf::from)
        .find(|path| path.exists())
        .context("no sshd on this machine: run `cargo xtask setup`, or install openssh-server")
}

/// The name under which the tests run.
pub fn user_name() -> Result<String> {
    let output = Command::new("id").arg("-un").output().context("starting id")?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// The direct children of a process.
fn children(parent: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| {
            // The name in parentheses may hold spaces: the parent is the second field after the last parenthesis.
            fs::read_to_string(format!("/proc/{pid}/stat"))
                .ok()
                .and_then(|stat| stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse::<u32>().ok())
                .is_some_and(|found| found == parent)
        })
        .collect()
}

fn kill(pid: u32) {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return };
    // It fails only when the process has ended by itself meanwhile.
    let _ = kill_process(pid, Signal::KILL);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ssh(sshd: &Sshd, command: &str) -> std::process::Output {
        let known = sshd.folder().join("known");
        fs::write(&known, sshd.known_hosts()).unwrap();
        Command::new("ssh")
            .args(["-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-i"])
            .arg(&sshd.client_key.path)
            .arg("-o")
            .arg(format!("UserKnownHostsFile={}", known.display()))
            .args(["-p", &sshd.port().to_string(), &format!("{}@127.0.0.1", sshd.user), command])
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    #[tokio::test]
    async fn a_server_runs_a_command_for_its_client_key() -> Result<()> {
        let sshd = Sshd::start().await?;
        let output = ssh(&sshd, "echo out; echo err >&2; exit 3");
        assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.stdout, b"out\n");
        assert_eq!(sshd.logins(), 1);
        assert!(sshd.fingerprint().starts_with("SHA256:"));
        Ok(())
    }

    #[tokio::test]
    async fn a_stopped_server_no_longer_answers() -> Result<()> {
        let mut sshd = Sshd::start_with(Options { host_keys: vec![Kind::Ecdsa], ..Options::default() }).await?;
        assert!(answers(sshd.address));
        sshd.stop();
        assert!(!answers(sshd.address));
        Ok(())
    }
}
