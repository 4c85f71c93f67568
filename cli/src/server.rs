//! Addresses of coordinators as people type them.

use std::net::{IpAddr, ToSocketAddrs};

use mytunnel_keys::token::ServerUrl;

use crate::failure::Failure;

/// Reads a server's address. `relay.example` alone means `https://relay.example`, and a name of this machine `http`.
pub(crate) fn parse(text: &str) -> Result<ServerUrl, Failure> {
    let text = text.trim();
    let url = if text.contains("://") {
        text.parse()
    } else {
        let scheme = if is_this_machine(text) { "http" } else { "https" };
        format!("{scheme}://{text}").parse()
    };
    url.map_err(|error| {
        if let Some(server) = without_path(text) {
            return Failure::usage(
                format!("`{text}` is more than a server's address"),
                format!("Leave the path away: {server}. Write it like https://relay.example."),
            );
        }
        Failure::usage(
            format!("`{text}` is not a server's address: {error}"),
            "Write it like https://relay.example.",
        )
    })
}

/// The address before the path, where that alone would be one.
fn without_path(text: &str) -> Option<ServerUrl> {
    let host = text.find("://").map_or(0, |at| at + "://".len());
    let end = host + text.get(host..)?.find(['/', '?'])?;
    parse(text.get(..end)?).ok()
}

/// A password sent there can be read on the way: plain HTTP to another machine.
pub(crate) fn is_exposed(server: &ServerUrl) -> bool {
    !server.is_https() && !is_this_machine(server.authority()) && !leads_here(server)
}

/// Whether the name is one of this machine's (in `/etc/hosts`, say).
fn leads_here(server: &ServerUrl) -> bool {
    let found = (host(server.authority()), 80).to_socket_addrs().map(Vec::from_iter).unwrap_or_default();
    !found.is_empty() && found.iter().all(|address| address.ip().is_loopback())
}

/// The host of a host and port.
pub(crate) fn host(authority: &str) -> &str {
    match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => authority.split([':', '/']).next().unwrap_or(authority),
    }
}

/// Whether this is a name that every machine has for itself.
pub(crate) fn is_this_machine(authority: &str) -> bool {
    let host = host(authority);
    let loopback = host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    loopback || host == "localhost" || host.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_alone_gets_the_scheme_that_fits() {
        let of = |text| parse(text).unwrap().to_string();
        assert_eq!(of(" HTTP://Relay.Example:8080/ "), "http://relay.example:8080");
        assert_eq!(of("relay.example"), "https://relay.example");
        assert_eq!(of("localhost:8080/"), "http://localhost:8080");
        assert_eq!(of("[::1]:8080"), "http://[::1]:8080");
    }

    #[test]
    fn what_is_no_address_is_refused_with_an_example() {
        for bad in
            ["", "https://", "ftp://a", "https://a/b", "https://a?b", "http://:80", "a b", "http://u@h"]
        {
            let failure = parse(bad).unwrap_err();
            assert_eq!(failure.exit_code(), 2, "{bad}");
            assert!(failure.help().contains("https://relay.example"), "{bad}");
        }
    }

    #[test]
    fn an_address_may_pin_its_authority() {
        let pinned = "https://relay.example#ca=00112233445566778899aabbccddeeff";
        assert_eq!(parse(pinned).unwrap().as_str(), pinned);
        assert_eq!(parse(&pinned["https://".len()..]).unwrap().as_str(), pinned);
        let cut = parse(&pinned[..pinned.len() - 1]).unwrap_err();
        assert!(cut.message().contains("32 hexadecimal digits"), "{cut:?}");
        assert!(!cut.help().contains("Leave"), "{cut:?}");
    }

    #[test]
    fn a_path_is_to_be_left_away() {
        let help = |text| parse(text).unwrap_err().help().to_owned();
        assert!(help("http://host:1/path").starts_with("Leave the path away: http://host:1."));
        assert!(help("relay.example/console").starts_with("Leave the path away: https://relay.example."));
        assert!(!help("ftp://a/b").contains("path"));
    }

    #[test]
    fn only_plain_http_to_another_machine_is_exposed() {
        let exposed = |text| is_exposed(&parse(text).unwrap());
        assert!(exposed("http://relay.invalid"));
        assert!(exposed("http://localhost.evil.invalid"));
        assert!(!exposed("https://relay.invalid"));
        assert!(!exposed("http://localhost:8080"));
        assert!(!exposed("http://console.localhost"));
        assert!(!exposed("http://127.0.0.1:1"));
        assert!(!exposed("http://[::1]:1"));
    }
}
