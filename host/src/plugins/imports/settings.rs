//! `settings`: what the operator set for this plugin, as it was at start-up. It needs no grant: the operator wrote it for
//! this plugin.

use std::sync::Arc;

use wasmtime::component::{HasSelf, Linker};

use crate::plugins::bindings::orchestrator::plugin::settings as wit;

pub struct Context {
    /// A JSON object.
    pub json: Arc<str>,
}

impl wit::Host for Context {
    fn get(&mut self) -> wasmtime::Result<String> {
        Ok(self.json.to_string())
    }
}

pub fn add_to_linker<T: 'static>(linker: &mut Linker<T>, context: fn(&mut T) -> &mut Context) -> wasmtime::Result<()> {
    wit::add_to_linker::<T, HasSelf<Context>>(linker, context)
}
