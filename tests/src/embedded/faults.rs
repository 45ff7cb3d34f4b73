//! What can be told to go wrong on the embedded server.

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
