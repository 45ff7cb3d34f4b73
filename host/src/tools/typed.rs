//! Tools whose arguments are a Rust type: the type is the schema, and decoding it is the check.

use std::future::Future;
use std::sync::Arc;

use futures::FutureExt;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{JobWork, Tool, ToolSpec, Work};
use crate::call::{Call, Reply};
use crate::error::Problem;
use crate::jobs::Spool;

/// Decodes arguments, or says which one is wrong and what is accepted.
pub fn decode<A: DeserializeOwned>(spec: &ToolSpec, mut arguments: Map<String, Value>) -> Result<A, Problem> {
    let known = |name: &str| spec.input_schema.get("properties").is_some_and(|known| known.get(name).is_some());
    if let Some(unknown) = arguments.keys().find(|name| !known(name)) {
        return Err(Problem::invalid(format!("{} has no argument {unknown:?}", spec.name))
            .detail("argument", unknown.as_str())
            .hint(format!("Its arguments are: {}.", signature(spec))));
    }
    // A null is how many clients write "not given".
    arguments.retain(|_, value| !value.is_null());
    serde_path_to_error::deserialize::<_, A>(Value::Object(arguments)).map_err(|error| {
        let path = error.path().to_string();
        let at = if path == "." { String::new() } else { format!("argument {path:?}: ") };
        Problem::invalid(format!("{}: {at}{}", spec.name, error.inner()))
            .detail("argument", path)
            .hint(format!("Its arguments are: {}.", signature(spec)))
    })
}

/// The arguments of a tool on one line: `alias, cmd, timeout?`.
pub fn signature(spec: &ToolSpec) -> String {
    let required = spec.input_schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    let Some(Value::Object(properties)) = spec.input_schema.get("properties") else { return "none".to_owned() };
    if properties.is_empty() {
        return "none".to_owned();
    }
    let mut names: Vec<(bool, &String)> =
        properties.keys().map(|name| (!required.contains(&Value::from(name.as_str())), name)).collect();
    names.sort_by_key(|(optional, _)| *optional);
    let names: Vec<String> =
        names.into_iter().map(|(optional, name)| format!("{name}{}", if optional { "?" } else { "" })).collect();
    names.join(", ")
}

/// A tool that is answered directly.
pub struct Direct<F> {
    spec: ToolSpec,
    run: Arc<F>,
}

impl<F> Direct<F> {
    /// `run` gets the decoded arguments.
    pub fn tool<A, Fut>(spec: ToolSpec, run: F) -> Box<dyn Tool>
    where
        A: DeserializeOwned + Send + 'static,
        F: Fn(A, Call) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Reply, Problem>> + Send + 'static,
    {
        Box::new(Typed {
            tool: Direct { spec, run: Arc::new(run) },
            arguments: std::marker::PhantomData::<fn(A) -> Fut>,
        })
    }
}

/// Ties an argument type to a tool.
struct Typed<T, A> {
    tool: T,
    arguments: std::marker::PhantomData<A>,
}

impl<A, F, Fut> Tool for Typed<Direct<F>, fn(A) -> Fut>
where
    A: DeserializeOwned + Send + 'static,
    F: Fn(A, Call) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Reply, Problem>> + Send + 'static,
{
    fn spec(&self) -> &ToolSpec {
        &self.tool.spec
    }

    fn prepare(&self, arguments: Map<String, Value>) -> Result<Work, Problem> {
        let arguments = decode::<A>(&self.tool.spec, arguments)?;
        let run = Arc::clone(&self.tool.run);
        Ok(Work::Direct(Box::new(move |call| run(arguments, call).boxed())))
    }
}

/// What the host must know of a job's arguments.
pub trait JobArguments {
    /// Checks what the type alone does not say, before a job exists.
    fn check(&self) -> Result<(), Problem> {
        Ok(())
    }
    /// The arguments as they are kept with the job: without what must not lie on disk.
    fn recorded(arguments: Map<String, Value>) -> Map<String, Value> {
        arguments
    }
    /// The one server that the job is about.
    fn server(&self) -> Option<String>;
    /// What the arguments name beside that: servers, or words that mean several.
    fn servers(&self) -> Vec<String> {
        Vec::new()
    }
    fn rappel(&self) -> Option<u64>;
    fn idempotency_key(&self) -> Option<String>;
}

/// A tool that runs as a job.
pub struct Job<F> {
    spec: ToolSpec,
    run: Arc<F>,
}

impl<F> Job<F> {
    /// `run` gets the decoded arguments, and where to put what the command prints.
    pub fn tool<A, Fut>(spec: ToolSpec, run: F) -> Box<dyn Tool>
    where
        A: DeserializeOwned + JobArguments + Send + 'static,
        F: Fn(A, Call, Spool) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Reply, Problem>> + Send + 'static,
    {
        Box::new(Typed { tool: Job { spec, run: Arc::new(run) }, arguments: std::marker::PhantomData::<fn(A) -> Fut> })
    }
}

impl<A, F, Fut> Tool for Typed<Job<F>, fn(A) -> Fut>
where
    A: DeserializeOwned + JobArguments + Send + 'static,
    F: Fn(A, Call, Spool) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Reply, Problem>> + Send + 'static,
{
    fn spec(&self) -> &ToolSpec {
        &self.tool.spec
    }

    fn prepare(&self, arguments: Map<String, Value>) -> Result<Work, Problem> {
        let recorded = A::recorded(arguments.clone());
        let withheld = recorded != arguments;
        let arguments = decode::<A>(&self.tool.spec, arguments)?;
        arguments.check()?;
        let run = Arc::clone(&self.tool.run);
        Ok(Work::Job(JobWork {
            arguments: recorded,
            server: arguments.server(),
            servers: arguments.servers(),
            rappel: arguments.rappel(),
            idempotency_key: arguments.idempotency_key(),
            detach: false,
            withheld,
            only_reads: false,
            run: Box::new(move |call, spool| run(arguments, call, spool).boxed()),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::{Annotations, Execution};
    use schemars::JsonSchema;
    use serde::Deserialize;
    use serde_json::json;

    #[derive(Debug, Deserialize, JsonSchema)]
    #[allow(dead_code)]
    struct Arguments {
        alias: String,
        lines: Option<u32>,
    }

    fn check(arguments: Value, expected: &str) {
        let spec = ToolSpec::core::<Arguments, Arguments>("tail", "", "", Execution::Direct, Annotations::LOOKS);
        let Value::Object(arguments) = arguments else { panic!("not an object") };
        let problem = decode::<Arguments>(&spec, arguments).unwrap_err();
        assert_eq!(problem.message, expected);
        assert_eq!(problem.hint.as_deref(), Some("Its arguments are: alias, lines?."));
    }

    #[test]
    fn a_wrong_argument_is_named() {
        check(json!({}), "tail: missing field `alias`");
        check(json!({"alias": "a", "line": 3}), "tail has no argument \"line\"");
        check(
            json!({"alias": "a", "lines": "3"}),
            "tail: argument \"lines\": invalid type: string \"3\", expected u32",
        );
        check(json!({"alias": 7}), "tail: argument \"alias\": invalid type: integer `7`, expected a string");
        check(json!({"alias": null}), "tail: missing field `alias`");
    }
}
