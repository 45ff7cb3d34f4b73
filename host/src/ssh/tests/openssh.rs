//! The wire against a real OpenSSH `sshd`, with its own keys, on the loopback.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures::future::join_all;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::*;
use crate::error::Code;

const SSHD: &str = "/usr/sbin/sshd";

struct Sshd {
    child: Child,
    folder: tempfile::TempDir,
    port: u16,
    user: String,
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

impl Sshd {
    /// `None`, loudly, where there is no sshd.
    fn start(more: &str) -> Option<Sshd> {
        if !Path::new(SSHD).exists() {
            eprintln!("SKIPPED: {SSHD} is not installed, so nothing was tried against a real OpenSSH server");
            return None;
        }
        // Left behind by no package script where sshd never ran as a service; it refuses to start without.
        let _ = std::fs::create_dir("/run/sshd");
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        for (name, kind, passphrase) in [
            ("host_ed25519", "ed25519", ""),
            ("host_rsa", "rsa", ""),
            ("key", "ed25519", ""),
            ("sealed", "ed25519", "open sesame"),
            ("rsa", "rsa", ""),
            ("ecdsa", "ecdsa", ""),
            ("stranger", "ed25519", ""),
        ] {
            output("ssh-keygen", &["-q", "-t", kind, "-N", passphrase, "-C", name, "-f", &path(name)]);
        }
        output("ssh-keygen", &["-q", "-t", "rsa", "-m", "PEM", "-N", "", "-f", &path("pem")]);
        let allowed: String = ["key", "sealed", "rsa", "ecdsa", "pem"]
            .iter()
            .map(|name| std::fs::read_to_string(path(&format!("{name}.pub"))).unwrap())
            .collect();
        std::fs::write(path("authorized_keys"), allowed).unwrap();
        // A port that was free a moment ago may be taken by another test: then the next one is tried.
        for _ in 0..20 {
            let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let config = format!(
                "ListenAddress 127.0.0.1:{port}\nHostKey {}\nHostKey {}\nAuthorizedKeysFile {}\nUsePAM no\nStrictModes no\nPidFile none\n\
                 PermitRootLogin yes\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nMaxStartups 100\nSetEnv HOME={}\n{more}\n",
                path("host_ed25519"),
                path("host_rsa"),
                path("authorized_keys"),
                // Not whatever the person who runs the tests keeps in a .bashrc.
                folder.path().display(),
            );
            std::fs::write(path("config"), config).unwrap();
            let mut child =
                Command::new(SSHD).args(["-D", "-e", "-f", &path("config")]).stderr(Stdio::piped()).spawn().unwrap();
            let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
            if lines.by_ref().any(|line| line.contains("Server listening")) {
                // Read on, so that sshd never waits for somebody to take its log.
                std::thread::spawn(move || lines.for_each(drop));
                return Some(Sshd { child, folder, port, user: output("id", &["-un"]) });
            }
            let _ = child.wait();
        }
        panic!("sshd does not start");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn target(&self, key: &str) -> Target {
        Target {
            alias: "real".to_owned(),
            host: "127.0.0.1".to_owned(),
            port: self.port,
            user: self.user.clone(),
            logins: vec![Login::Key { path: self.path(key), passphrase: None }],
            pin: None,
            proxy: None,
            jump: None,
            legacy: Vec::new(),
        }
    }

    /// known_hosts with this host key.
    fn knows(&self, key: &str) -> HostKeys {
        let file = self.path("known_hosts");
        let public = std::fs::read_to_string(self.path(&format!("{key}.pub"))).unwrap();
        std::fs::write(&file, format!("[127.0.0.1]:{} {public}", self.port)).unwrap();
        HostKeys::from_files(vec![file])
    }
}

#[tokio::test]
async fn every_kind_of_key_logs_in_and_a_strange_one_does_not() {
    let Some(sshd) = Sshd::start("") else { return };
    for key in ["key", "rsa", "ecdsa", "pem"] {
        let pool = Pool::new(settings(5, 1), sshd.knows("host_ed25519"));
        let (exit, kept) = run(&pool, &sshd.target(key), "echo out; echo err >&2; exit 3").await.unwrap();
        assert_eq!(
            (exit.code, kept.stdout.as_slice(), kept.stderr.as_slice()),
            (Some(3), &b"out\n"[..], &b"err\n"[..]),
            "{key}"
        );
    }
    let pool = Pool::new(settings(5, 1), sshd.knows("host_ed25519"));
    let mut target = sshd.target("sealed");
    target.logins =
        vec![Login::Key { path: sshd.path("sealed"), passphrase: Some(Zeroizing::new("open sesame".to_owned())) }];
    run(&pool, &target, "true").await.unwrap();
    let pool = Pool::new(settings(5, 1), sshd.knows("host_ed25519"));
    let problem = Problem::from(run(&pool, &sshd.target("stranger"), "true").await.err().unwrap());
    assert_eq!((problem.code, &problem.details["reason"]), (Code::AuthFailed, &"KEY_REFUSED".into()));
    assert_eq!(problem.details["accepts"][0], "publickey");
    // The first login that the server takes counts, whatever was wrong with those before it.
    let mut target = sshd.target("stranger");
    target.logins.push(Login::Key { path: sshd.path("missing"), passphrase: None });
    target.logins.push(Login::Key { path: sshd.path("key"), passphrase: None });
    run(&pool, &target, "true").await.unwrap();
}

#[tokio::test]
async fn a_server_that_lets_one_try_no_further_is_told_with_the_number_of_keys() {
    let Some(sshd) = Sshd::start("MaxAuthTries 2") else { return };
    let strange = |name: &str| {
        output("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &sshd.path(name).display().to_string()]);
        Login::Key { path: sshd.path(name), passphrase: None }
    };
    let pool = Pool::new(settings(5, 1), sshd.knows("host_ed25519"));
    let mut target = sshd.target("stranger");
    target.logins.extend([strange("other"), Login::Key { path: sshd.path("key"), passphrase: None }]);
    let problem = Problem::from(run(&pool, &target, "true").await.err().unwrap());
    assert_eq!((problem.code, problem.retryable), (Code::AuthFailed, false), "{problem:?}");
    assert_eq!(problem.details["reason"], "TOO_MANY_FAILURES");
    assert!(
        problem.message.contains("after 2 keys and says \"Too many authentication failures"),
        "{}",
        problem.message
    );
    assert!(problem.hint.unwrap().contains("MaxAuthTries"));
    // The one that fits is soon enough in the second place.
    target.logins.remove(1);
    run(&pool, &target, "true").await.unwrap();
}

#[tokio::test]
async fn a_certificate_beside_the_key_logs_in_where_the_plain_key_does_not() {
    let authority = tempfile::tempdir().unwrap();
    let ca = authority.path().join("ca").display().to_string();
    output("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &ca]);
    let Some(sshd) = Sshd::start(&format!("TrustedUserCAKeys {ca}.pub")) else { return };
    let public = sshd.path("stranger.pub").display().to_string();
    let sign = |principal: &str, validity: &str| {
        output("ssh-keygen", &["-q", "-s", &ca, "-I", "test", "-n", principal, "-V", validity, &public]);
    };
    let with_new_key = async |kind: &str| {
        let key = authority.path().join(kind);
        let name = key.display().to_string();
        output("ssh-keygen", &["-q", "-t", kind, "-N", "", "-f", &name]);
        output("ssh-keygen", &["-q", "-s", &ca, "-I", "test", "-n", &sshd.user, &format!("{name}.pub")]);
        let pool = Pool::new(settings(5, 1), sshd.knows("host_ed25519"));
        let target = Target { logins: vec![Login::Key { path: key, passphrase: None }], ..sshd.target("key") };
        run(&pool, &target, "true").await.map(drop)
    };
    for kind in ["ecdsa", "rsa"] {
        with_new_key(kind).await.unwrap();
    }
    let failure = async || {
        let pool = Pool::new(settings(5, 1), sshd.knows("host_ed25519"));
        Problem::from(run(&pool, &sshd.target("stranger"), "true").await.err().unwrap())
    };
    sign(&sshd.user, "-1h:+1h");
    let pool = Pool::new(settings(5, 1), sshd.knows("host_ed25519"));
    run(&pool, &sshd.target("stranger"), "true").await.unwrap();
    sign("somebody-else", "-1h:+1h");
    let problem = failure().await;
    assert_eq!(problem.details["reason"], "CERTIFICATE_REFUSED", "{problem:?}");
    assert!(problem.hint.unwrap().contains("principals"));
    sign(&sshd.user, "-2h:-1h");
    assert!(failure().await.message.contains("its certificate has expired"));
    std::fs::write(sshd.path("stranger-cert.pub"), "nonsense").unwrap();
    let problem = failure().await;
    assert_eq!(problem.details["reason"], "NOT_A_CERTIFICATE", "{problem:?}");
    // A certificate that is refused does not spoil the key that is not.
    let public = sshd.path("key.pub").display().to_string();
    output("ssh-keygen", &["-q", "-s", &ca, "-I", "test", "-n", "somebody-else", &public]);
    let pool = Pool::new(settings(5, 1), sshd.knows("host_ed25519"));
    run(&pool, &sshd.target("key"), "true").await.unwrap();
}

#[tokio::test]
async fn the_host_key_of_the_known_type_is_asked_for() {
    let Some(sshd) = Sshd::start("") else { return };
    // The server has both; left to itself it would show ed25519, which is not known.
    let pool = Pool::new(settings(5, 1), sshd.knows("host_rsa"));
    run(&pool, &sshd.target("key"), "true").await.unwrap();
    let pool = Pool::new(settings(5, 1), sshd.knows("stranger"));
    let problem = Problem::from(run(&pool, &sshd.target("key"), "true").await.err().unwrap());
    assert_eq!((problem.code, &problem.details["line"]), (Code::HostKeyChanged, &1.into()));
    let pool = Pool::new(settings(5, 1), no_known_hosts());
    let problem = Problem::from(run(&pool, &sshd.target("key"), "true").await.err().unwrap());
    let shown = output("ssh-keygen", &["-lf", &sshd.path("host_ed25519.pub").display().to_string()]);
    assert!(shown.contains(problem.details["fingerprint"].as_str().unwrap()), "{shown} {problem:?}");
}

#[tokio::test]
async fn a_server_is_reached_through_another_and_both_are_verified() {
    let (Some(bastion), Some(inner)) = (Sshd::start(""), Sshd::start("")) else { return };
    let known = [bastion.knows("host_ed25519"), inner.knows("host_ed25519")];
    drop(known);
    let both = HostKeys::from_files(vec![bastion.path("known_hosts"), inner.path("known_hosts")]);
    let jump = Target { alias: "bastion".to_owned(), ..bastion.target("key") };
    let target = Target { jump: Some(Box::new(jump)), ..inner.target("key") };
    let pool = Pool::new(settings(5, 1), both);
    let (_, kept) = run(&pool, &target, "echo $SSH_CONNECTION").await.unwrap();
    assert!(String::from_utf8(kept.stdout).unwrap().trim().ends_with(&inner.port.to_string()));
    pool.shutdown().await;
    let pool = Pool::new(settings(5, 1), HostKeys::from_files(vec![inner.path("known_hosts")]));
    let problem = Problem::from(run(&pool, &target, "true").await.err().unwrap());
    assert_eq!((problem.code, &problem.details["jump"]), (Code::HostKeyUnknown, &"bastion".into()));
}

#[tokio::test]
async fn a_hundred_commands_at_once_all_come_back() {
    for limit in ["", "MaxSessions 2"] {
        let Some(sshd) = Sshd::start(limit) else { return };
        let pool = Pool::new(settings(5, 1), sshd.knows("host_ed25519"));
        let target = sshd.target("key");
        let commands = (0..100).map(|number| {
            let (pool, target) = (&pool, &target);
            async move { (number, run(pool, target, &format!("echo {number}")).await.unwrap()) }
        });
        for (number, (exit, kept)) in join_all(commands).await {
            assert_eq!((exit.code, kept.stdout), (Some(0), format!("{number}\n").into_bytes()));
        }
        assert!(pool.stats()[0].connections.len() <= 5);
        pool.shutdown().await;
    }
}

#[tokio::test]
async fn input_output_terminal_and_time_limits_hold_against_openssh() {
    let Some(sshd) = Sshd::start("") else { return };
    let pool = Pool::new(settings(5, 1), sshd.knows("host_ed25519"));
    let target = sshd.target("key");
    let input: Vec<u8> = (0..5_000_000u32).map(|byte| (byte >> 3) as u8).collect();
    let cat = Request { line: "cat".to_owned(), stdin: Some(input.clone().into()), pty: false, ..Request::default() };
    assert!(run_with(&pool, &target, cat, &call()).await.unwrap().1.stdout == input);
    // Input that is never read does not hold up the end.
    let ignoring = Request { line: "exit 4".to_owned(), stdin: Some(input.into()), pty: false, ..Request::default() };
    assert_eq!(run_with(&pool, &target, ignoring, &call()).await.unwrap().0.code, Some(4));
    let terminal =
        Request { line: "test -t 0 && test -t 1 && echo tty".to_owned(), stdin: None, pty: true, ..Request::default() };
    assert_eq!(run_with(&pool, &target, terminal, &call()).await.unwrap().1.stdout, b"tty\r\n");
    assert_eq!(run(&pool, &target, "kill -9 $$").await.unwrap().0.signal.as_deref(), Some("KILL"));
    let (exit, _) = run(&pool, &target, "sleep 5 & echo started").await.unwrap();
    assert!(exit.left_open && exit.duration < Duration::from_secs(5));
    let short = Call::new("test", "test").within(Duration::from_millis(200));
    let error = run_with(&pool, &target, request("sleep 61.25; echo late"), &short).await.err().unwrap();
    let SshError::CommandTimeout { stop, .. } = &error else { panic!("{error}") };
    // Also where the login is root's, whose signals OpenSSH does not pass on.
    assert!(stop.confirmed, "{error}");
    assert_eq!(stop.sent.first(), Some(&"INT"));
    assert!(!something_runs("sleep 61.25"), "the command goes on");
}

#[tokio::test]
async fn of_commands_with_the_same_line_each_is_stopped_by_itself() {
    let Some(sshd) = Sshd::start("") else { return };
    let pool = Pool::new(settings(1, 1), sshd.knows("host_ed25519"));
    let target = sshd.target("key");
    run(&pool, &target, "true").await.unwrap();
    // One that no other test runs, nor an earlier run that was ended.
    let line = format!("sleep 63.{}", sshd.port);
    let cancels: [CancellationToken; 8] = Default::default();
    let commands = cancels.iter().map(|cancel| {
        let (pool, target, line) = (pool.clone(), target.clone(), line.clone());
        let call = Call { cancel: cancel.clone(), ..call() };
        tokio::spawn(async move { run_with(&pool, &target, request(&line), &call).await })
    });
    let mut commands: Vec<_> = commands.collect();
    let begun = std::time::Instant::now();
    while how_many_run(&line) < 8 {
        assert!(begun.elapsed() < Duration::from_secs(60), "only {} run", how_many_run(&line));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let stopped = async |command: JoinHandle<Result<(Exit, Kept), SshError>>| {
        let error = command.await.unwrap().err().unwrap();
        let SshError::CommandCancelled { stop, .. } = &error else { panic!("{error}") };
        assert!(stop.confirmed, "{error}");
    };
    cancels[1].cancel();
    stopped(commands.remove(1)).await;
    assert_eq!(how_many_run(&line), 7, "one and no other is stopped");
    assert!(commands.iter().all(|command| !command.is_finished()));
    // All others at the same time.
    for cancel in &cancels {
        cancel.cancel();
    }
    for command in commands {
        stopped(command).await;
    }
    assert_eq!(how_many_run(&line), 0);
}

#[tokio::test]
async fn a_command_that_had_its_share_is_stopped_and_that_is_its_end() {
    let Some(sshd) = Sshd::start("") else { return };
    let pool = Pool::new(settings(5, 1), sshd.knows("host_ed25519"));
    let target = sshd.target("key");
    let share = |seconds, lines| Some(Quota { time: Duration::from_secs(seconds), lines });
    let endless = Request { quota: share(60, 3), ..request("while :; do echo x; echo y >&2; done") };
    let (exit, kept) = run_with(&pool, &target, endless, &call()).await.unwrap();
    let stopped = exit.stopped.unwrap();
    assert!(stopped.reached == Reached::Lines && stopped.stop.confirmed, "{stopped:?}");
    assert_eq!(kept.stdout.len() + kept.stderr.len(), 6);
    let silent = Request { quota: share(1, 3), ..request("printf begun; sleep 62.5; echo late") };
    let (exit, kept) = run_with(&pool, &target, silent, &call()).await.unwrap();
    let stopped = exit.stopped.unwrap();
    assert!(stopped.reached == Reached::Time && stopped.stop.confirmed, "{stopped:?}");
    assert_eq!(kept.stdout, b"begun");
    assert!(!something_runs("sleep 62.5"), "the command goes on");
    let short = Request { quota: share(60, 3), ..request("echo a; exit 3") };
    let (exit, _) = run_with(&pool, &target, short, &call()).await.unwrap();
    assert_eq!((exit.code, exit.stopped), (Some(3), None));
}

/// Whether a process was started with these words.
fn something_runs(words: &str) -> bool {
    how_many_run(words) > 0
}

fn how_many_run(words: &str) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|process| std::fs::read_to_string(process.path().join("cmdline")).ok())
        .filter(|line| line.trim_end_matches('\0').replace('\0', " ") == words)
        .count()
}
