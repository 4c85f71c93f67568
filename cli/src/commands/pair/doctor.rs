//! `pair doctor`: what may keep agents from finding each other, each with its remedy.

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;

use mytunnel_pairing::api::{Place, Request};
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
/// The name of that look.
const PORTS: &str = "ports";
const BY_MASTER: &str = "that of MTK_MASTER, which is not asked here (`mytunnel pair open --relay` does)";

pub(crate) fn run(context: &Context) -> Result<(), Failure> {
    let (process, places) = process(context);
    let ports = listen(context).and_then(|said| ports(&said, places.as_deref()));
    let ports = ports.unwrap_or_else(|failure| Check::of(PORTS, &failure));
    let mut checks = vec![process, ports];
    checks.push(addresses(&own_addresses()));
    let heard = block_on(async { Ok::<_, Failure>(hears_itself(free_port()).await) })?;
    checks.push(multicast(heard));
    checks.push(firewall(firewall_of(Path::new("/")), context.env.pair_listen.as_deref()));
    checks.extend(relay_and_clock(context));
    tell(&checks, "keeps agents from this machine's sessions", context.report)
}

/// Whether the process with the sessions answers, or could be started, and where it listens.
fn process(context: &Context) -> (Check, Option<Vec<Place>>) {
    const NAME: &str = "process";
    match client::ask_or_start(&Request::Status { session: None, reader: String::new() }, context) {
        Ok(status) => {
            let open = status["sessions"].as_array().into_iter().flatten();
            let open = open.filter(|one| one["state"] != "closed").count();
            let sessions = if open == 1 { "session is" } else { "sessions are" };
            let check = Check::ok(NAME, format!("answers; {open} {sessions} open"));
            (check, serde_json::from_value(status["listens"].clone()).ok())
        }
        Err(failure) => (Check::of(NAME, &failure), None),
    }
}

/// Whether peers are listened for where they are to be: where was `said` here, or else to who started the process.
fn ports(said: &[SocketAddr], places: Option<&[Place]>) -> Result<Check, Failure> {
    for socket in said {
        let foreign = SocketAddr::new(socket.ip(), 0);
        TcpListener::bind(foreign).and_then(|_| UdpSocket::bind(foreign)).map_err(|error| {
            let message = format!("{} cannot be listened on: {error}", socket.ip());
            Failure::local(message, "MYTUNNEL_PAIR_LISTEN has to name an address of this machine.")
        })?;
    }
    let Some(places) = places else {
        return Ok(Check::new(PORTS, State::Skipped, "there is no process to be asked where it listens"));
    };
    let listens: Vec<String> = places.iter().filter_map(ports_of).collect();
    let listens = if listens.is_empty() { "nowhere".to_owned() } else { listens.join(", ") };
    if !said.is_empty() && !said.iter().eq(places.iter().map(|place| &place.at)) {
        let message = format!("the process listens elsewhere than MYTUNNEL_PAIR_LISTEN says: {listens}");
        let help = "It reads that when it starts. Close its sessions: one that is started some seconds later listens there.";
        return Ok(Check::warning(PORTS, message, help));
    }
    let is_deaf = |place: &&Place| place.tcp.is_none() || place.udp.is_none();
    // Of any ports some are found, and a machine without IPv6 has none of those.
    if let Some(deaf) = places.iter().filter(is_deaf).find(|place| place.at.port() != 0) {
        let what = if deaf.tcp.is_none() { "TCP" } else { "UDP" };
        let message = format!("{} is not listened on by {what}: another program may have it", deaf.at);
        let help = "End that program, or name another port in MYTUNNEL_PAIR_LISTEN. Then close the sessions, and wait some seconds.";
        return Ok(Check::warning(PORTS, message, help));
    }
    Ok(match listens.as_str() {
        "nowhere" => Check::warning(PORTS, "no peer is listened for", "Connect this machine to a network."),
        listens => Check::ok(PORTS, listens),
    })
}

/// At an address, as a firewall wants to know it.
fn ports_of(place: &Place) -> Option<String> {
    let named = [("TCP", place.tcp), ("UDP", place.udp)];
    let named: Vec<String> =
        named.iter().filter_map(|(what, port)| port.map(|port| format!("{what} {port}"))).collect();
    (!named.is_empty()).then(|| format!("{} at {}", named.join(" and "), place.at.ip()))
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
        "Set MYTUNNEL_PAIR_LISTEN=0.0.0.0:4900, and let that port in by TCP and UDP, and UDP 5353 for codes. Guests of other \
         networks then have no direct path: all of it goes through the relay, and is charged."
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
        Ok((None, _)) => return [Check::new(RELAY, State::Skipped, BY_MASTER), alone],
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
        assert!(told.help.contains("no direct path"));
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
        assert_eq!(ports(&["127.0.0.1:0".parse().unwrap()], None).unwrap().state, State::Skipped);
        let foreign = ports(&["192.0.2.1:4900".parse().unwrap()], None).unwrap_err();
        assert!(foreign.message().contains("192.0.2.1"), "{}", foreign.message());
    }

    #[test]
    fn a_process_that_listens_elsewhere_or_not_at_all_is_told_of() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let place = |text, tcp, udp| Place { at: at(text), tcp, udp };
        let any = [place("0.0.0.0:0", Some(5000), Some(5001)), place("[::]:0", None, None)];
        let told = ports(&[], Some(&any)).unwrap();
        assert_eq!((told.state, told.message.as_str()), (State::Ok, "TCP 5000 and UDP 5001 at 0.0.0.0"));
        // Started by somebody with the variable, or without.
        let named = [place("127.0.0.1:4900", Some(4900), Some(4900))];
        assert_eq!(ports(&[], Some(&named)).unwrap().state, State::Ok);
        assert_eq!(ports(&[at("127.0.0.1:4900")], Some(&named)).unwrap().state, State::Ok);
        let told = ports(&[at("127.0.0.1:4900")], Some(&any)).unwrap();
        assert!(told.state == State::Warning && told.message.contains("TCP 5000"), "{}", told.message);
        let deaf = [place("127.0.0.1:4900", None, Some(4900))];
        let told = ports(&[], Some(&deaf)).unwrap();
        assert!(told.state == State::Warning && told.message.contains("4900 is not"), "{}", told.message);
        assert_eq!(ports(&[], Some(&any[1..])).unwrap().state, State::Warning);
    }
}
