//! The log, on stderr: what went on inside, for those who ask with `MYTUNNEL_LOG`.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::environment::Environment;

/// Nothing but warnings; the libraries below us warn about what our own messages say better.
const DEFAULT: &str =
    "warn,libp2p=error,libp2p_swarm=error,libp2p_relay=error,quinn=error,hyper=error,ureq=error";

/// Whoever was told that something is wrong is told when it is over, too.
const OPERATOR: &str = ",mytunnel_relay=info";

/// The relay of one share has no operator who could do something about its warnings.
const NO_OPERATOR: &str = ",mytunnel_relay=error,mytunnel_coordinator=error";

/// Sets the log up. Directives that cannot be read are told about, and the default stands.
pub(crate) fn init(env: &Environment, has_operator: bool) -> Result<(), String> {
    let default = default_directives(has_operator);
    let (filter, trouble) = match env.log.as_deref().map(EnvFilter::try_new) {
        None => (EnvFilter::new(&default), None),
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => {
            (EnvFilter::new(&default), Some(format!("MYTUNNEL_LOG was not understood: {error}")))
        }
    };
    let color = std::io::stderr().is_terminal() && !env.no_color;
    // A second run in the same process (tests) keeps the log of the first.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(color)
        .try_init();
    trouble.map_or(Ok(()), Err)
}

fn default_directives(has_operator: bool) -> String {
    [DEFAULT, if has_operator { OPERATOR } else { NO_OPERATOR }].concat()
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::filter::LevelFilter;

    use super::*;

    #[test]
    fn an_operator_reads_also_what_is_well_again() {
        let most = |has_operator| EnvFilter::new(default_directives(has_operator)).max_level_hint();
        assert_eq!(most(true), Some(LevelFilter::INFO));
        assert_eq!(most(false), Some(LevelFilter::WARN));
    }
}
