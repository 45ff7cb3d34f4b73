//! Another real server than OpenSSH's: dropbear, as small systems and routers have it.
//!
//! It reads its users from the system and nothing else, so it runs where `/etc/passwd` is one of the test's own: in a mount
//! namespace, which takes root. Elsewhere the tests say that they tried nothing.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use orchestrator_tests::client::{Client, Launch};
use orchestrator_tests::keys::{KeyPair, Kind};
use orchestrator_tests::place::Place;
use orchestrator_tests::wait;
use serde_json::{Value, json};

use crate::support::Sleep;
use crate::transfer::{grow, read_tree};

/// A running server, and a program that knows it as `small`.
struct Small {
    client: Client,
    server: Child,
    _place: Place,
}

impl Drop for Small {
    fn drop(&mut self) {
        // It fails only when it has ended by itself.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl Small {
    /// `None` where there can be none.
    async fn start() -> Result<Option<Small>> {
        let usable = rustix::process::geteuid().is_root()
            && ["dropbear", "dropbearkey", "unshare"].iter().all(|name| is_here(name));
        if !usable {
            eprintln!(
                "SKIPPED: needs root, dropbear (package dropbear-bin) and unshare, so nothing was tried with dropbear"
            );
            return Ok(None);
        }
        let place = Place::new()?;
        let home = place.root().join("dropbear");
        fs::create_dir_all(home.join(".ssh"))?;
        for folder in [&home, &home.join(".ssh")] {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
        }
        let key = KeyPair::generate(place.root(), "client", Kind::Ed25519)?;
        fs::write(home.join(".ssh/authorized_keys"), format!("{}\n", key.public))?;
        fs::write(home.join("passwd"), format!("root:x:0:0:root:{}:/bin/sh\n", home.display()))?;
        let made = Command::new("dropbearkey").args(["-t", "ed25519", "-f"]).arg(home.join("host")).output()?;
        ensure!(made.status.success(), "{made:?}");
        let public = String::from_utf8(made.stdout)?;
        let public = public.lines().find(|line| line.starts_with("ssh-ed25519 ")).context("no public key")?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let server = Command::new("unshare")
            .args(["--mount", "sh", "-c"])
            .arg("mount --bind \"$1/passwd\" /etc/passwd && exec dropbear -F -E -s -p \"127.0.0.1:$2\" -r \"$1/host\" -P \"$1/pid\"")
            .args([Path::new("sh"), &home])
            .arg(port.to_string())
            .stdin(Stdio::null())
            .stderr(fs::File::create(home.join("log"))?)
            .spawn()?;
        let client = Launch::new(&place).start().await?;
        let small = Small { client, server, _place: place };
        let up = || TcpStream::connect(("127.0.0.1", port)).is_ok();
        wait::until("dropbear to listen", Duration::from_secs(60), up).await?;
        let known: Vec<&str> = public.split(' ').take(2).collect();
        small._place.know_hosts(&format!("[127.0.0.1]:{port} {}\n", known.join(" ")))?;
        let arguments =
            json!({"alias": "small", "host": "127.0.0.1", "port": port, "user": "root", "keyPath": key.path});
        small.client.call("server_add", arguments).await?.ok()?;
        Ok(Some(small))
    }

    async fn exec(&self, cmd: &str, more: Value) -> Result<orchestrator_tests::result::ToolResult> {
        let mut arguments = json!({"alias": "small", "cmd": cmd});
        if let (Some(arguments), Value::Object(more)) = (arguments.as_object_mut(), more) {
            arguments.extend(more);
        }
        self.client.call("task_exec", arguments).await
    }
}

fn is_here(program: &str) -> bool {
    ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].iter().any(|folder| Path::new(folder).join(program).exists())
}

#[tokio::test]
async fn commands_on_dropbear_answer_as_they_do_elsewhere() -> Result<()> {
    let Some(small) = Small::start().await? else { return Ok(()) };
    let result = small.exec("echo out; echo err >&2; exit 3", json!({})).await?;
    assert_eq!((result.str("stdout"), result.str("stderr")), ("out\n", "err\n"));
    assert_eq!(result.structured["exit_code"], 3);
    let input = "0123456789\n".repeat(50_000);
    let result = small.exec("cksum; cat >/dev/null", json!({"stdin": input.clone()})).await?.ok()?;
    ensure!(result.str("stdout").ends_with(&format!(" {}\n", input.len())), "{}", result.text);
    let result = small.exec("seq 1 300000 | cat", json!({})).await?.ok()?;
    assert_eq!(result.structured["stdout_bytes"], 1_988_895);
    let result = small.exec("tty && echo \"$COLUMNS\"", json!({"pty": true})).await?.ok()?;
    ensure!(result.str("stdout").starts_with("/dev/pts/"), "{}", result.text);
    let result = small.exec("kill -TERM $$", json!({})).await?;
    ensure!(result.text.contains("TERM"), "{}", result.text);
    Ok(())
}

#[tokio::test]
async fn a_command_on_dropbear_is_stopped_when_its_time_is_over() -> Result<()> {
    let Some(small) = Small::start().await? else { return Ok(()) };
    let sleep = Sleep::new();
    // Dropbear signals the process that it started and not that one's children, so there must be none.
    let command = format!("exec {}", sleep.command);
    let started = Instant::now();
    let result = small.exec(&command, json!({"timeout": 2})).await?;
    result.problem("COMMAND_TIMEOUT")?.at("run")?;
    assert_eq!(result.structured["details"]["end_confirmed"], true);
    ensure!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
    sleep.is_gone().await
}

#[tokio::test]
async fn a_file_on_dropbear_is_followed_and_nobody_follows_it_afterwards() -> Result<()> {
    let Some(small) = Small::start().await? else { return Ok(()) };
    let path = small._place.root().join("followed.log");
    fs::write(&path, "one\n")?;
    let arguments = json!({"alias": "small", "filepath": path, "follow": 2});
    let result = small.client.call("tail_file", arguments).await?.ok()?;
    assert_eq!(result.structured["lines"], json!(["one"]));
    let found = wait::processes_with(&path.display().to_string());
    ensure!(found.is_empty(), "somebody still follows it: {found:?}");
    Ok(())
}

#[tokio::test]
async fn files_arrive_through_it_as_they_were() -> Result<()> {
    let Some(small) = Small::start().await? else { return Ok(()) };
    let root = small._place.root().join("trees");
    fs::create_dir(&root)?;
    grow(&root.join("source"), 40)?;
    let copy = async |direction: &str, local: &str, remote: &str| {
        let (local, remote) = (root.join(local), root.join(remote));
        let arguments = json!({"alias": "small", "direction": direction, "local": local, "remote": remote});
        small.client.call("task_transfer", arguments).await?.ok()
    };
    copy("upload", "source", "up").await?;
    copy("download", "down", "up").await?;
    let expected = read_tree(&root.join("source"))?;
    ensure!(read_tree(&root.join("up"))? == expected, "the upload differs");
    ensure!(read_tree(&root.join("down"))? == expected, "the download differs");
    Ok(())
}
