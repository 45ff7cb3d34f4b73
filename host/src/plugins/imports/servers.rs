//! `servers`: the servers that this plugin was granted, as they may be told to anybody. Not how to reach them.

use std::sync::Arc;

use wasmtime::component::{HasSelf, Linker};

use crate::capability::{ServerFacts, Servers};
use crate::error::{Code, Problem};
use crate::plugins::bindings::orchestrator::plugin::{servers as wit, types};
use crate::plugins::grants::{Granted, Need};

pub struct Context {
    pub granted: Arc<Granted>,
    /// None while a plugin describes itself.
    pub servers: Option<Servers>,
}

/// One server, if it exists and is granted.
///
/// An alias outside the grant is `NOT_GRANTED` whether it exists or not, and only who may use every server is told which
/// alias was nearly named: nobody finds out about servers by guessing.
pub fn find(granted: &Granted, servers: Option<&Servers>, alias: &str) -> Result<ServerFacts, Problem> {
    // Without the tags only a pattern for the alias itself can tell; a grant by tag needs the server.
    let by_alias = granted.grants.allows_server(alias, &[]);
    let Some(servers) = servers else {
        return Err(granted.refuse(Need::Server(alias)));
    };
    match servers.describe(alias) {
        Ok(server) => granted.check_server(alias, &server.tags).map(|()| server),
        Err(problem) if !by_alias && problem.code == Code::ServerNotFound => Err(granted.refuse(Need::Server(alias))),
        Err(mut problem) => {
            if !granted.grants.servers.iter().any(|pattern| pattern == "*") {
                problem.hint = None;
            }
            Err(problem)
        }
    }
}

impl From<ServerFacts> for wit::Server {
    fn from(server: ServerFacts) -> Self {
        wit::Server { alias: server.alias, tags: server.tags, description: server.description }
    }
}

impl wit::Host for Context {
    fn list(&mut self) -> wasmtime::Result<Vec<wit::Server>> {
        let Some(servers) = &self.servers else { return Ok(Vec::new()) };
        let granted = |server: &ServerFacts| self.granted.grants.allows_server(&server.alias, &server.tags);
        Ok(servers.list().into_iter().filter(granted).map(wit::Server::from).collect())
    }

    fn describe(&mut self, alias: String) -> wasmtime::Result<Result<wit::Server, types::Problem>> {
        Ok(find(&self.granted, self.servers.as_ref(), &alias).map(wit::Server::from).map_err(types::Problem::from))
    }
}

pub fn add_to_linker<T: 'static>(linker: &mut Linker<T>, context: fn(&mut T) -> &mut Context) -> wasmtime::Result<()> {
    wit::add_to_linker::<T, HasSelf<Context>>(linker, context)
}
