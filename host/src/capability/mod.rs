//! The choke point: every command that reaches a server and every HTTP request passes here, whoever asks for it.
//!
//! An alias is resolved once, the audit line is written, the deadline and the cancel token are obeyed.
//! Not how a server is reached: that is the wire's business.

mod bulk;
mod command;
mod detached;
mod excerpt;
mod http;
mod manage;
mod process;
mod reach;
mod select;
mod sequence;
mod files;
mod servers;

pub use crate::sftp::{
    Cause as TransferCause, FileError, Options as TransferOptions, Outcome as TransferOutcome, shown as shown_path,
    size as shown_size,
};
pub use crate::ssh::{OutputSink, Quota, Reached, Stopped, Stream};
pub use command::{Argv, Captured, Finished, Shell};
pub use detached::{DetachedPlace, Exit, Follow, Launch, StartError, State};
pub use excerpt::{Ends, Excerpt};
pub use files::{Pair, Place};
pub use http::{Gate, Header, Http, HttpRequest, HttpResponse};
pub use manage::{NewServer, Verified};
pub use process::{Printed, Process, Processes};
pub use reach::Ways;
pub use select::is_selector;
pub use sequence::{Mark, Marks, Piece, Sequence, Splitter, Step};
pub use servers::{ServerFacts, Servers};
