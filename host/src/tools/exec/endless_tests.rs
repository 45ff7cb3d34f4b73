//! Command lines that never end by themselves, and such that only look so.

use super::*;

fn check(expected: bool, lines: &[&str]) {
    for line in lines {
        assert_eq!(endless(line).is_some(), expected, "{line}");
    }
}

#[test]
fn what_follows_never_ends() {
    check(
        true,
        &[
            "tail -f /var/log/syslog",
            "tail -F x",
            "tail --follow x",
            "tail --follow=name --retry x",
            "tail -n 5 -f x",
            "tail -fn5 x",
            "tail -n5f x -f",
            "tail -100f x",
            "journalctl -f",
            "journalctl -xef",
            "journalctl -fu nginx",
            "journalctl -u nginx --follow",
            "docker logs -f web",
            "docker logs --follow --tail 10 web",
            "docker -H tcp://x logs -f web",
            "docker container logs -f web",
            "docker compose logs -f",
            "docker compose -f a.yml logs -f --tail=5 web",
            "docker-compose -f a.yml logs -f",
            "podman logs -f x",
            "docker stats",
            "docker events",
            "kubectl logs -f pod/web",
            "kubectl -n prod logs web -f",
            "kubectl get pods -w",
            "k3s kubectl logs -f x",
            "pm2 logs",
            "pm2 logs web --lines 50",
            "pm2 monit",
            "watch df",
            "watch -n 1 'df -h'",
            "top",
            "top -b",
            "htop",
            "ping 127.0.0.1",
            "ping -i 2 host",
            "tcpdump -i eth0",
            "vmstat 1",
            "dmesg -w",
            "dmesg --follow",
            "inotifywait -m /tmp",
        ],
    );
}

#[test]
fn it_is_seen_behind_others() {
    check(
        true,
        &[
            "sudo tail -f x",
            "sudo -u postgres -n tail -f x",
            "sudo -- tail -f x",
            "env A=1 tail -f x",
            "A=1 B='2 3' tail -f x",
            "cd /var/log && tail -f syslog",
            "echo a; tail -f x",
            "echo a\ntail -f x",
            "tail -f x | grep error",
            "tail -f x | grep --line-buffered a | sed s/a/b/",
            "tail -f x > /tmp/y",
            "tail -f x 2>&1",
            "nohup tail -f x",
            "stdbuf -oL tail -f x",
            "nice -n 5 /usr/bin/tail -f x",
            "if true; then tail -f x; fi",
            "(cd /tmp; tail -f x)",
            "{ tail -f x; }",
            "bash -c 'tail -f x'",
            "sudo sh -lc 'cd /; journalctl -f'",
            "true || tail -f x",
        ],
    );
}

#[test]
fn what_ends_is_left_alone() {
    check(
        false,
        &[
            "",
            "ls",
            "tail x",
            "tail -n 5 x",
            "tail -n5 -- -f",
            "tail -n -f x",
            "tail --follow=false x",
            "tail -f --pid=12 x",
            "cat x | tail -f",
            "grep 'tail -f' file",
            "grep -f patterns file",
            "echo tail -f x",
            "echo \"tail -f x\"",
            "man tail -f",
            "# tail -f x",
            "ls # tail -f x",
            "timeout 5 tail -f x",
            "sudo timeout 5 tail -f x",
            "timeout -k 2 5 journalctl -f",
            "tail -f x & sleep 1; kill $!",
            "tail -f x | head -5",
            "tail -f x | grep -m1 ready",
            "tail -f x | grep -q ready",
            "tail -f x | sed '/ready/q'",
            "x=$(tail -f y)",
            "cat > run.sh <<EOF\ntail -f x\nEOF\nchmod +x run.sh",
            "journalctl -u f",
            "journalctl -n 50 --no-pager",
            "journalctl -o short -u nginx.service",
            "docker logs web",
            "docker compose -f a.yml up -d",
            "docker compose -f logs ps",
            "docker-compose -f a.yml logs",
            "docker stats --no-stream",
            "docker events --until 1s",
            "docker build -f logs .",
            "docker exec web ls -f",
            "kubectl logs web",
            "kubectl apply -f logs.yml",
            "kubectl get pods",
            "pm2 logs --nostream",
            "pm2 list",
            "watch --version",
            "watch -g ls",
            "top -b -n 1",
            "top -bn1",
            "top -n1",
            "htop --version",
            "ping -c 4 host",
            "ping -c4 host",
            "ping -w 5 host",
            "ping",
            "tcpdump -c 5",
            "tcpdump -r file",
            "vmstat 1 5",
            "vmstat",
            "dmesg",
            "bash tail -f x",
            "bash -c 'ls'",
            "systemctl status watch",
            "stop",
            "which top",
        ],
    );
}

#[test]
fn the_command_is_named() {
    for (line, expected) in [
        ("cd /x && sudo tail -f a.log | grep b", "tail -f a.log"),
        ("docker compose -f a.yml logs --follow web", "docker compose logs -f"),
        ("bash -c 'journalctl -f'", "journalctl -f"),
    ] {
        assert_eq!(endless(line).as_deref(), Some(expected));
    }
}
