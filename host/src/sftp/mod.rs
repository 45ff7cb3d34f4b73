//! Files from one place to another: the SFTP protocol, and an engine that copies trees between this machine and servers, or
//! between two servers, without ever leaving half a file under a real name.
//!
//! Not which server an alias is and who may do what: that is above. Not the connection: that is `ssh`.

mod transfer;
mod steps;
mod copy;
mod plan;
mod walk;
mod globs;
mod temp;
mod roots;
mod window;
mod meter;
mod files;
mod local;
mod remote;
mod client;
mod session;
mod packet;
mod error;

pub use error::{Cause, FileError, shown};
pub use files::Files;
pub use local::Local;
pub use meter::{Meter, size};
pub use remote::{Reach, Remote};
pub use transfer::{Commons, Options, Outcome, run};
