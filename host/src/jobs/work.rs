//! The work of a job, and what is kept of it while it waits for its turn: nothing, where its record is enough to make it again.
//!
//! How work is made of a tool and its arguments is the business of the tools, who say it once, when there are any.

use std::fmt;
use std::sync::{Arc, OnceLock};

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::call::{Call, Reply};
use crate::error::Problem;

use super::job::Head;
use super::output::Spool;

/// What is to be done, once it is its turn.
pub type Work = Box<dyn FnOnce(Call, Spool) -> BoxFuture<'static, Result<Reply, Problem>> + Send>;

/// Work as it was handed in, and what the queue was told of it.
pub(super) struct Handed {
    pub(super) run: Work,
    /// It can be made again from its record.
    pub(super) recorded: bool,
    /// It has no effect.
    pub(super) only_reads: bool,
}

/// What is kept of the work of a job that waits for its turn.
pub(super) enum Laid {
    /// Nothing: it is made again from the record.
    Record,
    /// All of it, since the record does not tell everything.
    Work(Work),
}

type Make = dyn Fn(&Head) -> Result<Work, Problem> + Send + Sync;

/// Makes work from records, once it was told how.
#[derive(Default)]
pub(super) struct Maker(OnceLock<Arc<Make>>);

impl Maker {
    /// The first one who says how is the one who is asked.
    pub(super) fn learn(&self, make: impl Fn(&Head) -> Result<Work, Problem> + Send + Sync + 'static) {
        let _ = self.0.set(Arc::new(make));
    }

    /// What is to be kept of work that waits.
    pub(super) fn lay_down(&self, work: Handed) -> Laid {
        if work.recorded && self.0.get().is_some() { Laid::Record } else { Laid::Work(work.run) }
    }

    /// The work again. It is made when it is done, so that a mistake in its making is one of the job's, and ends it.
    pub(super) fn take_up(&self, laid: Laid, head: &Head) -> Work {
        if let Laid::Work(work) = laid {
            return work;
        }
        let (make, head) = (self.0.get().cloned(), head.clone());
        Box::new(move |call, spool| {
            async move {
                let make = make.ok_or_else(|| Problem::internal("nobody knows how to make work from a record"))?;
                make(&head)?(call, spool).await
            }
            .boxed()
        })
    }
}

impl fmt::Debug for Maker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Maker").field("knows", &self.0.get().is_some()).finish()
    }
}
