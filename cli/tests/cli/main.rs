//! The real binary, as people and scripts meet it: what it prints where, and with which status it ends.

mod errors;
mod help;
mod program;
