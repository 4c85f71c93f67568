//! The process environment, read once.
//!
//! Everything mytunnel takes from outside its arguments and files is in [`Environment`]; the rest of the
//! program never asks the process again, so that a test can say exactly what a run sees.

use std::ffi::OsString;
use std::path::PathBuf;

use mytunnel_carrier::websocket::Proxies;
use zeroize::Zeroizing;

use crate::failure::Failure;

/// What the surroundings say. Empty variables count as unset.
#[derive(Default)]
pub(crate) struct Environment {
    /// `MTK_MASTER`: a project's master key.
    pub(crate) master: Option<Zeroizing<String>>,
    /// `MYTUNNEL_AUTH_TOKEN`: the child key to share with.
    pub(crate) auth_token: Option<Zeroizing<String>>,
    /// `MYTUNNEL_PASSWORD`: the account's password, for scripts.
    pub(crate) password: Option<Zeroizing<String>>,
    /// `MYTUNNEL_TOTP`: six digits of the authenticator, or a recovery code, for scripts.
    pub(crate) totp: Option<Zeroizing<String>>,
    /// `MYTUNNEL_TUNNEL_PASSWORD`: the password that a tunnel asks of visitors.
    pub(crate) tunnel_password: Option<Zeroizing<String>>,
    /// `MYTUNNEL_TUNNEL_PIN`: the number that a tunnel asks of visitors.
    pub(crate) tunnel_pin: Option<Zeroizing<String>>,
    /// `MYTUNNEL_TUNNEL_TOKEN`: the token with which a tunnel lets programs in.
    pub(crate) tunnel_token: Option<Zeroizing<String>>,
    /// `MYTUNNEL_TICKET`: the ticket to reach a private share with.
    pub(crate) ticket: Option<Zeroizing<String>>,
    /// `MYTUNNEL_PAIR_SECRET`: the invite to join a session with.
    pub(crate) pair_secret: Option<Zeroizing<String>>,
    /// `MYTUNNEL_PAIR_LISTEN`: where sessions listen for peers.
    pub(crate) pair_listen: Option<String>,
    /// `USER`: who this is, by the system's word.
    pub(crate) user: Option<String>,
    /// `PGPASSWORD`: the password for a PostgreSQL server.
    pub(crate) postgres_password: Option<Zeroizing<String>>,
    /// `MYTUNNEL_PROJECT`.
    pub(crate) project: Option<String>,
    /// `MYTUNNEL_SERVER`: base URL of the coordinator.
    pub(crate) server: Option<String>,
    /// `MYTUNNEL_CONFIG_DIR`.
    pub(crate) config_dir: Option<PathBuf>,
    /// `MYTUNNEL_LOG`: tracing directives.
    pub(crate) log: Option<String>,
    /// `XDG_CONFIG_HOME`, if absolute.
    pub(crate) xdg_config_home: Option<PathBuf>,
    /// `XDG_DATA_HOME`, if absolute.
    pub(crate) xdg_data_home: Option<PathBuf>,
    /// `HOME`.
    pub(crate) home: Option<PathBuf>,
    /// `PATH`.
    pub(crate) path: Option<OsString>,
    /// `HTTPS_PROXY`, else an `ALL_PROXY` of HTTP, also in small letters: by which HTTPS leads out, and which of them says so.
    pub(crate) https_proxy: Option<(&'static str, String)>,
    /// `NO_PROXY`, also in small letters: where it does not.
    pub(crate) no_proxy: Option<String>,
    /// `NO_COLOR` is set (<https://no-color.org>), or `TERM` is `dumb`.
    pub(crate) no_color: bool,
}

impl Environment {
    /// Reads the environment of this process.
    pub(crate) fn of_process() -> Self {
        let mut env = Self::from_lookup(|name| std::env::var_os(name));
        // It stays where it is, wherever this process may go.
        env.config_dir = env.config_dir.map(|path| std::path::absolute(&path).unwrap_or(path));
        env
    }

    fn from_lookup(lookup: impl Fn(&str) -> Option<OsString>) -> Self {
        let raw = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let text = |name: &str| raw(name).map(|value| value.to_string_lossy().trim().to_owned());
        let secret = |name: &str| text(name).map(Zeroizing::new);
        let path = |name: &str| raw(name).map(PathBuf::from);
        // The base directory specification: a relative path is to be ignored.
        let xdg = |name: &str| path(name).filter(|path| path.is_absolute());
        Self {
            master: secret("MTK_MASTER"),
            auth_token: secret("MYTUNNEL_AUTH_TOKEN"),
            password: raw("MYTUNNEL_PASSWORD")
                .map(|value| Zeroizing::new(value.to_string_lossy().into_owned())),
            totp: secret("MYTUNNEL_TOTP"),
            tunnel_password: raw("MYTUNNEL_TUNNEL_PASSWORD")
                .map(|value| Zeroizing::new(value.to_string_lossy().into_owned())),
            tunnel_pin: secret("MYTUNNEL_TUNNEL_PIN"),
            tunnel_token: secret("MYTUNNEL_TUNNEL_TOKEN"),
            ticket: secret("MYTUNNEL_TICKET"),
            pair_secret: secret("MYTUNNEL_PAIR_SECRET"),
            pair_listen: text("MYTUNNEL_PAIR_LISTEN"),
            user: text("USER"),
            postgres_password: raw("PGPASSWORD")
                .map(|value| Zeroizing::new(value.to_string_lossy().into_owned())),
            project: text("MYTUNNEL_PROJECT"),
            server: text("MYTUNNEL_SERVER"),
            config_dir: path("MYTUNNEL_CONFIG_DIR"),
            log: text("MYTUNNEL_LOG"),
            xdg_config_home: xdg("XDG_CONFIG_HOME"),
            xdg_data_home: xdg("XDG_DATA_HOME"),
            home: path("HOME"),
            path: raw("PATH"),
            https_proxy: ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]
                .into_iter()
                .find_map(|name| Some((name, text(name).filter(|proxy| is_of_https(name, proxy))?))),
            no_proxy: ["NO_PROXY", "no_proxy"].into_iter().find_map(text),
            no_color: raw("NO_COLOR").is_some() || text("TERM").as_deref() == Some("dumb"),
        }
    }

    /// The proxies by which a relay may be reached.
    pub(crate) fn proxies(&self) -> Result<Proxies, Failure> {
        let Some((name, proxy)) = &self.https_proxy else { return Ok(Proxies::none()) };
        // What it says stays unsaid: it may hold a password.
        Proxies::new(proxy, self.no_proxy.as_deref().unwrap_or_default()).map_err(|_| {
            Failure::usage(
                format!("{name} names no proxy"),
                format!("Write it as http://HOST:PORT, or http://USER:PASSWORD@HOST:PORT with % and two hex digits for each of / # ? @ : in the password (%2F for /); or unset {name}."),
            )
        })
    }
}

/// `ALL_PROXY` often names one for sockets (SOCKS), which is none of HTTPS.
fn is_of_https(name: &str, proxy: &str) -> bool {
    let is_of_all = name.eq_ignore_ascii_case("ALL_PROXY");
    !is_of_all || !proxy.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("socks"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Environment {
        Environment::from_lookup(|name| {
            pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn an_empty_variable_is_unset() {
        let env = of(&[("MYTUNNEL_SERVER", ""), ("NO_COLOR", "")]);
        assert_eq!(env.server, None);
        assert!(!env.no_color);
    }

    #[test]
    fn tokens_lose_the_newline_of_a_file_but_a_password_keeps_its_spaces() {
        let env = of(&[("MYTUNNEL_AUTH_TOKEN", "mtk_child_x\n"), ("MYTUNNEL_PASSWORD", " two words ")]);
        assert_eq!(env.auth_token.unwrap().as_str(), "mtk_child_x");
        assert_eq!(env.password.unwrap().as_str(), " two words ");
    }

    #[test]
    fn the_proxy_of_https_goes_before_that_of_all() {
        let both =
            of(&[("all_proxy", "http://all:1"), ("https_proxy", "http://https:2"), ("no_proxy", "a.test")]);
        assert_eq!(
            (both.https_proxy, both.no_proxy.as_deref()),
            (Some(("https_proxy", "http://https:2".to_owned())), Some("a.test"))
        );
        let of_https = |name: &str, proxy: &str| of(&[(name, proxy)]).https_proxy.map(|(_, proxy)| proxy);
        assert_eq!(of_https("ALL_PROXY", "http://all:1").as_deref(), Some("http://all:1"));
        assert_eq!(of_https("HTTP_PROXY", "http://plain:1"), None);
        assert_eq!(of_https("all_proxy", "socks5h://all:1"), None, "that is no reason not to dial");
        assert!(of_https("HTTPS_PROXY", "socks5h://all:1").is_some(), "that is one to be told of");
    }

    #[test]
    fn a_proxy_that_cannot_be_read_is_named_by_its_variable_without_its_password() {
        let failure = of(&[("https_proxy", "http://ann:secret/word@proxy:3128")]).proxies().unwrap_err();
        let told = format!("{} {}", failure.message(), failure.help());
        assert!(told.contains("https_proxy") && told.contains("http://HOST:PORT"), "{told}");
        assert!(!told.contains("secret"), "{told}");
        assert!(of(&[("https_proxy", "http://ann:secret%2Fword@proxy:3128")]).proxies().is_ok());
        assert!(of(&[]).proxies().is_ok());
    }

    #[test]
    fn a_relative_xdg_directory_is_ignored() {
        assert_eq!(of(&[("XDG_CONFIG_HOME", "config")]).xdg_config_home, None);
        assert!(of(&[("XDG_CONFIG_HOME", "/c")]).xdg_config_home.is_some());
    }

    #[test]
    fn a_dumb_terminal_gets_no_colour() {
        assert!(of(&[("TERM", "dumb")]).no_color);
        assert!(of(&[("NO_COLOR", "1")]).no_color);
        assert!(!of(&[("TERM", "xterm")]).no_color);
    }
}
