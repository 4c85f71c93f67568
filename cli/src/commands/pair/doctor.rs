//! `pair doctor`: what may keep agents from finding each other, each with its remedy.

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;

use mytunnel_pairing::api::Request;
use mytunnel_pairing::daemon::{NoMulticast, hears_itself};

use super::client;
use super::daemon::listen;
use super::relay::has_credentials;
use crate::bootstrap;
use crate::commands::doctor::{Check, State, tell};
use crate::context::Context;
use crate::credentials::Login;
use crate::failure::{Failure, chain};
use crate::runtime::block_on;
use crate::session::wanted_server;

/// Where firewalls of Linux say that they are on.
const UFW: &str = "/etc/ufw/ufw.conf";
const FIREWALLD: &str = "/run/firewalld";

pub(crate) fn run(context: &Context) -> Result<(), Failure> {
    let mut checks = vec![process(context)];
    let places = listen(context).and_then(|at| ports(&at));
    checks.push(match &places {
        Ok(check) => check.clone(),
        Err(failure) => Check::of("ports", failure),
    });
    checks.push(addresses(&own_addresses()));
    let heard = block_on(async { Ok::<_, Failure>(hears_itself(free_port()).await) })?;
    checks.push(multicast(heard));
    checks.push(firewall(firewall_of(Path::new("/")), context.env.pair_listen.as_deref()));
    checks.extend(relay_and_clock(context));
    tell(&checks, "keeps agents from this machine's sessions", context.report)
}

/// Whether the process with the sessions answers, or could be started.
fn process(context: &Context) -> Check {
    const NAME: &str = "process";
    match client::ask_or_start(&Request::Status { session: None, reader: String::new() }, context) {
        Ok(status) => {
            let open = status["sessions"].as_array().into_iter().flatten();
            let open = open.filter(|one| one["state"] != "closed").count();
            Check::ok(NAME, format!("answers; {open} sessions are open"))
        }
        Err(failure) => Check::of(NAME, &failure),
    }
}

/// Whether peers could be listened for. What the process listens at is its own already.
fn ports(at: &[SocketAddr]) -> Result<Check, Failure> {
    const NAME: &str = "ports";
    if at.is_empty() {
        return Ok(Check::ok(NAME, "free ones of TCP and UDP, on all addresses"));
    }
    for socket in at {
        let foreign = SocketAddr::new(socket.ip(), 0);
        TcpListener::bind(foreign).and_then(|_| UdpSocket::bind(foreign)).map_err(|error| {
            let message = format!("{} cannot be listened on: {error}", socket.ip());
            Failure::local(message, "MYTUNNEL_PAIR_LISTEN has to name an address of this machine.")
        })?;
    }
    let shown: Vec<String> = at.iter().map(SocketAddr::to_string).collect();
    Ok(Check::ok(NAME, format!("TCP and UDP at {} (MYTUNNEL_PAIR_LISTEN)", shown.join(", "))))
}

fn own_addresses() -> Vec<IpAddr> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let mut own: Vec<IpAddr> = interfaces.iter().map(if_addrs::Interface::ip).collect();
    own.sort_unstable();
    own.dedup();
    own
}

/// What a link could say.
fn addresses(own: &[IpAddr]) -> Check {
    const NAME: &str = "addresses";
    let leads = |ip: &&IpAddr| match ip {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local(),
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local(),
    };
    let usable: Vec<String> = own.iter().filter(leads).map(ToString::to_string).collect();
    if usable.is_empty() {
        let help = "Connect it to a network; agents on this very machine find each other without.";
        return Check::warning(NAME, "this machine is in no network", help);
    }
    Check::ok(NAME, usable.join(", "))
}

fn multicast(heard: Result<bool, NoMulticast>) -> Check {
    const NAME: &str = "multicast";
    let help =
        "Links need none of it; a guest with a code gives `--addr IP:PORT`, which `pair open --code` prints.";
    match heard {
        Ok(true) => {
            Check::ok(NAME, "this machine hears its own record; whether others do, their network decides")
        }
        Ok(false) => Check::warning(NAME, "a record of this machine is not heard: codes find nobody", help),
        Err(error) => Check::warning(NAME, format!("{}: codes find nobody", chain(&error)), help),
    }
}

/// The firewall that is on, as far as can be told without being root.
fn firewall_of(root: &Path) -> Option<&'static str> {
    let inside = |path: &str| root.join(path.trim_start_matches('/'));
    let ufw = std::fs::read_to_string(inside(UFW)).unwrap_or_default();
    if ufw.lines().any(|line| line.trim().eq_ignore_ascii_case("enabled=yes")) {
        return Some("ufw");
    }
    inside(FIREWALLD).exists().then_some("firewalld")
}

fn firewall(found: Option<&str>, listens: Option<&str>) -> Check {
    const NAME: &str = "firewall";
    let Some(name) = found else {
        return Check::ok(
            NAME,
            "neither ufw nor firewalld is on; others can be told of from another machine only",
        );
    };
    let fixed = listens.is_some_and(|text| !text.split(',').any(|part| part.trim().ends_with(":0")));
    let help = if fixed {
        "Let the port of MYTUNNEL_PAIR_LISTEN in, by TCP and UDP, and UDP 5353 for codes."
    } else {
        "Set MYTUNNEL_PAIR_LISTEN=0.0.0.0:4900, and let that port in by TCP and UDP, and UDP 5353 for codes."
    };
    let message = format!("{name} is on: guests of this network come in only where it lets them");
    Check::warning(NAME, message, help)
}

/// Whether guests of other networks could come, and this clock by their coordinator's.
fn relay_and_clock(context: &Context) -> [Check; 2] {
    const RELAY: &str = "relay";
    const CLOCK: &str = "clock";
    let alone = Check::new(CLOCK, State::Skipped, "there is nobody to compare it with");
    match has_credentials(context) {
        Ok(true) => {}
        Ok(false) => {
            let message = "not signed in to one: guests of this network only (`mytunnel login URL`)";
            return [Check::new(RELAY, State::Skipped, message), alone];
        }
        Err(failure) => return [Check::of(RELAY, &failure), alone],
    }
    let login = context
        .config_dir()
        .and_then(|dir| Ok((Login::load(&dir, wanted_server(context, None)?.as_ref())?, dir)));
    let (login, dir) = match login {
        Ok((Some(login), dir)) => (login, dir),
        Ok((None, _)) => return [Check::ok(RELAY, "by MTK_MASTER"), alone],
        Err(failure) => return [Check::of(RELAY, &failure), alone],
    };
    let found = match bootstrap::fetch_or_recall(&dir, &login.server, &login.root) {
        Ok(found) => found,
        Err(failure) => return [Check::of(RELAY, &failure), alone],
    };
    let relay = match &found.outage {
        None => Check::ok(RELAY, format!("{} answers", login.server.base())),
        Some(outage) => Check::warning(RELAY, outage.message(), outage.help()),
    };
    let clock = match found.skew.complaint() {
        None if found.outage.is_some() => alone,
        None => Check::ok(CLOCK, "agrees with the coordinator's"),
        Some(complaint) => Check::failed(CLOCK, complaint, "Set it: timedatectl set-ntp true"),
    };
    [relay, clock]
}

/// One that nobody has at the moment, by which the record of this look is known.
fn free_port() -> u16 {
    let bound = UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| socket.local_addr());
    bound.map_or(1, |at| at.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_firewall_that_is_on_is_named_with_what_it_has_to_let_in() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(firewall_of(root.path()), None);
        assert_eq!(firewall(None, None).state, State::Ok);
        std::fs::create_dir_all(root.path().join("run/firewalld")).unwrap();
        assert_eq!(firewall_of(root.path()), Some("firewalld"));
        std::fs::create_dir_all(root.path().join("etc/ufw")).unwrap();
        let conf = root.path().join("etc/ufw/ufw.conf");
        std::fs::write(&conf, "# comment\nENABLED=no\n").unwrap();
        assert_eq!(firewall_of(root.path()), Some("firewalld"));
        std::fs::write(&conf, "# comment\nENABLED=yes\n").unwrap();
        assert_eq!(firewall_of(root.path()), Some("ufw"));
        let told = firewall(Some("ufw"), Some("0.0.0.0:0"));
        assert!(told.state == State::Warning && told.help.contains("MYTUNNEL_PAIR_LISTEN=0.0.0.0:4900"));
        assert!(!firewall(Some("ufw"), Some("0.0.0.0:4900")).help.contains("Set "));
    }

    #[test]
    fn a_machine_in_no_network_is_told_so_and_one_that_does_not_hear_itself_too() {
        let at = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(addresses(&[at("127.0.0.1"), at("169.254.1.1"), at("fe80::1")]).state, State::Warning);
        let there = addresses(&[at("127.0.0.1"), at("192.168.1.7")]);
        assert!(there.state == State::Ok && there.message == "192.168.1.7");
        assert_eq!(multicast(Ok(true)).state, State::Ok);
        let deaf = multicast(Ok(false));
        assert!(deaf.state == State::Warning && deaf.help.contains("--addr"));
    }

    #[test]
    fn an_address_of_another_machine_cannot_be_listened_on() {
        assert!(ports(&[]).is_ok() && ports(&["127.0.0.1:0".parse().unwrap()]).is_ok());
        let foreign = ports(&["192.0.2.1:4900".parse().unwrap()]).unwrap_err();
        assert!(foreign.message().contains("192.0.2.1"), "{}", foreign.message());
    }
}
