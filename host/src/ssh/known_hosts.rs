//! OpenSSH's `known_hosts` format (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT): which lines are about a host, and which keys they hold.
//!
//! Pure: no file is read here and nothing is decided about trust.

use data_encoding::BASE64;
use hmac::{Hmac, KeyInit, Mac};
use russh::keys::{PublicKey, parse_public_key_base64};
use sha1::Sha1;

/// What stands in front of the host names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    None,
    /// The key signs host certificates; it is not a host's own key.
    CertAuthority,
    /// The key must never be accepted.
    Revoked,
}

/// One line that is about the host that was asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Counted from 1.
    pub number: usize,
    pub marker: Marker,
    pub key: PublicKey,
}

/// The name under which a server is written down: the host alone on port 22, else `[host]:port`; in small letters.
pub fn lookup_name(host: &str, port: u16) -> String {
    let host = host.to_ascii_lowercase();
    if port == 22 { host } else { format!("[{host}]:{port}") }
}

/// The lines of `text` that are about `name` (see [`lookup_name`]). Comments and lines that cannot be read are skipped: one
/// bad line must not take the others away.
pub fn find(text: &str, name: &str) -> Vec<Line> {
    text.lines()
        .enumerate()
        .filter_map(|(index, line)| parse(line, name).map(|(marker, key)| Line { number: index + 1, marker, key }))
        .collect()
}

fn parse(line: &str, name: &str) -> Option<(Marker, PublicKey)> {
    let mut words = line.split([' ', '\t']).filter(|word| !word.is_empty());
    let first = words.next()?;
    if first.starts_with('#') {
        return None;
    }
    let (marker, hosts) = match first {
        "@cert-authority" => (Marker::CertAuthority, words.next()?),
        "@revoked" => (Marker::Revoked, words.next()?),
        // A marker of a later OpenSSH: what it means is not known, so the line says nothing.
        unknown if unknown.starts_with('@') => return None,
        hosts => (Marker::None, hosts),
    };
    if !matches(hosts, name) {
        return None;
    }
    let kind = words.next()?;
    let key = parse_public_key_base64(words.next()?.trim_end_matches('\r')).ok()?;
    // The name of the type must be that of the key, as in ssh-keygen: a line that contradicts itself is no line.
    (key.algorithm().as_str() == kind).then_some((marker, key))
}

/// Whether the host field of a line is about `name`: a hashed name, or patterns of which none that is negated matches.
fn matches(hosts: &str, name: &str) -> bool {
    if let Some(hashed) = hosts.strip_prefix("|1|") {
        return matches_hashed(hashed, name);
    }
    let mut found = false;
    for pattern in hosts.split(',') {
        match pattern.strip_prefix('!') {
            Some(negated) if glob(negated.to_ascii_lowercase().as_bytes(), name.as_bytes()) => return false,
            Some(_) => {}
            None => found |= glob(pattern.to_ascii_lowercase().as_bytes(), name.as_bytes()),
        }
    }
    found
}

/// `salt|hash`, both base64, of the HMAC-SHA1 of the name under the salt.
fn matches_hashed(hashed: &str, name: &str) -> bool {
    let Some((salt, hash)) = hashed.split_once('|') else { return false };
    let (Ok(salt), Ok(hash)) = (BASE64.decode(salt.as_bytes()), BASE64.decode(hash.as_bytes())) else { return false };
    let Ok(mac) = Hmac::<Sha1>::new_from_slice(&salt) else { return false };
    mac.chain_update(name.as_bytes()).verify_slice(&hash).is_ok()
}

/// `*` is any run of characters, also none; `?` is exactly one. Backtracks to the last star only, so that it takes at most
/// pattern × name steps whatever the file holds.
pub(super) fn glob(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(byte) = name.get(n) {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(wanted) if wanted == byte || *wanted == b'?' => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    p = at + 1;
                    n = from + 1;
                    star = Some((at, from + 1));
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|byte| *byte == b'*'))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    // Keys made for these tests; nobody holds their private halves.
    const ED25519: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const OTHER: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA6rWI3G1sz07DnfFlrouTcysQlj2P+jpNSOEWD9OJ3X";

    fn numbers(text: &str, host: &str, port: u16) -> Vec<usize> {
        find(text, &lookup_name(host, port)).iter().map(|line| line.number).collect()
    }

    /// One line with this host field: is it about the host?
    fn check(field: &str, host: &str, port: u16, expected: bool) {
        assert_eq!(!numbers(&format!("{field} {ED25519}\n"), host, port).is_empty(), expected, "{field} {host}:{port}");
    }

    #[test]
    fn names_match_as_openssh_says() {
        check("web.example.org", "web.example.org", 22, true);
        check("web.example.org", "WEB.example.org", 22, true);
        check("Web.Example.org", "web.example.org", 22, true);
        check("web.example.org", "web.example.orga", 22, false);
        check("web.example.org", "web.example.org", 2222, false);
        check("[web.example.org]:2222", "web.example.org", 2222, true);
        check("[web.example.org]:2222", "web.example.org", 22, false);
        check("db,web,10.0.0.1", "web", 22, true);
        check("db,web,10.0.0.1", "10.0.0.1", 22, true);
        check("::1", "::1", 22, true);
        check("[::1]:2222", "::1", 2222, true);
    }

    #[test]
    fn wildcards_and_negations_match_as_openssh_says() {
        check("*.example.org", "web.example.org", 22, true);
        check("*.example.org", "example.org", 22, false);
        check("web?", "web1", 22, true);
        check("web?", "web", 22, false);
        check("*", "anything", 22, true);
        check("*", "anything", 2222, true);
        check("[*]:2222", "anything", 2222, true);
        check("*.example.org,!bad.example.org", "web.example.org", 22, true);
        check("*.example.org,!bad.example.org", "bad.example.org", 22, false);
        check("!bad.example.org,*.example.org", "bad.example.org", 22, false);
        check("!bad.example.org", "web.example.org", 22, false);
        check("a*b*c", "aXbYc", 22, true);
        check("a*b*c", "aXbYcZ", 22, false);
        check("**", "x", 22, true);
    }

    #[test]
    fn a_pattern_full_of_stars_is_no_trap() {
        let name = "a".repeat(255);
        assert!(!glob(format!("{}b", "*a".repeat(200)).as_bytes(), name.as_bytes()));
    }

    #[test]
    fn comments_bad_lines_and_markers_are_told_apart() {
        let text = format!(
            "# web {ED25519}\n\nweb\nweb ssh-ed25519\nweb ssh-ed25519 !!!\nweb ssh-rsa {}\n  web {ED25519} a comment\n@revoked web {OTHER}\n\
             @cert-authority *.x,web {OTHER}\n@future web {OTHER}\n|1|broken web {OTHER}\nweb\t{}\r\n",
            &ED25519[12..],
            ED25519.replace(' ', "\t"),
        );
        let lines = find(&text, "web");
        let told: Vec<_> = lines.iter().map(|line| (line.number, line.marker)).collect();
        assert_eq!(told, [(7, Marker::None), (8, Marker::Revoked), (9, Marker::CertAuthority), (12, Marker::None)]);
    }

    #[test]
    fn the_same_lines_are_found_as_by_ssh_keygen() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("known_hosts");
        let hosts = [
            "web",
            "WEB",
            "web.example.org",
            "bad.example.org",
            "10.0.0.1",
            "::1",
            "hashed",
            "hashed2",
            "web1",
            "nobody",
        ];
        let text = format!(
            "# comment\nweb {ED25519}\nWeb,10.0.0.? {OTHER}\n*.example.org,!bad.example.org {ED25519}\n!web,* {OTHER}\n[web]:2222 {OTHER}\n\
             [*.example.org]:* {ED25519}\n@revoked web {ED25519}\n@cert-authority * {ED25519}\n::1 {ED25519}\n[::1]:2222 {OTHER}\nbroken line\n\
             web? {OTHER}\n"
        );
        std::fs::write(&file, &text).unwrap();
        let Ok(made) = Command::new("ssh-keygen").arg("-H").arg("-f").arg("/nonexistent").output() else {
            eprintln!("SKIPPED: ssh-keygen is not installed, so known_hosts was not compared with OpenSSH");
            return;
        };
        assert!(!made.status.success());
        // OpenSSH itself hashes two names, so that its hashes and not ours are read.
        let hashed = folder.path().join("hashed");
        std::fs::write(&hashed, format!("hashed {ED25519}\n[hashed2]:2222 {OTHER}\nhashed {OTHER}\n")).unwrap();
        assert!(Command::new("ssh-keygen").arg("-H").arg("-f").arg(&hashed).output().unwrap().status.success());
        let text = text + &std::fs::read_to_string(&hashed).unwrap();
        assert!(text.contains("|1|"));
        std::fs::write(&file, &text).unwrap();
        let mut found = 0;
        for host in hosts {
            for port in [22, 2222] {
                let name = lookup_name(host, port);
                let output = Command::new("ssh-keygen").arg("-F").arg(&name).arg("-f").arg(&file).output().unwrap();
                let told = String::from_utf8(output.stdout).unwrap();
                let theirs: Vec<usize> = told
                    .lines()
                    .filter_map(|line| line.strip_prefix("# Host "))
                    .filter_map(|line| line.split("line ").nth(1))
                    .map(|rest| rest.split_whitespace().next().unwrap().parse().unwrap())
                    .collect();
                assert_eq!(numbers(&text, host, port), theirs, "{name}\n{text}\n{told}");
                found += theirs.len();
            }
        }
        assert!(found > 20, "only {found} lines were compared");
    }
}
