//! Where mytunnel keeps things: one directory of configuration and credentials, one of a relay's data.
//!
//! ```text
//! CONFIG_DIR/mytunnel.toml        defaults, written by people
//! CONFIG_DIR/logins/HOST.json     a signed-in server: device seed and certificate (0600)
//! CONFIG_DIR/logins/current       the server that was signed in to last
//! CONFIG_DIR/keys/SERIAL.seed     the secret of a key bound to this machine (0600)
//! CONFIG_DIR/servers/HOST.json    where a server's relays are; lets a node start while it is down
//! CONFIG_DIR/names.secret         makes the names of this user's shares stable
//! CONFIG_DIR/e2e/                 account, certificates and keys of `share --e2e` (0600)
//! CONFIG_DIR/run/PID.sock         control socket of a running share or relay (0600)
//! CONFIG_DIR/pair/daemon.sock     control socket of the daemon that holds this user's sessions of agents (0600)
//! DATA_DIR/                       database and keys of `mytunnel relay`
//! DATA_DIR/inbox/SESSION/         files that were received of paired agents (0600)
//! ```

use std::path::PathBuf;

use mytunnel_keys::token::ServerUrl;

use crate::environment::Environment;

/// The configuration directory and the paths in it.
#[derive(Debug, Clone)]
pub(crate) struct ConfigDir(PathBuf);

/// Neither `HOME` nor an explicit directory is set.
#[derive(Debug, thiserror::Error)]
#[error("no home directory: HOME is not set")]
pub(crate) struct NoHome;

impl ConfigDir {
    /// `MYTUNNEL_CONFIG_DIR`, else `$XDG_CONFIG_HOME/mytunnel`, else `~/.config/mytunnel`.
    pub(crate) fn resolve(env: &Environment) -> Result<Self, NoHome> {
        if let Some(dir) = &env.config_dir {
            return Ok(Self(dir.clone()));
        }
        let base = env.xdg_config_home.clone().or_else(|| env.home.as_ref().map(|home| home.join(".config")));
        base.map(|base| Self(base.join("mytunnel"))).ok_or(NoHome)
    }

    pub(crate) fn settings_file(&self) -> PathBuf {
        self.0.join("mytunnel.toml")
    }

    pub(crate) fn login(&self, server: &ServerUrl) -> PathBuf {
        self.0.join("logins").join(file_stem(server) + ".json")
    }

    pub(crate) fn current_login(&self) -> PathBuf {
        self.0.join("logins/current")
    }

    /// `serial` is the hexadecimal text of a key's serial.
    pub(crate) fn seed(&self, serial: &str) -> PathBuf {
        self.0.join("keys").join(format!("{serial}.seed"))
    }

    pub(crate) fn server_cache(&self, server: &ServerUrl) -> PathBuf {
        self.0.join("servers").join(file_stem(server) + ".json")
    }

    pub(crate) fn names_secret(&self) -> PathBuf {
        self.0.join("names.secret")
    }

    /// What `share --e2e` keeps.
    pub(crate) fn end_to_end(&self) -> PathBuf {
        self.0.join("e2e")
    }

    /// What the daemon of `mytunnel pair` keeps.
    pub(crate) fn pairing(&self) -> PathBuf {
        self.0.join("pair")
    }

    pub(crate) fn run(&self) -> PathBuf {
        self.0.join("run")
    }
}

/// `$XDG_DATA_HOME/mytunnel`, else `~/.local/share/mytunnel`.
pub(crate) fn default_data_dir(env: &Environment) -> Result<PathBuf, NoHome> {
    let base = env.xdg_data_home.clone().or_else(|| env.home.as_ref().map(|home| home.join(".local/share")));
    base.map(|base| base.join("mytunnel")).ok_or(NoHome)
}

fn file_stem(server: &ServerUrl) -> String {
    let scheme = if server.is_https() { "" } else { "http_" };
    format!("{scheme}{}", server.authority().replace([':', '[', ']'], "_"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_explicit_directory_wins_then_xdg_then_home() {
        let home = Environment { home: Some("/home/u".into()), ..Environment::default() };
        assert_eq!(ConfigDir::resolve(&home).unwrap().0, Path::new("/home/u/.config/mytunnel"));
        assert_eq!(default_data_dir(&home).unwrap(), Path::new("/home/u/.local/share/mytunnel"));

        let xdg = Environment { xdg_config_home: Some("/x".into()), ..home };
        assert_eq!(ConfigDir::resolve(&xdg).unwrap().0, Path::new("/x/mytunnel"));

        let explicit = Environment { config_dir: Some("/e".into()), ..xdg };
        assert_eq!(ConfigDir::resolve(&explicit).unwrap().0, Path::new("/e"));
        assert!(ConfigDir::resolve(&Environment::default()).is_err());
    }

    #[test]
    fn two_servers_never_share_a_file() {
        let dir = ConfigDir("/c".into());
        let of = |text: &str| dir.login(&text.parse().unwrap());
        assert_eq!(of("https://a.example:8443"), Path::new("/c/logins/a.example_8443.json"));
        assert_ne!(of("http://a.example"), of("https://a.example"));
    }
}
