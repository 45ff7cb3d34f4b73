//! The tools on real hosts: a full Debian one, a bare one, one with busybox and dropbear. What they say is compared with what
//! the host says itself.
//!
//! They need `cargo xtask lab up`, so a plain `cargo test` leaves them out and says so; `cargo xtask test` runs them.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result};
use orchestrator_tests::lab::Lab;
use orchestrator_tests::result::ToolResult;
use serde_json::{Value, json};

use crate::quoting;

/// One login on each host.
const HOSTS: [&str; 3] = ["debian", "bare", "busybox"];

async fn enter() -> Result<Lab> {
    Lab::enter(|launch| launch).await
}

fn number(text: &str) -> Result<u64> {
    text.trim().parse().with_context(|| format!("{text:?} is no number"))
}

/// The entry of a list with this name.
fn named<'a>(list: &'a Value, name: &str) -> Result<&'a Value> {
    let list = list.as_array().context("no list")?;
    list.iter().find(|item| item["name"] == name).with_context(|| format!("{name} is not in {list:#?}"))
}

#[ignore = "needs the lab: cargo xtask lab up"]
#[tokio::test]
async fn resources_are_what_the_host_says_itself() -> Result<()> {
    let lab = enter().await?;
    for alias in HOSTS {
        let found = lab.call("get_system_resources", alias, json!({})).await?.ok()?.structured;
        let memory = lab.says(alias, "grep ^MemTotal: /proc/meminfo | tr -cd 0-9").await?;
        assert_eq!(found["memory"]["total_bytes"], number(&memory)? * 1024, "{alias}: {found:#}");
        let cores = lab.says(alias, "grep -c ^processor /proc/cpuinfo").await?;
        assert_eq!(found["cpu"]["cores"], number(&cores)?, "{alias}");
        let kernel = lab.says(alias, "uname -r").await?;
        assert_eq!(found["os"]["kernel"], format!("Linux {kernel}"), "{alias}");
        let name = lab.says(alias, ". /etc/os-release; echo \"$PRETTY_NAME\"").await?;
        assert_eq!(found["os"]["name"], name, "{alias}");
        let disk = lab.says(alias, "df -P -k / | tail -n 1 | while read dev size rest; do echo $size; done").await?;
        let disks = found["filesystems"].as_array().context("no filesystems")?;
        let root = disks.iter().find(|disk| disk["mount"] == "/").with_context(|| format!("{alias}: {disks:#?}"))?;
        assert_eq!(root["size_bytes"], number(&disk)? * 1024, "{alias}");
        assert!(found["processes"].as_array().is_some_and(|list| !list.is_empty()), "{alias}: {found:#}");
    }
    Ok(())
}

#[ignore = "needs the lab: cargo xtask lab up"]
#[tokio::test]
async fn services_are_what_systemd_docker_and_pm2_say() -> Result<()> {
    let lab = enter().await?;
    let found = lab.call("get_services_status", "ops", json!({})).await?.ok()?;
    let systemd = &found.structured["systemd"];
    let listed = lab.says("ops", "systemctl list-units --type=service --state=running --plain --no-legend").await?;
    let running: BTreeSet<String> = listed
        .lines()
        .filter_map(|line| line.split_whitespace().next()?.strip_suffix(".service").map(str::to_owned))
        // Those of a login come and go with it.
        .filter(|name| !name.starts_with("user@") && !name.starts_with("mcp-orchestrator-"))
        .collect();
    assert!(running.contains("nginx") && running.contains("fail2ban"), "{running:?}");
    for name in &running {
        assert_eq!(named(&systemd["items"], &format!("{name}.service"))?["active"], "active", "{systemd:#}");
    }
    assert_eq!(named(&systemd["items"], "broken.service")?["active"], "failed");

    let docker = &found.structured["docker"]["items"];
    assert_eq!(named(docker, "healthy")?["health"], "healthy");
    assert_eq!(named(docker, "sick")?["health"], "unhealthy");
    let job = named(docker, "job")?;
    assert_eq!((&job["state"], &job["exit_code"]), (&json!("exited"), &json!(3)), "{job:#}");

    let pm2 = &found.structured["pm2"]["items"];
    assert_eq!(named(pm2, "web")?["status"], "online");
    assert_eq!(named(pm2, "crasher")?["status"], "errored");
    let pid = lab.says("ops", "pm2 pid web").await?;
    assert_eq!(named(pm2, "web")?["pid"], number(&pid)?);
    for wrong in ["broken.service failed", "user unit offline.service failed", "sick", "crasher"] {
        assert!(found.text.contains(wrong), "{wrong} is not told: {}", found.text);
    }
    Ok(())
}

#[ignore = "needs the lab: cargo xtask lab up"]
#[tokio::test]
async fn what_belongs_to_others_is_told_to_root_and_to_nobody_else() -> Result<()> {
    let lab = enter().await?;
    let root = lab.call("get_services_status", "debian", json!({})).await?.ok()?;
    let crasher = named(&root.structured["pm2"]["items"], "crasher")?;
    assert_eq!((&crasher["user"], &crasher["status"]), (&json!("ops"), &json!("errored")), "{crasher:#}");
    let batch = named(&root.structured["podman"]["items"], "batch")?;
    assert_eq!((&batch["state"], &batch["exit_code"]), (&json!("exited"), &json!(4)), "{batch:#}");

    let ada = lab.call("get_services_status", "ada", json!({})).await?.ok()?;
    let states = ["docker", "pm2"].map(|part| ada.structured[part]["state"].clone());
    assert_eq!(states, ["no_permission", "no_permission"], "{}", ada.text);
    assert!(ada.text.contains("PM2 of ops runs, too"), "{}", ada.text);
    assert_eq!(ada.structured["podman"]["items"], json!([]), "those of root are not ada's: {}", ada.text);
    Ok(())
}

#[ignore = "needs the lab: cargo xtask lab up"]
#[tokio::test]
async fn what_a_host_does_not_have_is_absent_and_no_error() -> Result<()> {
    let lab = enter().await?;
    for alias in ["bare", "busybox"] {
        let found = lab.call("get_services_status", alias, json!({})).await?.ok()?;
        for part in ["systemd", "docker", "pm2"] {
            assert_eq!(found.structured[part]["state"], "absent", "{alias}: {:#}", found.structured);
        }
        let problem = lab.call("get_fail2ban_status", alias, json!({})).await?.problem("PLUGIN_FAILED")?;
        assert_eq!(problem.details["reason"], "not_installed", "{alias}: {}", problem.message);
        for (tool, more) in [
            ("get_docker_logs", json!({"container": "web"})),
            ("get_pm2_logs", json!({})),
            ("get_journal_logs", json!({})),
        ] {
            let result = lab.call(tool, alias, more).await?;
            assert!(result.is_error && result.text.contains(alias), "{tool} on {alias}: {}", result.text);
        }
    }
    Ok(())
}

#[ignore = "needs the lab: cargo xtask lab up"]
#[tokio::test]
async fn bans_are_those_that_fail2ban_keeps() -> Result<()> {
    let lab = enter().await?;
    for alias in ["debian", "ops"] {
        let found = lab.call("get_fail2ban_status", alias, json!({})).await?.ok()?.structured;
        let jail = named(&found["jails"], "sshd")?;
        let said = lab.says("ops", "sudo fail2ban-client get sshd banip").await?;
        let said: BTreeSet<&str> = said.split_whitespace().collect();
        let banned: BTreeSet<&str> =
            jail["banned"].as_array().context("no list")?.iter().filter_map(Value::as_str).collect();
        assert_eq!(banned, said, "{alias}");
        assert_eq!(jail["currently_banned"], said.len(), "{alias}");
        assert!(said.contains("192.0.2.77") && said.contains("2001:db8::1"), "{said:?}");
        assert_eq!(named(&found["jails"], "nginx-http-auth")?["files"], json!(["/var/log/nginx/error.log"]));
        assert_eq!(found["sudo"], alias == "ops", "{found:#}");
    }
    let problem = lab.call("get_fail2ban_status", "ada", json!({})).await?.problem("PLUGIN_FAILED")?;
    assert_eq!(problem.details["reason"], "no_permission", "{}", problem.message);
    Ok(())
}

#[ignore = "needs the lab: cargo xtask lab up"]
#[tokio::test]
async fn logs_are_those_that_are_on_the_host() -> Result<()> {
    let lab = enter().await?;
    for alias in HOSTS {
        lab.says(alias, "seq 1 1000 | gzip >/tmp/lab-log.gz; seq 1 1000 >/tmp/lab-log").await?;
        for path in ["/tmp/lab-log", "/tmp/lab-log.gz"] {
            let found = lab.call("tail_file", alias, json!({"filepath": path, "lines": 3})).await?.ok()?;
            assert_eq!(found.structured["lines"], json!(["998", "999", "1000"]), "{path} on {alias}");
        }
        let missing = lab.call("tail_file", alias, json!({"filepath": "/nowhere/x"})).await?;
        assert!(missing.is_error, "{}", missing.text);
    }
    let docker = lab.call("get_docker_logs", "ops", json!({"container": "job"})).await?.ok()?.structured;
    assert_eq!((&docker["stdout"], &docker["stderr"]), (&json!(["done"]), &json!(["oops"])), "{docker:#}");
    let refused = lab.call("get_docker_logs", "ada", json!({"container": "job"})).await?;
    assert!(refused.is_error && refused.text.contains("may not use docker"), "{}", refused.text);
    let pm2 = lab.call("get_pm2_logs", "ops", json!({"app": "crasher"})).await?.ok()?;
    assert!(pm2.text.contains("boom") && !pm2.text.contains("tick"), "{}", pm2.text);
    lab.says("debian", "logger -t lab -p user.warning 'a warning of the lab'").await?;
    let journal =
        lab.call("get_journal_logs", "debian", json!({"grep": "a warning of the lab", "lines": 1})).await?.ok()?;
    // A user who sees only some of it is told so, or root is asked: JSON without a word looks like an empty journal.
    let partial = lab.call("get_journal_logs", "ada", json!({"unit": "broken"})).await?.ok()?;
    assert!(partial.text.starts_with("Note: the login user sees only its own entries"), "{}", partial.text);
    let entry = &journal.structured["entries"][0];
    assert_eq!(
        (&entry["identifier"], &entry["priority"]),
        (&json!("lab"), &json!("warning")),
        "{:#}",
        journal.structured
    );
    Ok(())
}

#[ignore = "needs the lab: cargo xtask lab up"]
#[tokio::test]
async fn a_url_is_checked_from_hosts_that_have_no_curl() -> Result<()> {
    let lab = enter().await?;
    lab.says("debian", "echo all is well >/var/www/html/health").await?;
    for alias in HOSTS {
        let has_curl = lab.call("task_exec", alias, json!({"cmd": "command -v curl"})).await?;
        assert_eq!(has_curl.is_error, alias != "debian", "{}", has_curl.text);
        let up = json!({"url": "http://127.0.0.11:8080/health"});
        let found = lab.call("check_api_health", alias, up).await?.ok()?;
        assert_eq!((found.str("status"), &found.structured["http_code"]), ("UP", &json!(200)), "{}", found.text);
        let down = json!({"url": "http://127.0.0.11:8080/nothing"});
        let found = lab.call("check_api_health", alias, down).await?.ok()?;
        assert_eq!((found.str("status"), &found.structured["http_code"]), ("DOWN", &json!(404)), "{}", found.text);
    }
    Ok(())
}

#[ignore = "needs the lab: cargo xtask lab up"]
#[tokio::test]
async fn hostile_arguments_arrive_at_accounts_with_every_login_shell_and_run_nothing() -> Result<()> {
    let lab = Lab::enter_from(quoting::place()?, |launch| launch).await?;
    for shell in ["sh", "bash", "zsh", "fish", "tcsh", "ksh", "ash"] {
        lab.add(shell, "debian", shell).await?;
        let told = lab.says(shell, "echo \"$SHELL\"").await?;
        assert_eq!(told, format!("/bin/{shell}"));
        quoting::prove(&lab.client, shell).await?;
    }
    Ok(())
}

#[ignore = "needs the lab: cargo xtask lab up"]
#[tokio::test]
async fn sudo_takes_the_password_that_the_server_was_added_with() -> Result<()> {
    let lab = enter().await?;
    for alias in ["ops", "ada"] {
        let ran = lab.call("task_exec", alias, json!({"cmd": "id -un", "sudo": true})).await?.ok()?;
        assert_eq!(ran.structured["stdout"], "root\n", "{alias}");
    }
    // What the host itself has noted of it.
    let journal = lab.says("debian", "journalctl -q -t sudo --no-pager | tail -n 50").await?;
    assert!(journal.contains("ada :") && !journal.contains("engine"), "{journal}");
    Ok(())
}

#[ignore = "needs the lab: cargo xtask lab up"]
#[tokio::test]
async fn a_detached_command_survives_us_by_the_best_means_of_each_host() -> Result<()> {
    let mut lab = enter().await?;
    let cases = [
        ("debian", false, " systemd--system "),
        // It lingers, so its manager outlives the login.
        ("ops", false, " systemd--user "),
        ("ada", false, " setsid "),
        ("ada", true, " systemd--system "),
        ("bare", false, " setsid "),
        ("busybox", false, " setsid "),
    ];
    for (alias, sudo, means) in cases {
        let more = json!({"cmd": "echo begun; until [ -e /tmp/lab-go ]; do sleep 0.2; done; id -un; exit 5", "detach": true, "sudo": sudo});
        let clean = json!({"cmd": "rm -f /tmp/lab-go", "sudo": sudo});
        told(&lab, alias, &clean).await?;
        lab.client.begin_call("task_exec", arguments(alias, more)).await?;
        let id = begun(&lab, alias).await?;
        lab = lab.crash().await?;
        let pid = "cat ${XDG_STATE_HOME:-$HOME/.cache}/mcp-orchestrator/jobs/*/pid";
        let noted = told(&lab, alias, &json!({"cmd": pid, "sudo": sudo})).await?;
        assert!(noted.text.contains(means), "{alias}: {}", noted.text);
        told(&lab, alias, &json!({"cmd": "touch /tmp/lab-go", "sudo": sudo})).await?;
        let ended = lab.client.call("task_wait", json!({"id": id, "timeout": 60})).await?.structured;
        let user = if sudo || !["ops", "ada"].contains(&alias) { "root" } else { alias };
        assert_eq!(ended["result"]["exit_code"], 5, "{alias}: {ended:#}");
        assert_eq!(ended["result"]["stdout"], format!("begun\n{user}\n"), "{alias}");
        told(&lab, alias, &clean).await?;

        let more = json!({"cmd": "echo begun; sleep 1234.5", "detach": true, "sudo": sudo});
        lab.client.begin_call("task_exec", arguments(alias, more)).await?;
        let id = begun(&lab, alias).await?;
        lab.client.call("task_cancel", json!({"id": id})).await?;
        let ended = lab.client.call("task_wait", json!({"id": id, "timeout": 60})).await?;
        assert!(ended.text.contains("the command has ended"), "{alias}: {}", ended.text);
    }
    Ok(())
}

/// Runs a command that may be run twice. dropbear now and then loses the exit status of one that runs beside another, and the
/// detached command is looked after at the same time.
async fn told(lab: &Lab, alias: &str, arguments: &Value) -> Result<ToolResult> {
    loop {
        let answer = lab.call("task_exec", alias, arguments.clone()).await?;
        if alias != "busybox" || answer.structured["details"]["reason"] != "NO_EXIT_STATUS" {
            return answer.ok();
        }
    }
}

fn arguments(alias: &str, mut more: Value) -> Value {
    more["alias"] = json!(alias);
    more
}

/// The running job of a server, once its command has printed something.
async fn begun(lab: &Lab, alias: &str) -> Result<String> {
    for _ in 0..600 {
        let jobs = lab.client.call("task_history", json!({"alias": alias, "status": "running"})).await?.ok()?;
        if let Some(id) = jobs.structured["jobs"][0]["id"].as_str() {
            let printed = lab.client.call("task_output", json!({"id": id})).await?.ok()?;
            if printed.text.contains("begun") {
                return Ok(id.to_owned());
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    anyhow::bail!("no command has begun on {alias}")
}
