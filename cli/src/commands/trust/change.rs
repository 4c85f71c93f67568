//! What is done to a store: the certificate that was looked at is put there, or taken out, and nothing else.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::process::{Command as Process, Output, Stdio};

use mytunnel_relay::local_ca::Described;

use super::stores::{Kind, Line, ROOT, Store, Subject, certutil};
use super::{Outcome, is_of_this_machine};
use crate::context::Context;
use crate::files::write_public;
use crate::mint::shell_quoted;

/// Where root's programs lie, where nobody but root can put one.
const ROOTS_PROGRAMS: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Where others may lie that a person's PATH does not name: those of root, and the NSS tools of Homebrew.
const MORE_PROGRAMS: [&str; 4] =
    ["/usr/sbin", "/sbin", "/opt/homebrew/opt/nss/bin", "/usr/local/opt/nss/bin"];

/// What is done to each store.
pub(super) struct Change<'a> {
    /// As a person has named it.
    pub(super) subject: &'a Subject<'a>,
    /// A file of this process's own, in which there is nothing but what was looked at: for programs that are called.
    pub(super) copy: &'a Path,
    pub(super) described: &'a Described,
    pub(super) remove: bool,
    /// Who this process is for the system.
    pub(super) user: u32,
    pub(super) context: &'a Context,
}

impl Change<'_> {
    pub(super) fn make(&self, store: &Store) -> Outcome {
        let made = match &store.kind {
            Kind::Gathered { file, .. } => self.gather(store, file),
            Kind::Database(folder) => self.database(store, folder),
            Kind::Keychain(_) | Kind::Windows => self.call(&self.line(store)).map(|_| Outcome::Done),
        };
        made.unwrap_or_else(|error| {
            let is_certutil = matches!(store.kind, Kind::Database(_));
            #[expect(clippy::wildcard_enum_match_arm, reason = "the system's kinds are many, those with a remedy few")]
            let by_hand = match error.kind() {
                // The same command does it all, so that it is one line to type.
                ErrorKind::PermissionDenied => vec![self.as_root()],
                ErrorKind::NotFound if is_certutil => {
                    vec!["sudo apt install libnss3-tools    # nss-tools (Fedora), nss (Arch, Homebrew); then again".to_owned()]
                }
                _ => store.by_hand(self.subject, self.remove),
            };
            Outcome::Failed { trouble: error.to_string(), by_hand }
        })
    }

    /// What changes the store, with what was looked at.
    fn line(&self, store: &Store) -> Line {
        store.line(&Subject { path: self.copy, ..*self.subject }, self.remove)
    }

    /// A file of the system, and what gathers it. A file whose gathering failed is as if nothing had been done.
    fn gather(&self, store: &Store, file: &Path) -> io::Result<Outcome> {
        let before = match std::fs::read(file) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(named(error, file)),
        };
        let stands = before.as_deref() == Some(self.subject.pem.as_bytes());
        match (self.remove, &before) {
            (true, None) => return Ok(Outcome::Stood),
            (true, Some(_)) => std::fs::remove_file(file).map_err(|error| named(error, file))?,
            // Who put it there may not have come to gather it. Only root can see to that.
            (false, _) if stands && self.user != ROOT => return Ok(Outcome::Stood),
            (false, _) if stands => {}
            (false, _) => {
                write_public(file, self.subject.pem.as_bytes()).map_err(|error| named(error, file))?;
            }
        }
        match self.call(&self.line(store)) {
            Ok(_) if stands && !self.remove => Ok(Outcome::Stood),
            Ok(_) => Ok(Outcome::Done),
            Err(error) => {
                let undone = match &before {
                    Some(text) => write_public(file, text),
                    None => std::fs::remove_file(file),
                };
                undone.map_err(|error| named(error, file))?;
                Err(error)
            }
        }
    }

    fn database(&self, store: &Store, folder: &Path) -> io::Result<Outcome> {
        let look = certutil(&["-L", "-n", self.subject.name, "-r"], folder);
        let stands = match self.output(&look)? {
            found if found.status.success() => found.stdout == self.described.certificate.as_ref(),
            _ => false,
        };
        if stands != self.remove {
            return Ok(Outcome::Stood);
        }
        self.call(&self.line(store)).map(|_| Outcome::Done)
    }

    /// Calls a program that has to succeed.
    fn call(&self, line: &Line) -> io::Result<Output> {
        let output = self.output(line)?;
        if output.status.success() {
            return Ok(output);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it says nothing").trim();
        Err(io::Error::other(format!("`{}`: {said} ({})", line.join(" "), output.status)))
    }

    fn output(&self, line: &Line) -> io::Result<Output> {
        let (program, arguments) = line.split_first().map_or(("", &[][..]), |(first, rest)| (first, rest));
        let mut process = Process::new(program);
        if self.user == ROOT {
            // Nothing of what a user may have left in root's environment.
            process.env_clear();
        }
        process.args(arguments).env("PATH", programs(self.context.env.path.as_deref(), self.user));
        // Whoever asks for a password there is to fail, not to wait.
        process.stdin(Stdio::null()).output().map_err(|error| {
            let is_missing = error.kind() == ErrorKind::NotFound;
            let why = if is_missing {
                format!("there is no program `{program}`")
            } else {
                format!("`{program}`: {error}")
            };
            io::Error::new(error.kind(), why)
        })
    }

    fn as_root(&self) -> String {
        let program =
            std::env::current_exe().map_or_else(|_| "mytunnel".to_owned(), |path| path.display().to_string());
        let mut line = format!("sudo {} trust", shell_quoted(&program));
        if self.remove {
            line.push_str(" --remove");
        }
        // Infallible: a `String` takes everything.
        let _ = write!(line, " --ca {}", shell_quoted(&self.subject.path.display().to_string()));
        let foreign = self.described.domains.iter().filter(|domain| !is_of_this_machine(domain));
        for domain in foreign.filter(|_| !self.remove) {
            let _ = write!(line, " --domain {}", shell_quoted(domain));
        }
        line
    }
}

/// Where programs are looked for. What is not absolute would be found in whatever directory this is called from.
fn programs(path: Option<&OsStr>, user: u32) -> OsString {
    let system = ROOTS_PROGRAMS.join(":").into();
    if user == ROOT {
        return system;
    }
    let of_person = path.into_iter().flat_map(std::env::split_paths);
    let all = of_person.chain(MORE_PROGRAMS.map(Into::into)).filter(|folder| folder.is_absolute());
    std::env::join_paths(all).unwrap_or(system)
}

fn named(error: io::Error, file: &Path) -> io::Error {
    let is_roots = error.kind() == ErrorKind::PermissionDenied;
    let file = file.display();
    let why = if is_roots { format!("only root may change {file}") } else { format!("{file}: {error}") };
    io::Error::new(error.kind(), why)
}

#[cfg(test)]
mod tests;
