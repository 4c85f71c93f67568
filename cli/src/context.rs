//! What every command is given: how to talk, and what the surroundings say.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::config::{self, PersonFile};
use crate::environment::Environment;
use crate::failure::Failure;
use crate::places::ConfigDir;
use crate::report::Report;

/// The surroundings of one run.
pub(crate) struct Context {
    pub(crate) env: Environment,
    pub(crate) report: Report,
}

impl Context {
    pub(crate) fn config_dir(&self) -> Result<ConfigDir, Failure> {
        Ok(ConfigDir::resolve(&self.env)?)
    }

    /// The person's defaults, which may be absent.
    pub(crate) fn person_file(&self) -> Result<PersonFile, Failure> {
        Ok(config::load_optional(&self.config_dir()?.settings_file())?)
    }
}

/// Seconds of the Unix epoch, by this machine's clock.
pub(crate) fn now() -> u64 {
    // A clock before 1970 is as wrong as one in 1970; both make every key invalid, with a message that says so.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Random bytes of the system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::local(format!("the system gives no random numbers: {error}"), ""))?;
    Ok(bytes)
}
