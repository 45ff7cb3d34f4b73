//! A host for unit tests: answers that were written down beforehand, and a record of what was asked.
//!
//! It runs nothing and reaches nothing. A command that it was given no answer for is a problem that shows the command.

mod script;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Map, Value};

use crate::http::HeaderValue;
use crate::output::Answer;
use crate::{Command, Finished, Host, HttpRequest, HttpResponse, Level, Plugin, Problem, Process, Server, Signal};

pub use script::Script;

use script::{Deeds, Scripted};

/// A report of progress: done, total, message.
pub type Reported = (f64, Option<f64>, Option<String>);

/// A host that answers what it was told to.
#[derive(Default)]
pub struct Mock {
    servers: Vec<Server>,
    answers: BTreeMap<String, Result<Finished, Problem>>,
    scripts: BTreeMap<String, Script>,
    deeds: Rc<RefCell<Deeds>>,
    responses: BTreeMap<String, Result<HttpResponse, Problem>>,
    settings: Map<String, Value>,
    kept: RefCell<BTreeMap<String, Vec<u8>>>,
    secrets: RefCell<BTreeMap<String, String>>,
    cancelled: Cell<bool>,
    commands: RefCell<Vec<(String, Command)>>,
    requests: RefCell<Vec<HttpRequest>>,
    round_trips: Cell<usize>,
    reports: RefCell<Vec<Reported>>,
    lines: RefCell<Vec<(Level, String)>>,
}

impl Mock {
    /// A host without servers, answers or settings.
    pub fn new() -> Self {
        Mock::default()
    }

    /// Adds a server.
    pub fn server(mut self, alias: &str, tags: &[&str]) -> Self {
        let tags = tags.iter().map(|&tag| tag.to_owned()).collect();
        self.servers.push(Server { alias: alias.to_owned(), tags, description: None });
        self.servers.sort_by(|a, b| a.alias.cmp(&b.alias));
        self
    }

    /// The command exits with 0 and prints `stdout`. `line` is the command as [`Command`] displays it: `df -P -k`.
    pub fn answer(self, line: impl ToString, stdout: impl Into<Vec<u8>>) -> Self {
        self.finishes(line, Finished { exit_code: Some(0), stdout: stdout.into(), ..Finished::default() })
    }

    /// The command exits with `exit_code` and prints `stderr`.
    pub fn exits(self, line: impl ToString, exit_code: u32, stderr: impl Into<Vec<u8>>) -> Self {
        self.finishes(line, Finished { exit_code: Some(exit_code), stderr: stderr.into(), ..Finished::default() })
    }

    /// The command ends as given.
    pub fn finishes(mut self, line: impl ToString, finished: Finished) -> Self {
        self.answers.insert(line.to_string(), Ok(finished));
        self
    }

    /// The command does not run.
    pub fn fails(mut self, line: impl ToString, problem: Problem) -> Self {
        self.answers.insert(line.to_string(), Err(problem));
        self
    }

    /// The command, when it is spawned, does this.
    pub fn spawns(mut self, line: impl ToString, script: Script) -> Self {
        self.scripts.insert(line.to_string(), script);
        self
    }

    /// The request is answered. `line` is the request as it displays itself: `GET https://example.org/ via web`.
    pub fn responds(mut self, line: impl ToString, response: HttpResponse) -> Self {
        self.responses.insert(line.to_string(), Ok(response));
        self
    }

    /// The request is not answered.
    pub fn does_not_respond(mut self, line: impl ToString, problem: Problem) -> Self {
        self.responses.insert(line.to_string(), Err(problem));
        self
    }

    /// The operator's settings; anything but an object is taken as none.
    pub fn settings(mut self, settings: Value) -> Self {
        self.settings = settings.as_object().cloned().unwrap_or_default();
        self
    }

    /// A value that is kept from an earlier call.
    pub fn kept(self, key: &str, value: impl Into<Vec<u8>>) -> Self {
        self.kept.borrow_mut().insert(key.to_owned(), value.into());
        self
    }

    /// What is kept now, by key.
    pub fn all_kept(&self) -> BTreeMap<String, Vec<u8>> {
        self.kept.borrow().clone()
    }

    /// The secrets that were handed over and not deleted. Only a test can see them.
    pub fn secrets(&self) -> BTreeMap<String, String> {
        self.secrets.borrow().clone()
    }

    /// From now on nobody wants the result any more.
    pub fn cancel(&self) {
        self.cancelled.set(true);
    }

    /// Calls a tool of the plugin `P` as the host would: the arguments are checked, the answer is serialized.
    pub fn call<P: Plugin>(&self, tool: &str, arguments: Value) -> Result<Answer, Problem> {
        crate::call::<P>(self, tool, arguments)
    }

    /// The commands that were asked for, in order, each with its server.
    pub fn commands(&self) -> Vec<(String, Command)> {
        self.commands.borrow().clone()
    }

    /// The signals that were sent to processes, in order.
    pub fn signals(&self) -> Vec<Signal> {
        self.deeds.borrow().signals.clone()
    }

    /// How many processes were ended by being dropped.
    pub fn stopped(&self) -> usize {
        self.deeds.borrow().stopped
    }

    /// The requests that were sent, in order.
    pub fn requests(&self) -> Vec<HttpRequest> {
        self.requests.borrow().clone()
    }

    /// How often something outside was asked: an `exec_all` or `http_send_all` counts once.
    pub fn round_trips(&self) -> usize {
        self.round_trips.get()
    }

    /// The reports of progress, in order.
    pub fn reports(&self) -> Vec<Reported> {
        self.reports.borrow().clone()
    }

    /// The lines that were logged, in order.
    pub fn lines(&self) -> Vec<(Level, String)> {
        self.lines.borrow().clone()
    }

    /// Secrets are named, not shown: a name that is not kept is the problem that the host would make of it.
    fn respond(&self, request: HttpRequest) -> Result<HttpResponse, Problem> {
        let line = request.to_string();
        self.requests.borrow_mut().push(request.clone());
        if let Some(server) = &request.via {
            self.server(server)?;
        }
        let in_headers = request.headers.iter().filter_map(|(_, value)| match value {
            HeaderValue::Secret { name, .. } => Some(name),
            HeaderValue::Plain(_) => None,
        });
        for name in in_headers.chain(request.basic_auth.as_ref().map(|(_, name)| name)) {
            if !self.secrets.borrow().contains_key(name) {
                return Err(Problem::invalid(format!("the plugin keeps no secret named {name:?}")));
            }
        }
        self.responses.get(&line).cloned().unwrap_or_else(|| {
            let known: Vec<String> = self.responses.keys().map(|line| format!("  {line}")).collect();
            let known = if known.is_empty() { "  (none)".to_owned() } else { known.join("\n") };
            let message = format!("the mock host has no answer for\n  {line}\nit has answers for\n{known}");
            Err(Problem::new("INTERNAL", message))
        })
    }

    fn run(&self, server: &str, command: Command) -> Result<Finished, Problem> {
        let line = self.note(server, command)?;
        let answer = self.answers.get(&line).cloned();
        answer.unwrap_or_else(|| Err(unexpected(server, &line, self.answers.keys())))
    }

    /// Writes down that a command was asked for; its line.
    fn note(&self, server: &str, command: Command) -> Result<String, Problem> {
        let line = command.to_string();
        self.commands.borrow_mut().push((server.to_owned(), command));
        self.server(server)?;
        Ok(line)
    }
}

fn unexpected<'a>(server: &str, line: &str, known: impl Iterator<Item = &'a String>) -> Problem {
    let known: Vec<String> = known.map(|line| format!("  {line}")).collect();
    let known = if known.is_empty() { "  (none)".to_owned() } else { known.join("\n") };
    let message = format!("the mock host has no answer on {server} for\n  {line}\nit has answers for\n{known}");
    Problem::new("INTERNAL", message)
}

impl Host for Mock {
    fn servers(&self) -> Vec<Server> {
        self.servers.clone()
    }

    fn server(&self, alias: &str) -> Result<Server, Problem> {
        self.servers.iter().find(|server| server.alias == alias).cloned().ok_or_else(|| {
            Problem::new("SERVER_NOT_FOUND", format!("the mock host has no server {alias:?}")).detail("alias", alias)
        })
    }

    fn exec(&self, server: &str, command: Command) -> Result<Finished, Problem> {
        self.round_trips.set(self.round_trips.get() + 1);
        self.run(server, command)
    }

    fn exec_all(&self, server: &str, commands: Vec<Command>) -> Vec<Result<Finished, Problem>> {
        self.round_trips.set(self.round_trips.get() + 1);
        commands.into_iter().map(|command| self.run(server, command)).collect()
    }

    fn spawn(&self, server: &str, command: Command) -> Result<Process, Problem> {
        self.round_trips.set(self.round_trips.get() + 1);
        let line = self.note(server, command)?;
        match self.scripts.get(&line).cloned() {
            Some(script) => Ok(Process::new(Scripted { script, deeds: Rc::clone(&self.deeds) })),
            None => Err(unexpected(server, &line, self.scripts.keys())),
        }
    }

    fn http_send(&self, request: HttpRequest) -> Result<HttpResponse, Problem> {
        self.round_trips.set(self.round_trips.get() + 1);
        self.respond(request)
    }

    fn http_send_all(&self, requests: Vec<HttpRequest>) -> Vec<Result<HttpResponse, Problem>> {
        self.round_trips.set(self.round_trips.get() + 1);
        requests.into_iter().map(|request| self.respond(request)).collect()
    }

    fn kv_get(&self, key: &str) -> Result<Option<Vec<u8>>, Problem> {
        Ok(self.kept.borrow().get(key).cloned())
    }

    fn kv_set(&self, key: &str, value: &[u8]) -> Result<(), Problem> {
        self.kept.borrow_mut().insert(key.to_owned(), value.to_owned());
        Ok(())
    }

    fn kv_delete(&self, key: &str) -> Result<bool, Problem> {
        Ok(self.kept.borrow_mut().remove(key).is_some())
    }

    fn kv_list(&self, prefix: &str) -> Result<Vec<String>, Problem> {
        Ok(self.kept.borrow().keys().filter(|key| key.starts_with(prefix)).cloned().collect())
    }

    fn secret_put(&self, name: &str, value: &str) -> Result<(), Problem> {
        self.secrets.borrow_mut().insert(name.to_owned(), value.to_owned());
        Ok(())
    }

    fn secret_delete(&self, name: &str) -> Result<bool, Problem> {
        Ok(self.secrets.borrow_mut().remove(name).is_some())
    }

    fn secret_exists(&self, name: &str) -> Result<bool, Problem> {
        Ok(self.secrets.borrow().contains_key(name))
    }

    fn settings_json(&self) -> Value {
        Value::Object(self.settings.clone())
    }

    fn report(&self, done: f64, total: Option<f64>, message: Option<&str>) {
        self.reports.borrow_mut().push((done, total, message.map(str::to_owned)));
    }

    fn cancelled(&self) -> bool {
        self.cancelled.get()
    }

    fn log(&self, level: Level, message: &str, _fields: &[(&str, &str)]) {
        self.lines.borrow_mut().push((level, message.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unexpected_command_is_shown_beside_those_that_were_expected() {
        let host = Mock::new().server("web", &[]).answer("df -P", "");
        let problem = Host::exec(&host, "web", Command::new("df").arg("-h")).unwrap_err();
        assert_eq!(problem.message, "the mock host has no answer on web for\n  df -h\nit has answers for\n  df -P");
        assert_eq!(host.commands(), [("web".to_owned(), Command::new("df").arg("-h"))]);
    }

    #[test]
    fn a_command_that_must_succeed_is_named_when_it_does_not() {
        let host = Mock::new().server("web", &[]).exits("df -P", 1, "df: no such device\n");
        let problem = (&host as &dyn Host).run("web", Command::new("df").arg("-P")).unwrap_err();
        assert_eq!(problem.to_string(), "PLUGIN_FAILED: `df -P` on web exited with 1: df: no such device");
    }

    #[test]
    fn what_is_kept_is_found_by_key_and_prefix_until_it_is_deleted() {
        let mock = Mock::new().kept("api/a", "1");
        let host: &dyn Host = &mock;
        host.kv_set_json("api/b", &vec![2]).unwrap();
        host.kv_set("other", b"x").unwrap();
        assert_eq!(host.kv_list("api/"), Ok(vec!["api/a".to_owned(), "api/b".to_owned()]));
        assert_eq!(host.kv_json::<u8>("api/a"), Ok(Some(1)));
        assert_eq!(host.kv_json::<Vec<u8>>("api/b"), Ok(Some(vec![2])));
        assert_eq!(host.kv_json::<u8>("api/b").unwrap_err().code, "PLUGIN_FAILED");
        assert_eq!((host.kv_delete("api/a"), host.kv_delete("api/a")), (Ok(true), Ok(false)));
        assert_eq!(host.kv_json::<u8>("api/a"), Ok(None));
        host.secret_put("key", "hunter2").unwrap();
        assert_eq!(mock.secrets()["key"], "hunter2");
        assert_eq!((host.secret_delete("key"), host.secret_exists("key")), (Ok(true), Ok(false)));
    }

    #[test]
    fn a_process_follows_its_script_until_it_is_signalled_or_dropped() {
        let second = std::time::Duration::from_secs(1);
        let host = Mock::new()
            .server("web", &[])
            .spawns("once", Script::new().stdout("a\n").silence().stderr("b\n").exits(3))
            .spawns("tail -f x", Script::new().stdout("a\n"));
        let spawn = |program| Host::spawn(&host, "web", program).unwrap();
        let mut once = spawn(Command::new("once"));
        assert_eq!(once.read(second).unwrap().stdout, b"a\n");
        let silent = once.read(second).unwrap();
        assert!(silent.is_empty() && !silent.ended);
        assert_eq!(once.wait(second), Ok(None));
        assert_eq!(once.read(second).unwrap().stderr, b"b\n");
        assert!(once.read(second).unwrap().ended);
        assert_eq!(once.wait(second).unwrap().unwrap().exit_code, Some(3));
        assert_eq!(once.signal(Signal::Term), Ok(false));

        let mut endless = spawn(Command::new("tail").args(["-f", "x"]));
        assert!(!endless.read(second).unwrap().is_empty() && !endless.read(second).unwrap().ended);
        drop(spawn(Command::new("tail").args(["-f", "x"])));
        assert_eq!(endless.signal(Signal::Int), Ok(true));
        assert_eq!(endless.wait(second).unwrap().unwrap().exit_signal.as_deref(), Some("INT"));
        drop((once, endless));
        assert_eq!((host.signals(), host.stopped()), (vec![Signal::Int], 1));
        let problem = Host::spawn(&host, "web", Command::new("top")).err().unwrap();
        assert!(problem.message.ends_with("  top\nit has answers for\n  once\n  tail -f x"), "{problem}");
    }

    #[test]
    fn a_server_that_was_not_added_is_not_found() {
        let host = Mock::new().answer("df", "");
        assert_eq!(Host::exec(&host, "web", Command::new("df")).unwrap_err().code, "SERVER_NOT_FOUND");
    }
}
