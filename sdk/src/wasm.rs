//! The component's side of the contract: the generated bindings and the way between their types and the SDK's.
//!
//! Nothing is decided here: a call goes to `plugin`, a wish of a tool goes to the host.

use std::marker::PhantomData;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::process::Running;
use crate::{
    Command, Finished, HeaderValue, Host, HttpRequest, HttpResponse, Level, Plugin, Printed, Problem, Process, Server,
    Signal, Timings, info, plugin,
};
use bindings::exports::orchestrator::plugin::tools;
use bindings::orchestrator::plugin as host;
use host::types;

/// What wit-bindgen makes of `wit/`.
#[allow(missing_docs, clippy::all)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../wit",
        world: "plugin",
        pub_export_macro: true,
        default_bindings_module: "orchestrator_sdk::wasm::bindings",
    });
}

/// The component of the plugin `P`.
pub struct Exported<P>(PhantomData<P>);

impl<P: Plugin> tools::Guest for Exported<P> {
    fn describe() -> tools::PluginInfo {
        crate::describe::<P>().into()
    }

    fn call(tool: String, arguments: types::Json) -> Result<tools::Output, types::Problem> {
        let arguments = serde_json::from_str(&arguments)
            .map_err(|error| Problem::invalid(format!("the arguments are no JSON: {error}")))?;
        let answer = plugin::written::<P>(&Imports, &tool, arguments)?;
        Ok(tools::Output { text: answer.text, structured: answer.structured, is_error: answer.is_error })
    }
}

/// The host behind the contract's imports.
pub struct Imports;

impl Host for Imports {
    fn servers(&self) -> Vec<Server> {
        host::servers::list().into_iter().map(Server::from).collect()
    }

    fn server(&self, alias: &str) -> Result<Server, Problem> {
        host::servers::describe(alias).map(Server::from).map_err(Problem::from)
    }

    fn exec(&self, server: &str, command: Command) -> Result<Finished, Problem> {
        host::ssh::exec(server, &command.into()).map(Finished::from).map_err(Problem::from)
    }

    fn exec_all(&self, server: &str, commands: Vec<Command>) -> Vec<Result<Finished, Problem>> {
        let commands: Vec<host::ssh::Command> = commands.into_iter().map(Into::into).collect();
        let ended = host::ssh::exec_all(server, &commands);
        ended.into_iter().map(|one| one.map(Finished::from).map_err(Problem::from)).collect()
    }

    fn spawn(&self, server: &str, command: Command) -> Result<Process, Problem> {
        host::ssh::spawn(server, &command.into()).map(Process::new).map_err(Problem::from)
    }

    fn http_send(&self, request: HttpRequest) -> Result<HttpResponse, Problem> {
        host::http::send(&request.into()).map(HttpResponse::from).map_err(Problem::from)
    }

    fn http_send_all(&self, requests: Vec<HttpRequest>) -> Vec<Result<HttpResponse, Problem>> {
        let requests: Vec<host::http::Request> = requests.into_iter().map(Into::into).collect();
        let answers = host::http::send_all(&requests);
        answers.into_iter().map(|one| one.map(HttpResponse::from).map_err(Problem::from)).collect()
    }

    fn kv_get(&self, key: &str) -> Result<Option<Vec<u8>>, Problem> {
        host::kv::get(key).map_err(Problem::from)
    }

    fn kv_set(&self, key: &str, value: &[u8]) -> Result<(), Problem> {
        host::kv::set(key, value).map_err(Problem::from)
    }

    fn kv_delete(&self, key: &str) -> Result<bool, Problem> {
        host::kv::delete(key).map_err(Problem::from)
    }

    fn kv_list(&self, prefix: &str) -> Result<Vec<String>, Problem> {
        host::kv::list(prefix).map_err(Problem::from)
    }

    fn secret_put(&self, name: &str, value: &str) -> Result<(), Problem> {
        host::secrets::put(name, value).map_err(Problem::from)
    }

    fn secret_delete(&self, name: &str) -> Result<bool, Problem> {
        host::secrets::delete(name).map_err(Problem::from)
    }

    fn secret_exists(&self, name: &str) -> Result<bool, Problem> {
        host::secrets::exists(name).map_err(Problem::from)
    }

    fn settings_json(&self) -> Value {
        object(&host::settings::get())
    }

    fn report(&self, done: f64, total: Option<f64>, message: Option<&str>) {
        host::progress::report(done, total, message);
    }

    fn cancelled(&self) -> bool {
        host::progress::cancelled()
    }

    fn log(&self, level: Level, message: &str, fields: &[(&str, &str)]) {
        let level = match level {
            Level::Error => host::log::Level::Error,
            Level::Warn => host::log::Level::Warn,
            Level::Info => host::log::Level::Info,
            Level::Debug => host::log::Level::Debug,
            Level::Trace => host::log::Level::Trace,
        };
        let fields: Vec<(String, String)> =
            fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        host::log::write(level, message, &fields);
    }
}

impl Running for host::ssh::Process {
    fn read(&mut self, timeout: Duration) -> Result<Printed, Problem> {
        let printed = host::ssh::Process::read(self, milliseconds(timeout))?;
        Ok(Printed { stdout: printed.stdout, stderr: printed.stderr, ended: printed.ended })
    }

    fn signal(&mut self, signal: Signal) -> Result<bool, Problem> {
        let signal = match signal {
            Signal::Hup => host::ssh::Signal::Hup,
            Signal::Int => host::ssh::Signal::Int,
            Signal::Quit => host::ssh::Signal::Quit,
            Signal::Term => host::ssh::Signal::Term,
            Signal::Kill => host::ssh::Signal::Kill,
            Signal::Usr1 => host::ssh::Signal::Usr1,
            Signal::Usr2 => host::ssh::Signal::Usr2,
        };
        Ok(host::ssh::Process::signal(self, signal)?)
    }

    fn wait(&mut self, timeout: Duration) -> Result<Option<Finished>, Problem> {
        let ended = host::ssh::Process::wait(self, milliseconds(timeout))?;
        Ok(ended.map(|exit| Finished {
            exit_code: exit.exit_code,
            exit_signal: exit.exit_signal,
            duration: Duration::from_millis(exit.duration_ms),
            ..Finished::default()
        }))
    }
}

/// The host sends JSON objects only; anything else would be its fault and is taken as empty.
fn object(json: &str) -> Value {
    Value::Object(serde_json::from_str::<Map<String, Value>>(json).unwrap_or_default())
}

impl From<Problem> for types::Problem {
    fn from(problem: Problem) -> Self {
        types::Problem {
            code: problem.code,
            message: problem.message,
            hint: problem.hint,
            details: (!problem.details.is_empty()).then(|| Value::Object(problem.details).to_string()),
            retryable: problem.retryable,
        }
    }
}

impl From<types::Problem> for Problem {
    fn from(problem: types::Problem) -> Self {
        let details = problem.details.and_then(|json| serde_json::from_str(&json).ok());
        Problem {
            code: problem.code,
            message: problem.message,
            hint: problem.hint,
            details: details.unwrap_or_default(),
            retryable: problem.retryable,
        }
    }
}

impl From<host::servers::Server> for Server {
    fn from(server: host::servers::Server) -> Self {
        Server { alias: server.alias, tags: server.tags, description: server.description }
    }
}

impl From<Command> for host::ssh::Command {
    fn from(command: Command) -> Self {
        host::ssh::Command {
            program: command.program,
            args: command.args,
            env: command.env,
            stdin: command.stdin,
            sudo: command.sudo,
            timeout_ms: command.timeout.map(milliseconds),
        }
    }
}

/// Milliseconds as the contract counts them.
fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl From<HttpRequest> for host::http::Request {
    fn from(request: HttpRequest) -> Self {
        let value = |value| match value {
            HeaderValue::Plain(text) => host::http::Value::Plain(text),
            HeaderValue::Secret { prefix, name } => host::http::Value::Secret(host::http::SecretRef { prefix, name }),
        };
        host::http::Request {
            method: request.method,
            url: request.url,
            headers: request.headers.into_iter().map(|(name, text)| (name, value(text))).collect(),
            basic_auth: request.basic_auth.map(|(user, password)| host::http::Basic { user, password }),
            body: request.body,
            timeout_ms: request.timeout.map(milliseconds),
            via: request.via,
            redirects: request.redirects,
            max_body: request.max_body,
        }
    }
}

impl From<host::http::Response> for HttpResponse {
    fn from(response: host::http::Response) -> Self {
        let timings = response.timings;
        HttpResponse {
            status: response.status,
            headers: response.headers,
            body: response.body,
            body_truncated: response.body_truncated,
            url: response.url,
            redirects: response.redirects,
            http_version: response.http_version,
            certificate_not_after: response.certificate_not_after,
            timings: Timings {
                resolve_ms: timings.resolve_ms,
                connect_ms: timings.connect_ms,
                tls_ms: timings.tls_ms,
                first_byte_ms: timings.first_byte_ms,
                total_ms: timings.total_ms,
            },
        }
    }
}

impl From<host::ssh::Finished> for Finished {
    fn from(finished: host::ssh::Finished) -> Self {
        Finished {
            exit_code: finished.exit_code,
            exit_signal: finished.exit_signal,
            stdout: finished.stdout,
            stderr: finished.stderr,
            stdout_truncated: finished.stdout_truncated,
            stderr_truncated: finished.stderr_truncated,
            duration: Duration::from_millis(finished.duration_ms),
        }
    }
}

impl From<info::PluginInfo> for tools::PluginInfo {
    fn from(info: info::PluginInfo) -> Self {
        tools::PluginInfo {
            name: info.name,
            version: info.version,
            description: info.description,
            tools: info.tools.into_iter().map(Into::into).collect(),
            wants: info
                .wants
                .into_iter()
                .map(|want| tools::Want { capability: want.capability, scope: want.scope, reason: want.reason })
                .collect(),
            settings_schema: info.settings_schema.map(|schema| schema.to_string()),
        }
    }
}

impl From<info::ToolSpec> for tools::ToolSpec {
    fn from(tool: info::ToolSpec) -> Self {
        tools::ToolSpec {
            name: tool.name,
            title: tool.title,
            description: tool.description,
            input_schema: tool.input_schema.to_string(),
            output_schema: tool.output_schema.map(|schema| schema.to_string()),
            annotations: tools::Annotations {
                read_only: tool.annotations.read_only,
                destructive: tool.annotations.destructive,
                idempotent: tool.annotations.idempotent,
                open_world: tool.annotations.open_world,
            },
            execution: match tool.execution {
                info::Execution::Job => tools::Execution::Job,
                info::Execution::Direct => tools::Execution::Direct,
            },
            server_argument: tool.server_argument,
        }
    }
}
