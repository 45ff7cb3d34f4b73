//! The memory: every piece of work is a job, committed to the database before it has an effect and before it is reported.
//!
//! What the work is, is the business of its tool: it comes here as a closure, or is made of the record by one.

mod active;
mod detached;
mod ids;
mod job;
mod keeper;
/// What jobs print.
pub mod output;
mod persist;
mod queue;
mod record;
mod recovery;
mod roster;
mod stats;
mod store;
mod turns;
mod work;
mod worker;

pub use active::Reports;
pub use job::{AnyJob, End, Ended, Failure, Head, Job, MAX_RETRIES, Pending, Running, Status};
pub use output::{Output, Spool, clean};
pub use queue::{Jobs, NewJob, Ticket};
pub use stats::{Durations, QueueStats};
pub use store::Filter;
pub use work::Work;

#[cfg(test)]
mod persist_tests;
#[cfg(test)]
mod recovery_tests;
#[cfg(test)]
mod tests;
