//! What can be told to go wrong on the embedded server.

use std::time::Duration;

/// The faults of the moment; none by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Every login is refused, also with the right key or password.
    pub refuse_logins: bool,
    /// The server stops answering at this step and keeps the connection open.
    pub stall: Option<Stall>,
    /// The TCP connection is cut after this many bytes of a command's standard output.
    pub cut_after: Option<usize>,
    /// A command's channel is closed without telling how the command ended.
    pub no_exit_status: bool,
    /// The server says no at this step.
    pub refuse: Option<Refuse>,
    /// A connection is accepted and nothing is said for so long.
    pub slow_to_accept: Option<Duration>,
    /// Keys are exchanged anew each time so many bytes have gone either way. Set it at the start.
    pub rekey_after: Option<usize>,
    /// What the client may send on a channel before it has to wait, in bytes. Set it at the start.
    pub window: Option<u32>,
}

/// A step at which the server says no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refuse {
    /// No channel is opened.
    Channel,
    /// No command is started.
    Exec,
}

/// A step at which the server falls silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stall {
    /// The TCP connection is accepted and nothing is said.
    Banner,
    /// A login is neither accepted nor refused.
    Login,
    /// A channel is neither opened nor refused.
    Channel,
    /// A command is neither started nor refused.
    Exec,
}
