//! The guest that behaves: it returns its arguments, and it uses each import as it is told to by the arguments.
//!
//! Its tool `echo` is also what the bench measures a plugin call with. It has no wishes for grants of its own beyond every
//! server and every command: a test grants it what the test is about.

use orchestrator_sdk::prelude::*;
use orchestrator_sdk::serde_json::{Map, Value, json};
use orchestrator_sdk::{Process, Signal};

struct Echo;

impl Plugin for Echo {
    fn describe() -> Description {
        Description::new("echo", env!("CARGO_PKG_VERSION"), "Does what a test tells it to.")
            .tool(Tool::new("echo", "Echo", "Returns its arguments.", echo).read_only().direct())
            .tool(Tool::new("guest_exec", "Run", "Runs one command.", exec).server_argument("alias"))
            .tool(
                Tool::new("guest_exec_all", "Run all", "Runs commands at the same time.", exec_all)
                    .server_argument("alias"),
            )
            .tool(
                Tool::new("guest_spawn", "Spawn", "Does things with processes, one after the other.", spawn)
                    .server_argument("alias"),
            )
            .tool(Tool::new("guest_servers", "Servers", "Lists the granted servers.", servers).read_only())
            .tool(Tool::new("guest_settings", "Settings", "Returns its settings.", settings).read_only())
            .tool(
                Tool::new("guest_progress", "Progress", "Reports progress until it is told to stop.", progress)
                    .read_only(),
            )
            .tool(Tool::new("guest_log", "Log", "Writes a line into the log.", log).read_only())
            .tool(Tool::new("guest_problem", "Problem", "Fails with a given code.", problem).read_only())
            .tool(Tool::new("guest_print", "Print", "Writes to standard output and standard error.", print).read_only())
            .tool(Tool::new("guest_http", "Send", "Sends requests at the same time.", http))
            .tool(Tool::new("guest_kv", "Keep", "Sets, gets, deletes and lists values.", kv).direct())
            .tool(Tool::new("guest_secret", "Secret", "Puts, finds and deletes secrets.", secret).direct())
            .wants_servers("*", "Tests name their servers.")
            .wants_exec(&["*"], "Tests name their commands.")
    }
}

export!(Echo);

#[derive(Deserialize, JsonSchema)]
struct Anything {
    #[serde(flatten)]
    all: Map<String, Value>,
}

/// One cheap import is called, so that the time of a call includes one.
fn echo(host: &dyn Host, anything: Anything) -> Result<Output<Value>, Problem> {
    let settings = host.settings_json();
    Ok(Output::new("echo", json!({"arguments": anything.all, "settings": settings})))
}

/// A command with everything that the contract lets it have.
#[derive(Deserialize, JsonSchema)]
struct Line {
    program: String,
    #[serde(default)]
    args: Vec<String>,
    /// Pairs of name and value.
    #[serde(default)]
    env: Vec<(String, String)>,
    stdin: Option<String>,
    #[serde(default)]
    sudo: bool,
    timeout_ms: Option<u64>,
}

impl From<Line> for Command {
    fn from(line: Line) -> Self {
        Command {
            program: line.program,
            args: line.args,
            env: line.env,
            stdin: line.stdin.map(String::into_bytes),
            sudo: line.sudo,
            timeout: line.timeout_ms.map(std::time::Duration::from_millis),
        }
    }
}

#[derive(Deserialize, JsonSchema)]
struct One {
    alias: String,
    command: Line,
}

fn exec(host: &dyn Host, one: One) -> Result<Output<Value>, Problem> {
    let finished = host.exec(&one.alias, one.command.into())?;
    Ok(Output::new(finished.stdout_text().into_owned(), shown(&finished)))
}

fn shown(finished: &Finished) -> Value {
    json!({
        "exit_code": finished.exit_code,
        "exit_signal": finished.exit_signal,
        "stdout": finished.stdout_text(),
        "stderr": finished.stderr_text(),
        "stdout_bytes": finished.stdout.len(),
        "stdout_truncated": finished.stdout_truncated,
        "stderr_truncated": finished.stderr_truncated,
        "duration_ms": u64::try_from(finished.duration.as_millis()).unwrap_or(u64::MAX),
    })
}

#[derive(Deserialize, JsonSchema)]
struct Several {
    alias: String,
    commands: Vec<Line>,
}

fn exec_all(host: &dyn Host, several: Several) -> Result<Output<Value>, Problem> {
    let ended = host.exec_all(&several.alias, several.commands.into_iter().map(Command::from).collect());
    let results: Vec<Value> = ended
        .iter()
        .map(|one| match one {
            Ok(finished) => shown(finished),
            Err(problem) => json!({"code": problem.code, "message": problem.message}),
        })
        .collect();
    Ok(Output::new(format!("{} commands", results.len()), json!({"results": results})))
}

/// What to do with processes, and of which tools they are the arguments.
#[derive(Deserialize, JsonSchema)]
struct Play {
    alias: String,
    /// Started first, in this order.
    commands: Vec<Line>,
    steps: Vec<Step>,
}

/// One thing done to a process, named by its place among the commands.
#[derive(Deserialize, JsonSchema)]
struct Step {
    /// `read`, `until` (reads until the text has come), `signal`, `wait`, `drop`, `sleep`, `cancelled`, `trap` or `loop`.
    op: String,
    #[serde(default)]
    process: usize,
    /// How long to wait; 60 seconds if not said.
    ms: Option<u64>,
    /// To wait for, or the signal's name.
    #[serde(default)]
    text: String,
}

/// Each step reports its number when it begins.
fn spawn(host: &dyn Host, play: Play) -> Result<Output<Value>, Problem> {
    let mut processes: Vec<Option<Process>> = Vec::new();
    for command in play.commands {
        processes.push(Some(host.spawn(&play.alias, command.into())?));
    }
    let mut results = Vec::new();
    for (number, step) in play.steps.iter().enumerate() {
        host.report(number as f64, None, Some(&format!("step {number}")));
        let slot = processes.get_mut(step.process).ok_or_else(|| Problem::invalid("no such process"))?;
        let gone = || Problem::invalid("the process was dropped");
        let time = std::time::Duration::from_millis(step.ms.unwrap_or(60_000));
        results.push(match step.op.as_str() {
            "drop" => json!({"dropped": slot.take().is_some()}),
            "sleep" => {
                std::thread::sleep(time);
                Value::Null
            }
            "cancelled" => json!(host.cancelled()),
            "trap" => panic!("as the test wished"),
            "loop" => loop {
                std::hint::black_box(());
            },
            "signal" => {
                let signal = match step.text.as_str() {
                    "HUP" => Signal::Hup,
                    "INT" => Signal::Int,
                    "KILL" => Signal::Kill,
                    "USR1" => Signal::Usr1,
                    "USR2" => Signal::Usr2,
                    _ => Signal::Term,
                };
                json!(slot.as_mut().ok_or_else(gone)?.signal(signal)?)
            }
            "wait" => match slot.as_mut().ok_or_else(gone)?.wait(time)? {
                Some(finished) => shown(&finished),
                None => Value::Null,
            },
            "until" => {
                let process = slot.as_mut().ok_or_else(gone)?;
                let mut stdout = String::new();
                while !stdout.contains(&step.text) {
                    let printed = process.read(time)?;
                    stdout.push_str(&String::from_utf8_lossy(&printed.stdout));
                    if (printed.ended || printed.is_empty()) && !stdout.contains(&step.text) {
                        return Err(Problem::failed(format!("{:?} never came, only {stdout:?}", step.text)));
                    }
                }
                json!(stdout)
            }
            _ => {
                let printed = slot.as_mut().ok_or_else(gone)?.read(time)?;
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                json!({
                    "stdout": text(&printed.stdout), "stderr": text(&printed.stderr), "ended": printed.ended,
                    "bytes": printed.stdout.len() + printed.stderr.len(),
                })
            }
        });
    }
    Ok(Output::new(format!("{} steps", results.len()), json!({"results": results})))
}

/// A request with everything that the contract lets it have.
#[derive(Deserialize, JsonSchema)]
struct Request {
    method: Option<String>,
    url: String,
    /// Pairs of name and value.
    #[serde(default)]
    headers: Vec<(String, String)>,
    /// Triples of header, prefix and the name of a secret.
    #[serde(default)]
    secret_headers: Vec<(String, String, String)>,
    /// User, and the name of a secret.
    basic_auth: Option<(String, String)>,
    body: Option<String>,
    timeout_ms: Option<u64>,
    via: Option<String>,
    #[serde(default)]
    redirects: u8,
    max_body: Option<u32>,
}

impl From<Request> for HttpRequest {
    fn from(asked: Request) -> Self {
        let mut request = HttpRequest::new(asked.method.unwrap_or_else(|| "GET".to_owned()), asked.url);
        for (name, value) in asked.headers {
            request = request.header(name, value);
        }
        for (header, prefix, secret) in asked.secret_headers {
            request = request.secret_header(header, prefix, secret);
        }
        request.basic_auth = asked.basic_auth;
        request.body = asked.body.map(String::into_bytes);
        request.timeout = asked.timeout_ms.map(std::time::Duration::from_millis);
        request.via = asked.via;
        request.redirects(asked.redirects).max_body(asked.max_body.unwrap_or(4096))
    }
}

#[derive(Deserialize, JsonSchema)]
struct Requests {
    requests: Vec<Request>,
}

/// One request is sent alone, so that both functions are used; its problem is the problem of the call.
fn http(host: &dyn Host, mut given: Requests) -> Result<Output<Value>, Problem> {
    let answers = match given.requests.len() {
        1 => match given.requests.pop() {
            Some(one) => vec![Ok(host.http_send(one.into())?)],
            None => Vec::new(),
        },
        _ => host.http_send_all(given.requests.into_iter().map(HttpRequest::from).collect()),
    };
    let results: Vec<Value> = answers
        .iter()
        .map(|one| match one {
            Ok(response) => json!({
                "status": response.status,
                "headers": response.headers.iter().map(|(name, value)| (name, String::from_utf8_lossy(value))).collect::<Vec<_>>(),
                "body": response.body_text(),
                "body_truncated": response.body_truncated,
                "url": response.url,
                "redirects": response.redirects,
                "http_version": response.http_version,
                "certificate_not_after": response.certificate_not_after,
                "total_ms": response.timings.total_ms,
            }),
            Err(problem) => json!({"code": problem.code, "message": problem.message, "details": problem.details}),
        })
        .collect();
    Ok(Output::new(format!("{} requests", results.len()), json!({"results": results})))
}

fn servers(host: &dyn Host, _: NoArguments) -> Result<Output<Value>, Problem> {
    let servers: Vec<Value> = host
        .servers()
        .into_iter()
        .map(|server| json!({"alias": server.alias, "tags": server.tags, "description": server.description}))
        .collect();
    Ok(Output::new(format!("{} servers", servers.len()), json!({"servers": servers})))
}

fn settings(host: &dyn Host, _: NoArguments) -> Result<Output<Value>, Problem> {
    Ok(Output::new("settings", json!({"settings": host.settings_json()})))
}

/// What to do with a value or a secret, and which.
#[derive(Deserialize, JsonSchema)]
struct Kept {
    /// `set`, `get`, `delete`, `list` or `exists`.
    op: String,
    key: String,
    #[serde(default)]
    value: String,
    /// The value is repeated so often, which tests of a limit are glad of.
    repeat: Option<usize>,
}

impl Kept {
    fn value(&self) -> String {
        self.value.repeat(self.repeat.unwrap_or(1))
    }
}

fn kv(host: &dyn Host, kept: Kept) -> Result<Output<Value>, Problem> {
    let answer = match kept.op.as_str() {
        "set" => json!(host.kv_set(&kept.key, kept.value().as_bytes())?),
        "get" => json!(host.kv_get(&kept.key)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())),
        "delete" => json!(host.kv_delete(&kept.key)?),
        _ => json!(host.kv_list(&kept.key)?),
    };
    Ok(Output::new(kept.op, json!({"answer": answer})))
}

fn secret(host: &dyn Host, kept: Kept) -> Result<Output<Value>, Problem> {
    let answer = match kept.op.as_str() {
        "set" => json!(host.secret_put(&kept.key, &kept.value())?),
        "delete" => json!(host.secret_delete(&kept.key)?),
        _ => json!(host.secret_exists(&kept.key)?),
    };
    Ok(Output::new(kept.op, json!({"answer": answer})))
}

#[derive(Deserialize, JsonSchema)]
struct Steps {
    /// How many reports; with 0 it goes on until the call is cancelled.
    steps: u32,
}

fn progress(host: &dyn Host, arguments: Steps) -> Result<Output<Value>, Problem> {
    let mut done = 0_u32;
    while arguments.steps == 0 || done < arguments.steps {
        if host.cancelled() {
            return Err(Problem::new("CANCELLED", format!("told to stop after {done} steps")));
        }
        done = done.saturating_add(1);
        let total = (arguments.steps > 0).then_some(f64::from(arguments.steps));
        host.report(f64::from(done), total, Some(&format!("step {done}")));
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    Ok(Output::new(format!("{done} steps"), json!({"steps": done})))
}

#[derive(Deserialize, JsonSchema)]
struct Message {
    message: String,
}

fn log(host: &dyn Host, arguments: Message) -> Result<Output<()>, Problem> {
    host.log(Level::Warn, &arguments.message, &[("guest", "echo")]);
    Ok(Output::text("logged"))
}

#[derive(Deserialize, JsonSchema)]
struct Code {
    code: String,
}

fn problem(_: &dyn Host, arguments: Code) -> Result<Output<()>, Problem> {
    Err(Problem::new(arguments.code, "as the test wished").hint("Ask for another code.").detail("from", "echo"))
}

/// Standard output belongs to MCP messages: what a guest prints must not arrive there.
#[expect(clippy::print_stdout, reason = "that it does no harm is what is tested")]
fn print(_: &dyn Host, arguments: Message) -> Result<Output<()>, Problem> {
    println!("{}", arguments.message);
    eprintln!("{}", arguments.message);
    Ok(Output::text("printed"))
}
