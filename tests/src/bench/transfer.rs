//! Files through the program, and the same files through OpenSSH's `sftp` and others on this machine, in turns, on the same
//! sshd: on the loopback, and behind a line that takes its time.
//!
//! Figures are parts of the other's time, so below a target is better. Everything is on a RAM disk where there is one: what
//! is measured is the way and not the disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rand::RngExt;
use serde_json::json;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::client::{Client, Launch};
use crate::far::Far;
use crate::place::Place;
use crate::sshd::Sshd;

use super::exec::add;
use super::others::Other;
use super::size::{peak_mb, reset_peak};
use super::{Figure, compiled};

pub(super) const BIG: usize = 512 << 20;
pub(super) const SMALL_FILES: usize = 2000;
const SMALL: usize = 4 << 10;
/// Of each, in turns; the best of each counts, since noise only ever adds.
const ROUNDS: usize = 3;
/// Over a long line OpenSSH's client needs minutes for what is measured near.
const FAR_BIG: usize = 512 << 20;
const FAR_FILES_OF_OTHERS: usize = 100;

/// What everything runs in.
pub(super) struct Bench {
    pub(super) sshd: Sshd,
    place: Place,
    files: TempDir,
    pub(super) program: Client,
}

impl Bench {
    pub(super) async fn start() -> Result<(Bench, TempDir)> {
        let sshd = Sshd::start().await?;
        let place = Place::new()?;
        let program = Launch::new(&place).start().await?;
        let shm = Path::new("/dev/shm");
        let folder = if shm.is_dir() { shm.to_owned() } else { std::env::temp_dir() };
        let files = tempfile::Builder::new().prefix("bench-").tempdir_in(&folder)?;
        let known = tempfile::tempdir()?;
        Ok((Bench { sshd, place, files, program }, known))
    }

    pub(super) fn at(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    pub(super) fn clear(&self, name: &str) -> Result<PathBuf> {
        let path = self.at(name);
        if path.is_dir() {
            fs::remove_dir_all(&path)?;
        } else if path.exists() {
            fs::remove_file(&path)?;
        }
        Ok(path)
    }

    pub(super) async fn ours(&self, direction: &str, local: &Path, remote: &Path) -> Result<Duration> {
        let started = Instant::now();
        let arguments = json!({"alias": "box", "direction": direction, "local": local, "remote": remote});
        let call = json!({"name": "task_transfer", "arguments": arguments});
        let answer = self.program.request("tools/call", call).await?;
        let mut id = answer["structuredContent"]["id"].clone();
        let mut state = answer;
        while state["structuredContent"]["state"] == "running" {
            let call = json!({"name": "task_wait", "arguments": {"id": id}});
            state = self.program.request("tools/call", call).await?;
            id = state["structuredContent"]["id"].clone();
        }
        ensure!(state["isError"] != true, "{state}");
        Ok(started.elapsed())
    }

    /// A program of OpenSSH's family, with the key and the host key of this sshd.
    fn openssh(&self, program: &str, known: &Path, port: u16) -> Result<Command> {
        let hosts = self.known_hosts(known, port)?;
        let mut command = Command::new(program);
        command.args(["-q", "-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-i"]);
        command.arg(&self.sshd.client_key.path).arg("-o").arg(format!("UserKnownHostsFile={}", hosts.display()));
        command.arg(if program == "ssh" { "-p" } else { "-P" }).arg(port.to_string());
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        Ok(command)
    }

    /// A file that knows this sshd at this port.
    pub(super) fn known_hosts(&self, folder: &Path, port: u16) -> Result<PathBuf> {
        let hosts = folder.join("known_hosts");
        let key = self.sshd.host_keys.first().context("no host key")?.bare_public();
        fs::write(&hosts, format!("[127.0.0.1]:{port} {key}\n"))?;
        Ok(hosts)
    }

    /// `ssh` with its options, for programs that start it.
    pub(super) fn ssh_line(&self, known: &Path, port: u16) -> Result<String> {
        let ssh = self.openssh("ssh", known, port)?;
        let words = ssh.as_std().get_args().map(|word| word.to_string_lossy().into_owned());
        Ok(std::iter::once("ssh".to_owned()).chain(words).collect::<Vec<_>>().join(" "))
    }

    pub(super) async fn sftp(&self, known: &Path, port: u16, order: &str) -> Result<Duration> {
        let mut command = self.openssh("sftp", known, port)?;
        command.args(["-b", "-"]).arg(format!("{}@127.0.0.1", self.sshd.user)).stdin(Stdio::piped());
        timed(command, order.as_bytes()).await
    }

    /// `tar` here, `tar` there, `ssh` between them.
    async fn tar(&self, known: &Path, port: u16, from: &Path, to: &Path, up: bool) -> Result<Duration> {
        let ssh = format!("{} {}@127.0.0.1", self.ssh_line(known, port)?, self.sshd.user);
        let (from, to) = (from.display(), to.display());
        let line = if up {
            format!("tar -C {from} -cf - . | {ssh} 'mkdir -p {to} && tar -C {to} -xf -'")
        } else {
            format!("mkdir -p {to} && {ssh} 'tar -C {from} -cf - .' | tar -C {to} -xf -")
        };
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(line).stdout(Stdio::null()).stderr(Stdio::piped()).stdin(Stdio::null());
        timed(shell, b"").await
    }
}

pub(super) async fn timed(mut command: Command, input: &[u8]) -> Result<Duration> {
    let started = Instant::now();
    let mut child = command.spawn().with_context(|| format!("starting {command:?}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input).await?;
    }
    let output = child.wait_with_output().await?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(started.elapsed())
}

pub(super) fn random_file(path: &Path, size: usize) -> Result<()> {
    let mut block = vec![0_u8; 1 << 20];
    rand::rng().fill(&mut block[..]);
    let mut file = fs::File::create(path)?;
    for written in (0..size).step_by(block.len()) {
        std::io::Write::write_all(&mut file, block.get(..(size - written).min(block.len())).unwrap_or(&block))?;
    }
    Ok(())
}

pub(super) fn small_files(folder: &Path, count: usize) -> Result<()> {
    fs::create_dir_all(folder)?;
    for number in 0..count {
        random_file(&folder.join(format!("file{number}")), SMALL)?;
    }
    Ok(())
}

/// Seconds of processor time that a process has used, in its own code and in the kernel.
fn cpu_seconds(pid: u32) -> Result<f64> {
    ticks(&pid.to_string(), [11, 12])
}

/// The same of all children that have ended, with theirs: `sftp` and the `ssh` that it starts. The program under test has
/// not ended yet, and a server's sessions are no children of ours that were waited for.
fn cpu_of_children() -> Result<f64> {
    ticks("self", [13, 14])
}

/// The sum of two fields of `/proc/PID/stat`, counted from the state; the kernel counts a hundred ticks per second.
fn ticks(pid: &str, wanted: [usize; 2]) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let field = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or_default();
    Ok(wanted.map(field).iter().sum::<f64>() / 100.0)
}

fn best(times: &[(Duration, Duration)]) -> (f64, f64) {
    let least =
        |of: fn(&(Duration, Duration)) -> Duration| times.iter().map(of).min().unwrap_or_default().as_secs_f64();
    (least(|pair| pair.0), least(|pair| pair.1))
}

pub(super) fn share(
    name: &'static str,
    times: &[(Duration, Duration)],
    target: f64,
    rate: impl Fn(f64) -> String,
) -> Figure {
    let (ours, theirs) = best(times);
    let note = format!("{} against {}, {:.2} times as fast", rate(ours), rate(theirs), theirs / ours);
    Figure::new(name, ours / theirs, "of its time").target(target).note(note)
}

pub(super) fn bytes_rate(bytes: usize) -> impl Fn(f64) -> String {
    move |seconds| format!("{:.0} MB/s", bytes as f64 / 1e6 / seconds)
}

pub(super) fn files_rate(files: usize) -> impl Fn(f64) -> String {
    move |seconds| format!("{:.0} files/s", files as f64 / seconds)
}

pub async fn measure() -> Result<Vec<Figure>> {
    let (bench, known) = Bench::start().await?;
    let (known, port) = (known.path(), bench.sshd.port());
    add(&bench.program, &bench.sshd, port).await?;
    compiled(&bench.program, "box").await?;
    let idle = reset_peak(bench.program.pid())?;
    let (big, small) = (bench.at("big"), bench.at("small"));
    random_file(&big, BIG)?;
    small_files(&small, SMALL_FILES)?;
    let (mut big_up, mut big_down, mut small_up, mut small_down) = (vec![], vec![], vec![], vec![]);
    let (mut tar_up, mut tar_down) = (vec![], vec![]);
    let (mut rclone_big_up, mut rclone_big_down, mut rclone_up, mut rclone_down) = (vec![], vec![], vec![], vec![]);
    let (mut rsync_up, mut rsync_down) = (vec![], vec![]);
    let (mut cpu, mut cpu_of_sftp) = (0.0, 0.0);
    for _ in 0..ROUNDS {
        let before = cpu_seconds(bench.program.pid())?;
        let children = cpu_of_children()?;
        let mut rclone_times = Vec::new();
        for (direction, times) in [("upload", &mut big_up), ("download", &mut big_down)] {
            let copy = bench.clear("copy")?;
            let ours = match direction {
                "upload" => bench.ours(direction, &big, &copy).await?,
                _ => bench.ours(direction, &copy, &big).await?,
            };
            let copy = bench.clear("copy")?;
            let verb = if direction == "upload" { "put" } else { "get" };
            rclone_times.push(ours);
            times.push((
                ours,
                bench.sftp(known, port, &format!("{verb} {} {}\n", big.display(), copy.display())).await?,
            ));
        }
        let per_gib = f64::from(1 << 30) / (2 * BIG) as f64 / ROUNDS as f64;
        cpu += (cpu_seconds(bench.program.pid())? - before) * per_gib;
        cpu_of_sftp += (cpu_of_children()? - children) * per_gib;
        for (ours, up, times) in
            [(rclone_times[0], true, &mut rclone_big_up), (rclone_times[1], false, &mut rclone_big_down)]
        {
            let ends = (&*big, &*bench.clear("copy")?);
            times.extend(Other::Rclone.copy(&bench, known, port, ends, up).await?.map(|theirs| (ours, theirs)));
        }
        for (direction, times, tars, rclones, rsyncs) in [
            ("upload", &mut small_up, &mut tar_up, &mut rclone_up, &mut rsync_up),
            ("download", &mut small_down, &mut tar_down, &mut rclone_down, &mut rsync_down),
        ] {
            let copies = bench.clear("copies")?;
            let ours = match direction {
                "upload" => bench.ours(direction, &small, &copies).await?,
                _ => bench.ours(direction, &copies, &small).await?,
            };
            let copies = bench.clear("copies")?;
            let verb = if direction == "upload" { "put" } else { "get" };
            fs::create_dir(&copies)?;
            let order = format!("{verb} -r {} {}\n", small.display(), copies.display());
            times.push((ours, bench.sftp(known, port, &order).await?));
            let (copies, up) = (bench.clear("copies")?, direction == "upload");
            tars.push((ours, bench.tar(known, port, &small, &copies, up).await?));
            for (other, times) in [(Other::Rclone, rclones), (Other::Rsync, rsyncs)] {
                let copies = bench.clear("copies")?;
                let theirs = other.copy(&bench, known, port, (&small, &copies), up).await?;
                times.extend(theirs.map(|theirs| (ours, theirs)));
            }
        }
    }
    let peak = peak_mb(bench.program.pid())? - idle;
    bench.program.close().await?;
    drop(bench.place);
    let (files, bytes) = (files_rate(SMALL_FILES), bytes_rate(BIG));
    let others = [
        ("512 MiB up, by rclone", rclone_big_up, true),
        ("512 MiB down, by rclone", rclone_big_down, true),
        ("2,000 files up, by rclone", rclone_up, false),
        ("2,000 files down, by rclone", rclone_down, false),
        ("2,000 files up, by rsync", rsync_up, false),
        ("2,000 files down, by rsync", rsync_down, false),
    ];
    let others = others.into_iter().filter(|(_, times, _)| !times.is_empty());
    let others = others.map(|(name, times, big)| {
        let rate = |seconds| if big { bytes(seconds) } else { files(seconds) };
        share(name, &times, 1.0, rate)
    });
    let mut figures = vec![
        share("512 MiB up, by OpenSSH's sftp", &big_up, 0.8, &bytes),
        share("512 MiB down, by OpenSSH's sftp", &big_down, 0.625, &bytes),
        share("2,000 files of 4 KiB up, by sftp -r", &small_up, 0.125, &files),
        share("2,000 files of 4 KiB down, by sftp -r", &small_down, 0.1, &files),
        share("the same up, by tar over ssh", &tar_up, 0.333, &files),
        share("the same down, by tar over ssh", &tar_down, 0.333, &files),
        Figure::new("peak memory over idle", peak, "MB").target(67.0),
        Figure::new("processor time per GiB, by OpenSSH's sftp", cpu / cpu_of_sftp, "of its time")
            .target(1.0)
            .note(format!("{cpu:.2} s against {cpu_of_sftp:.2} s, up and down, without the servers")),
    ];
    figures.extend(others);
    Ok(figures)
}

/// Round trips, with the names of their figures: a big file up and down, small files up and down.
const FAR: [(u64, [&str; 6]); 3] = [
    (
        20,
        [
            "512 MiB up at 20 ms, by sftp",
            "512 MiB down at 20 ms, by sftp",
            "2,000 files up at 20 ms, by sftp -r",
            "2,000 files down at 20 ms, by sftp -r",
            "2,000 files up at 20 ms, by rsync",
            "2,000 files down at 20 ms, by rsync",
        ],
    ),
    (
        50,
        [
            "512 MiB up at 50 ms, by sftp",
            "512 MiB down at 50 ms, by sftp",
            "2,000 files up at 50 ms, by sftp -r",
            "2,000 files down at 50 ms, by sftp -r",
            "2,000 files up at 50 ms, by rsync",
            "2,000 files down at 50 ms, by rsync",
        ],
    ),
    (150, ["512 MiB up at 150 ms, by sftp", "512 MiB down at 150 ms, by sftp", "", "", "", ""]),
];

pub async fn measure_far() -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (millis, names) in FAR {
        let (bench, known) = Bench::start().await?;
        let far = Far::start(bench.sshd.address, Duration::from_millis(millis)).await?;
        let (known, port) = (known.path(), far.address.port());
        add(&bench.program, &bench.sshd, port).await?;
        compiled(&bench.program, "box").await?;
        let (big, small, few) = (bench.at("big"), bench.at("small"), bench.at("few"));
        random_file(&big, FAR_BIG)?;
        small_files(&small, SMALL_FILES)?;
        small_files(&few, FAR_FILES_OF_OTHERS)?;
        for (index, direction, verb, target) in [(0, "upload", "put", 0.5), (1, "download", "get", 0.25)] {
            let copy = bench.clear("copy")?;
            let ours = match direction {
                "upload" => bench.ours(direction, &big, &copy).await?,
                _ => bench.ours(direction, &copy, &big).await?,
            };
            let copy = bench.clear("copy")?;
            let theirs = bench.sftp(known, port, &format!("{verb} {} {}\n", big.display(), copy.display())).await?;
            figures.push(share(names[index], &[(ours, theirs)], target, bytes_rate(FAR_BIG)));
            if names[index + 2].is_empty() {
                continue;
            }
            let copies = bench.clear("copies")?;
            let ours = match direction {
                "upload" => bench.ours(direction, &small, &copies).await?,
                _ => bench.ours(direction, &copies, &small).await?,
            };
            let copies = bench.clear("copies")?;
            fs::create_dir(&copies)?;
            let order = format!("{verb} -r {} {}\n", few.display(), copies.display());
            // A file costs it what a file costs it: a hundred of them tell as much as thousands.
            let theirs = bench.sftp(known, port, &order).await?;
            let theirs = theirs.mul_f64(SMALL_FILES as f64 / FAR_FILES_OF_OTHERS as f64);
            figures.push(share(names[index + 2], &[(ours, theirs)], 1.0 / 60.0, files_rate(SMALL_FILES)));
            let copies = bench.clear("copies")?;
            let theirs = Other::Rsync.copy(&bench, known, port, (&small, &copies), direction == "upload").await?;
            figures
                .extend(theirs.map(|theirs| share(names[index + 4], &[(ours, theirs)], 1.0, files_rate(SMALL_FILES))));
        }
        bench.program.close().await?;
    }
    Ok(figures)
}
