//! What a share's owner sees of its requests: lines in the terminal, and a page of this machine.

pub(crate) mod mask;
pub(crate) mod told;
