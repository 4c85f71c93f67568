//! A person, who sits at a terminal: what is asked here is answered by nobody else, as far as a program can tell.
//!
//! An agent that has a shell could open a terminal for itself. What it cannot do is know the words that another machine
//! shows.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};

use zeroize::Zeroizing;

use crate::failure::Failure;

/// No three words are longer.
const LONGEST: u64 = 1024;

/// The terminal of a person.
pub(super) struct Person {
    terminal: File,
}

impl Person {
    /// Nobody where standard input is no terminal: others can write to what a script reads.
    pub(super) fn here() -> Option<Self> {
        let open = || OpenOptions::new().read(true).write(true).open("/dev/tty").ok();
        let terminal = io::stdin().is_terminal().then(open).flatten()?;
        Some(Self { terminal })
    }

    /// Shows a line, and asks for one behind it.
    pub(super) fn ask(&mut self, line: &str, question: &str) -> Result<Zeroizing<String>, Failure> {
        self.exchange(line, question)
            .map_err(|error| Failure::local(format!("cannot ask at the terminal: {error}"), "Try again."))
    }

    fn exchange(&mut self, line: &str, question: &str) -> io::Result<Zeroizing<String>> {
        write!(self.terminal, "{line}\n{question}")?;
        self.terminal.flush()?;
        let mut answer = Zeroizing::new(String::new());
        BufReader::new(&mut self.terminal).take(LONGEST).read_line(&mut answer)?;
        Ok(answer)
    }
}
