use std::collections::BTreeSet;

use super::*;
use crate::ingress::{deadline::Cut, failure::Failure};

/// Where the families are written down for people.
const BOOK: &str = include_str!("../../../docs/src/self-hosting.md");

fn metrics() -> Metrics {
    let (_, status) = watch::channel(Status::default());
    Metrics::new(Watched {
        crowds: Crowds::default(),
        routes: Routes::new(),
        lanes: Directory::default(),
        status,
        tally: Tally::default(),
        access_log: AccessLog::default(),
        acme: None,
        datagrams: Connections::default(),
        visitors: RwLock::default(),
        limits: Limits::default(),
    })
}

/// Names of the samples and their values, if the text is what OpenMetrics says: each family once, its type and its help
/// before its samples, whose names and labels are well formed, none twice, and an end.
fn parse(text: &str) -> Vec<(String, f64)> {
    let (mut families, mut samples, mut family) =
        (BTreeSet::new(), Vec::new(), (String::new(), String::new()));
    let body = text.strip_suffix("# EOF\n").expect("it ends with an end");
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(families.insert(name.to_owned()), "{name} comes twice");
            assert!(!help.trim_end_matches('.').is_empty(), "{name}");
            family = (name.to_owned(), String::new());
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, form) = rest.split_once(' ').unwrap();
            assert_eq!(name, family.0, "the type of another family");
            assert!(["gauge", "counter"].contains(&form), "{line}");
            form.clone_into(&mut family.1);
        } else {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            let name = sample.split('{').next().unwrap();
            let suffix = if family.1 == "counter" { "_total" } else { "" };
            assert_eq!(name, format!("{}{suffix}", family.0), "{line}");
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{line}");
            if let Some(labels) = sample.strip_prefix(name).filter(|labels| !labels.is_empty()) {
                let label = labels.strip_prefix('{').and_then(|labels| labels.strip_suffix("\"}")).unwrap();
                let (key, value) = label.split_once("=\"").unwrap();
                assert!(!key.is_empty() && !value.is_empty() && !value.contains(['"', '\\', '\n']), "{line}");
            }
            samples.push((sample.to_owned(), value.parse().unwrap()));
        }
    }
    let names: BTreeSet<_> = samples.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), samples.len(), "a sample comes twice in {text}");
    samples
}

fn value(samples: &[(String, f64)], name: &str) -> f64 {
    samples.iter().find(|(found, _)| found == name).unwrap_or_else(|| panic!("no {name} in {samples:?}")).1
}

#[test]
fn what_is_told_is_well_formed_and_what_was_counted() {
    let metrics = metrics();
    let at = |name: &str| value(&parse(&metrics.text()), name).to_string();
    assert_eq!(at(r#"mytunnel_visitors{of="connections"}"#), "0");
    assert_eq!(at(r#"mytunnel_relay_refusals_total{cause="PASSWORD_REQUIRED"}"#), "0", "before there is one");
    let seat = metrics.0.crowds.web.connect("192.0.2.1".parse().unwrap(), 9);
    let places = metrics.0.datagrams.enter_with(1000, ports::QUEUED, None).unwrap();
    metrics.0.tally.refused(Failure::PasswordRequired);
    metrics.0.tally.turned_away.add(3);
    metrics.0.tally.cut(Cut::Slow);
    assert_eq!(at(r#"mytunnel_visitors{of="connections"}"#), "1");
    assert_eq!(at("mytunnel_relay_datagram_bytes_waiting"), "1000");
    assert_eq!(at(r#"mytunnel_relay_refusals_total{cause="PASSWORD_REQUIRED"}"#), "1");
    assert_eq!(at("mytunnel_relay_turned_away_total"), "3");
    assert_eq!(at(r#"mytunnel_relay_cuts_total{for="slow"}"#), "1");
    assert_eq!(at(r#"mytunnel_relay_cuts_total{for="silent"}"#), "0");
    drop((seat, places));
    assert_eq!(at(r#"mytunnel_visitors{of="connections"}"#), "0");
    assert_eq!(at("mytunnel_relay_datagram_bytes_waiting"), "0");
}

#[test]
fn bounds_are_those_of_this_moment() {
    let metrics = metrics();
    let of =
        || value(&parse(&metrics.text()), r#"mytunnel_relay_limit{of="requests_per_tunnel"}"#).to_string();
    assert_eq!(of(), "2048");
    metrics.set_limits(&ingress::Limits { requests_per_tunnel: 7, ..ingress::Limits::default() });
    assert_eq!(of(), "7");
}

#[test]
fn whatever_waits_has_its_bound() {
    let rows = metrics().rows();
    let bounds: BTreeSet<_> = rows[0].values.iter().map(|(of, _)| *of).collect();
    let waiting = rows
        .iter()
        .filter_map(|row| row.name.strip_prefix("relay_").filter(|name| name.ends_with("_waiting")));
    // Each tunnel has its own bound of lanes, and idle pipes do.
    for name in waiting.filter(|name| *name != "lanes_waiting") {
        assert!(bounds.contains(name), "{name}");
    }
    let open = rows.iter().find(|row| row.name == "visitors").unwrap();
    assert!(open.values.iter().all(|(of, _)| bounds.contains(of) || *of == "requests"), "{open:?}");
}

#[test]
fn the_book_names_every_family_and_no_other() {
    let acme = [
        "acme_certificates",
        "acme_orders_under_way",
        "acme_new_names_this_week",
        "acme_orders",
        "acme_first_end_timestamp_seconds",
    ];
    let told = |row: &Row| {
        let suffix = if matches!(row.form, MetricType::Counter) { "_total" } else { "" };
        format!("mytunnel_{}{suffix}", row.name)
    };
    let mut families: BTreeSet<_> = metrics().rows().iter().map(told).collect();
    families.extend(
        acme.map(|name| {
            format!("mytunnel_relay_{name}{}", if name == "acme_orders" { "_total" } else { "" })
        }),
    );
    let table = BOOK.split("### Metrics of a relay").nth(1).unwrap().split("\n#").next().unwrap();
    let named = table.lines().filter_map(|line| line.strip_prefix("| `")?.split(['`', '{']).next());
    assert_eq!(named.map(str::to_owned).collect::<BTreeSet<_>>(), families);
}
