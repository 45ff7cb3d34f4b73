//! `kv`: what a plugin keeps between calls. It needs no grant, since the namespace is the plugin's own and bounded.
//! Not the quota: that is checked where it is kept.

use wasmtime::component::{HasSelf, Linker};

use crate::call::Call;
use crate::error::{Code, Problem};
use crate::plugins::bindings::orchestrator::plugin::{kv as wit, types};
use crate::plugins::error::Stopped;
use crate::plugins::kept::{KeptError, Namespace};
use crate::plugins::ticker::Stopwatch;

/// What a call needs to keep something; `secrets` uses it as well.
#[derive(Clone)]
pub struct Keeper {
    /// None while a plugin describes itself.
    pub kept: Option<Namespace>,
    pub call: Call,
    /// Told while the disk is waited for.
    pub watch: Stopwatch,
}

impl Keeper {
    fn namespace(&self) -> Result<&Namespace, Problem> {
        self.kept.as_ref().ok_or_else(|| {
            Problem::new(
                Code::NotGranted,
                "a plugin keeps nothing while it describes itself: use kv and secrets in a call",
            )
        })
    }

    /// Looks something up.
    pub async fn read<T>(
        &self,
        look: impl AsyncFnOnce(&Namespace) -> Result<T, KeptError>,
    ) -> wasmtime::Result<Result<T, types::Problem>> {
        self.waiting(async { Ok(look(self.namespace()?).await?) }).await
    }

    /// Changes something, which is an effect: the job is on disk first.
    pub async fn write<T>(
        &self,
        change: impl AsyncFnOnce(&Namespace) -> Result<T, KeptError>,
    ) -> wasmtime::Result<Result<T, types::Problem>> {
        let work = async {
            let namespace = self.namespace()?;
            self.call.recorded.wait().await?;
            Ok(change(namespace).await?)
        };
        self.waiting(work).await
    }

    /// A guest whose call was cancelled does not go on: it could not do anything useful with the answer.
    async fn waiting<T>(
        &self,
        work: impl Future<Output = Result<T, Problem>>,
    ) -> wasmtime::Result<Result<T, types::Problem>> {
        if self.call.cancel.is_cancelled() {
            return Err(Stopped::Cancelled.into());
        }
        let waiting = self.watch.wait();
        let answer = work.await;
        drop(waiting);
        if self.call.cancel.is_cancelled() {
            return Err(Stopped::Cancelled.into());
        }
        Ok(answer.map_err(types::Problem::from))
    }
}

pub struct Context {
    pub keeper: Keeper,
}

type Answer<T> = wasmtime::Result<Result<T, types::Problem>>;

impl wit::Host for Context {
    async fn get(&mut self, key: String) -> Answer<Option<Vec<u8>>> {
        self.keeper.read(async |kept| kept.get(&key)).await
    }

    async fn set(&mut self, key: String, value: Vec<u8>) -> Answer<()> {
        self.keeper.write(async |kept| kept.set(&key, value).await).await
    }

    async fn delete(&mut self, key: String) -> Answer<bool> {
        self.keeper.write(async |kept| kept.delete(&key).await).await
    }

    async fn list(&mut self, prefix: String) -> Answer<Vec<String>> {
        self.keeper.read(async |kept| kept.list(&prefix).await).await
    }
}

pub fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    context: fn(&mut T) -> &mut Context,
) -> wasmtime::Result<()> {
    wit::add_to_linker::<T, HasSelf<Context>>(linker, context)
}
