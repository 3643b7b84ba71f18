//! Processes inside running containers: started, fed, listened to, ended.
//!
//! No shell is involved unless the caller asks for one.

mod control;
mod kill;
mod pump;
mod run;
mod session;
mod start;

pub(crate) use run::{Finished, run};
pub(crate) use session::open;
pub(crate) use start::Spec;
