//! What runs there and since when: os-release, uname, uptime, load average, the names of users.

use std::collections::BTreeMap;

use orchestrator_sdk::prelude::*;

/// The operating system.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Os {
    /// The distribution with its version, as it calls itself.
    pub name: Option<String>,
    /// Kind and release of the kernel: `Linux 6.1.0-18-amd64`.
    pub kernel: String,
    pub architecture: String,
}

/// From os-release(5) and `uname -srm`.
pub fn os(os_release: Option<&str>, uname: Option<&str>) -> Option<Os> {
    let (kernel, architecture) = uname?.lines().next()?.trim().rsplit_once(' ')?;
    let name = os_release.and_then(|text| {
        let value =
            |key: &str| text.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('=')).map(unquoted);
        value("PRETTY_NAME").or_else(|| value("NAME")).filter(|name| !name.is_empty())
    });
    Some(Os { name, kernel: kernel.to_owned(), architecture: architecture.to_owned() })
}

/// A value of os-release: a shell word, in quotes where it needs them.
fn unquoted(value: &str) -> String {
    let value = value.trim();
    let inner = ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
    inner.unwrap_or(value).replace("\\\"", "\"").replace("\\$", "$").replace("\\`", "`").replace("\\\\", "\\")
}

/// From /proc/uptime.
pub fn uptime_seconds(uptime: &str) -> Option<u64> {
    let seconds: f64 = uptime.split_whitespace().next()?.parse().ok()?;
    // The cast cuts what does not fit.
    Some(seconds as u64)
}

/// Over 1, 5 and 15 minutes, from /proc/loadavg.
pub fn load_average(loadavg: &str) -> Option<[f64; 3]> {
    let mut numbers = loadavg.split_whitespace().map(str::parse::<f64>);
    Some([numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?])
}

/// The names of users by their number, from passwd(5). Users of a directory service are not in it.
pub fn user_names(passwd: &str) -> BTreeMap<u32, &str> {
    let mut names = BTreeMap::new();
    for line in passwd.lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(id)) = (fields.next(), fields.nth(1).and_then(|id| id.parse().ok())) {
            names.entry(id).or_insert(name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_system_is_read_from_os_release_with_and_without_quotes() {
        let check = |os_release: &str, name: Option<&str>| {
            let os = os(Some(os_release), Some("Linux 6.1.0-18-amd64 x86_64\n")).unwrap();
            assert_eq!(os.name.as_deref(), name);
            assert_eq!((os.kernel.as_str(), os.architecture.as_str()), ("Linux 6.1.0-18-amd64", "x86_64"));
        };
        check("NAME=\"Alpine Linux\"\nPRETTY_NAME=\"Alpine Linux v3.20\"\n", Some("Alpine Linux v3.20"));
        check("NAME=Fedora\n", Some("Fedora"));
        check("PRETTY_NAME='A \\\"B\\\"'\n", Some("A \"B\""));
        check("ID=x\n", None);
    }

    #[test]
    fn what_is_no_number_is_unknown() {
        assert_eq!(uptime_seconds("12345.67 2345.00\n"), Some(12345));
        assert_eq!(uptime_seconds(""), None);
        assert_eq!(load_average("0.52 0.58 12.59 2/345 6789\n"), Some([0.52, 0.58, 12.59]));
        assert_eq!(load_average("0.52 0.58\n"), None);
        assert_eq!(os(None, Some("\n")), None);
    }

    #[test]
    fn the_first_name_of_a_number_counts() {
        let names = user_names(
            "root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/root:/bin/sh\nbroken\nann:x:1000:1000::/:/bin/sh\n",
        );
        assert_eq!(names, BTreeMap::from([(0, "root"), (1000, "ann")]));
    }
}
