//! What changes between two versions of `relay.toml`: what a running relay takes, and what waits for its next start.

use super::RelayFile;

impl RelayFile {
    /// Keys that say something else in `newer`, and that a running relay takes.
    pub(crate) fn applied(&self, newer: &Self) -> Vec<&'static str> {
        let changed = [
            ("limits", self.limits.visitors() != newer.limits.visitors()),
            ("redirect_http", self.redirect_http != newer.redirect_http),
            ("trusted_proxies", self.trusted_proxies != newer.trusted_proxies),
            ("sign_in", self.sign_in != newer.sign_in),
            ("prices", self.prices != newer.prices),
        ];
        named(changed)
    }

    /// Keys that say something else in `newer`, and that wait for the next start.
    pub(crate) fn waiting(&self, newer: &Self) -> Vec<&'static str> {
        // Each key is named here, so that a new one is not forgotten.
        let Self {
            domain,
            data,
            http,
            https,
            acme,
            acme_directory,
            acme_directory_ca,
            acme_dns_hook,
            acme_dns,
            redirect_http: _,
            passthrough,
            access_log,
            access_log_format,
            otlp,
            trace_share,
            metrics,
            p2p,
            ports,
            console,
            coordinator,
            join,
            trusted_proxies: _,
            mail_command,
            name_servers,
            metrics_token,
            limits,
            prices: _,
            sign_in: _,
        } = self;
        let mut waiting = named([
            ("domain", *domain != newer.domain),
            ("data", *data != newer.data),
            ("http", *http != newer.http),
            ("https", *https != newer.https),
            ("acme", *acme != newer.acme),
            ("acme_directory", *acme_directory != newer.acme_directory),
            ("acme_directory_ca", *acme_directory_ca != newer.acme_directory_ca),
            ("acme_dns_hook", *acme_dns_hook != newer.acme_dns_hook),
            ("acme_dns", *acme_dns != newer.acme_dns),
            ("passthrough", *passthrough != newer.passthrough),
            ("access_log", *access_log != newer.access_log),
            ("access_log_format", *access_log_format != newer.access_log_format),
            ("otlp", *otlp != newer.otlp),
            ("trace_share", *trace_share != newer.trace_share),
            ("metrics", *metrics != newer.metrics),
            ("p2p", *p2p != newer.p2p),
            ("ports", *ports != newer.ports),
            ("console", *console != newer.console),
            ("coordinator", *coordinator != newer.coordinator),
            ("join", *join != newer.join),
            ("mail_command", *mail_command != newer.mail_command),
            ("name_servers", *name_servers != newer.name_servers),
            ("metrics_token", *metrics_token != newer.metrics_token),
        ]);
        waiting.extend(limits.waiting(&newer.limits));
        waiting
    }

    /// Takes from `newer` what a running relay takes.
    pub(crate) fn take(&mut self, newer: Self) {
        self.limits.take(newer.limits);
        self.redirect_http = newer.redirect_http;
        self.trusted_proxies = newer.trusted_proxies;
        self.sign_in = newer.sign_in;
        self.prices = newer.prices;
    }
}

pub(super) fn named<const N: usize>(changed: [(&'static str, bool); N]) -> Vec<&'static str> {
    changed.into_iter().filter_map(|(key, changed)| changed.then_some(key)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> RelayFile {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn what_a_running_relay_takes_is_told_from_what_waits() {
        let mut running = file("domain = 't.example'\n[limits]\nhead_bytes = 1024\nnodes = 5\n");
        let newer = file(
            "domain = 'u.example'\ntrusted_proxies = ['10.0.0.1']\n[limits]\nhead_bytes = 2048\nnodes = 6\n[prices]\ngib = 1\n",
        );
        assert_eq!(running.applied(&newer), ["limits", "trusted_proxies", "prices"]);
        assert_eq!(running.waiting(&newer), ["domain", "limits.nodes"]);
        running.take(newer.clone());
        assert_eq!(running.applied(&newer), [""; 0]);
        assert_eq!(running.waiting(&newer), ["domain", "limits.nodes"], "it still waits");
        assert_eq!(running.limits.relay().connections, 5);
        assert_eq!(running.limits.relay().ingress.head_bytes, 2048);
    }

    #[test]
    fn a_limit_of_nodes_alone_is_none_of_visitors() {
        let (before, newer) = (file("[limits]\nnodes = 5\n"), file("[limits]\nudp_idle = '9s'\n"));
        assert_eq!(before.applied(&newer), [""; 0]);
        assert_eq!(before.waiting(&newer), ["limits.udp_idle", "limits.nodes"]);
        assert_eq!(before.waiting(&before), [""; 0]);
    }
}
