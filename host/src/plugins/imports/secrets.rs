//! `secrets`: what a plugin hands over to be sealed. It needs no grant, since the namespace is the plugin's own and bounded.
//! There is no way back to the guest here, and there shall be none.

use wasmtime::component::{HasSelf, Linker};
use zeroize::Zeroizing;

use super::kv::Keeper;
use crate::plugins::bindings::orchestrator::plugin::{secrets as wit, types};

pub struct Context {
    pub keeper: Keeper,
}

type Answer<T> = wasmtime::Result<Result<T, types::Problem>>;

impl wit::Host for Context {
    async fn put(&mut self, name: String, value: String) -> Answer<()> {
        let value = Zeroizing::new(value);
        self.keeper.write(async |kept| kept.put_secret(&name, &value).await).await
    }

    async fn delete(&mut self, name: String) -> Answer<bool> {
        self.keeper.write(async |kept| kept.delete_secret(&name).await).await
    }

    async fn exists(&mut self, name: String) -> Answer<bool> {
        self.keeper.read(async |kept| kept.has_secret(&name)).await
    }
}

pub fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    context: fn(&mut T) -> &mut Context,
) -> wasmtime::Result<()> {
    wit::add_to_linker::<T, HasSelf<Context>>(linker, context)
}
