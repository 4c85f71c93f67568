//! Other nodes: who of them may reach what is shared here, and who is the one that was looked for.

pub(crate) mod acquaint;
pub(crate) mod rights;
