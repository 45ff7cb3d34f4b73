//! What the bundled plugins call things, and in which units: a number's name says what it counts, a time is a time in UTC, a
//! share is between 0 and 100. Every answer of theirs to a test is held to it.

use serde_json::Value;

/// The tools of the bundled plugins, by what their names begin with or are.
const TOOLS: [&str; 4] = ["get_", "tail_file", "api_", "check_api_health"];
/// Endings of names that tell a unit.
const UNITS: [&str; 6] = ["_bytes", "_seconds", "_ms", "_percent", "_days", "_cores"];
/// Names of what is counted, or only named by a number.
const COUNTS: [&str; 14] = [
    "cores",
    "currently_banned",
    "currently_failed",
    "exit_code",
    "expect_status",
    "http_code",
    "inodes",
    "load_average",
    "pid",
    "redirects",
    "restarts",
    "total",
    "total_banned",
    "total_failed",
];
/// Names of points in time (ISO 8601, RFC 3339).
const TIMES: [&str; 4] = ["certificate_not_after", "modified", "time", "timestamp"];

/// What is wrong with the names and units of an answer; nothing for a tool of somebody else.
pub fn wrong(tool: &str, answer: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    // An answer before the end of its job is the program's own.
    if TOOLS.iter().any(|start| tool.starts_with(start)) && answer.get("state").is_none() {
        look(tool, "", answer, &mut wrong);
    }
    wrong
}

fn look(path: &str, name: &str, value: &Value, wrong: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                look(&format!("{path}.{name}"), name, value, wrong);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| look(path, name, item, wrong)),
        Value::Number(number) => {
            let unit = UNITS.iter().find(|unit| name.ends_with(*unit));
            if unit.is_none() && !COUNTS.contains(&name) {
                wrong.push(format!("{path} is {number}, and its name tells no unit"));
            }
            if unit == Some(&"_bytes") && !number.is_u64() {
                wrong.push(format!("{path} is {number}, which is no number of bytes"));
            }
            if unit == Some(&"_percent") && !number.as_f64().is_some_and(|share| (0.0..=100.0).contains(&share)) {
                wrong.push(format!("{path} is {number}, which is not between 0 and 100"));
            }
        }
        Value::String(text) if TIMES.contains(&name) && !is_utc(text) => {
            wrong.push(format!("{path} is {text:?}, which is no time in UTC"));
        }
        _ => {}
    }
}

/// `2026-11-22T22:00:01Z`, with or without a fraction.
fn is_utc(text: &str) -> bool {
    let shape: String = text.chars().map(|letter| if letter.is_ascii_digit() { '0' } else { letter }).collect();
    let rest = shape.strip_prefix("0000-00-00T00:00:00").and_then(|rest| rest.strip_suffix('Z'));
    rest.is_some_and(|rest| rest.trim_start_matches('.').bytes().all(|byte| byte == b'0'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_number_without_a_unit_and_a_time_without_a_zone_are_found() {
        let good = json!({"size_bytes": 1, "disks": [{"used_percent": 100.0}], "time": "2026-11-22T22:00:01.123Z"});
        assert_eq!(wrong("get_x", &good), Vec::<String>::new());
        let bad = json!({"mem": 1, "used_percent": 100.1, "size_bytes": 1.5, "modified": "22 Nov 2026"});
        assert_eq!(wrong("get_x", &bad).len(), 4, "{:?}", wrong("get_x", &bad));
        assert_eq!(wrong("queue_stats", &bad), Vec::<String>::new());
    }
}
