//! What a share's owner sees of its requests: lines in the terminal, and a page of this machine.

mod api;
mod curl;
mod guard;
mod mask;
mod page;
mod server;
mod shown;
mod signature;
pub(crate) mod told;

pub(crate) use self::api::Api;
pub(crate) use self::server::{Place, Server};
