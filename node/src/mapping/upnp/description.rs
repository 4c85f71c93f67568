//! What a router says of itself: an XML document, of which the services matter that lead ports.

use std::net::Ipv4Addr;

use roxmltree::{Document, Node, ParsingOptions};

use super::search::Place;

/// The services that lead ports, the best first: WANIPConnection of version 2 and 1, and WANPPPConnection.
const KINDS: [&str; 3] = [
    "urn:schemas-upnp-org:service:WANIPConnection:2",
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
];

/// Services of one router that are tried.
const MOST: usize = 2;

/// Elements and texts of a document.
const NODES: u32 = 10_000;

/// Names of namespaces in a document. The parser looks each up among those that there are, for each element within.
const NAMESPACES: usize = 64;

/// A service that leads ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) kind: &'static str,
    pub(super) place: Place,
}

/// The document, if it is one. What names of its own could make it large is refused.
pub(super) fn parsed(text: &str) -> Option<Document<'_>> {
    if text.matches("xmlns").count() > NAMESPACES {
        return None;
    }
    Document::parse_with_options(text, ParsingOptions { nodes_limit: NODES, ..ParsingOptions::default() })
        .ok()
}

/// The text of the first element of that name, in whatever namespace: routers do not agree on those.
pub(super) fn text<'a>(of: Node<'a, '_>, name: &str) -> Option<&'a str> {
    of.descendants().find(|node| node.tag_name().name() == name)?.text().map(str::trim)
}

/// The services of a description that was found at a place, the best first, if they are on the router as well.
pub(super) fn services(description: &str, from: &Place) -> Vec<Service> {
    let Some(document) = parsed(description) else { return Vec::new() };
    let root = document.root();
    let gateway = *from.at.ip();
    let base =
        text(root, "URLBase").and_then(|base| Place::on(gateway, base)).unwrap_or_else(|| from.clone());
    let found = root.descendants().filter(|node| node.tag_name().name() == "service").filter_map(|node| {
        let named = text(node, "serviceType")?;
        let rank = KINDS.iter().position(|kind| *kind == named)?;
        let place = resolved(text(node, "controlURL")?, &base, gateway)?;
        Some((rank, Service { kind: KINDS.get(rank)?, place }))
    });
    let mut found: Vec<_> = found.collect();
    found.sort_by_key(|(rank, _)| *rank);
    found.into_iter().take(MOST).map(|(_, service)| service).collect()
}

/// An address as a document has it (RFC 3986, section 5.2, as far as routers go): whole, from the root, or beside the document.
fn resolved(control: &str, base: &Place, gateway: Ipv4Addr) -> Option<Place> {
    if control.starts_with("http://") {
        return Place::on(gateway, control);
    }
    let path = if control.starts_with('/') {
        control.to_owned()
    } else {
        let folder = base.path.split('?').next()?.rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{folder}/{control}")
    };
    // Of letters that a request may have, and on that router whatever it looks like.
    Place::on(gateway, &format!("http://{}{path}", base.at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(services: &str, base: &str) -> Vec<(&'static str, String)> {
        let from =
            Place::on(Ipv4Addr::new(192, 168, 1, 1), "http://192.168.1.1:5000/igd/root.xml?x=/y").unwrap();
        let text = format!(
            r#"<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0">{base}<device><deviceList><device>
            <serviceList>{services}</serviceList></device></deviceList></device></root>"#
        );
        let services = self::services(&text, &from).into_iter();
        services
            .map(|service| (service.kind, format!("{}{}", service.place.at, service.place.path)))
            .collect()
    }

    fn service(kind: &str, control: &str) -> String {
        format!(
            "<service><serviceType>urn:schemas-upnp-org:service:{kind}</serviceType><controlURL>{control}</controlURL></service>"
        )
    }

    #[test]
    fn what_leads_ports_is_found_the_best_first() {
        let all = [
            service("Layer3Forwarding:1", "/l3"),
            service("WANPPPConnection:1", "/ppp"),
            service("WANIPConnection:1", " /ip?a=b "),
            service("WANIPConnection:2", "two"),
        ];
        assert_eq!(
            found(&all.concat(), ""),
            [
                (KINDS[0], "192.168.1.1:5000/igd/two".to_owned()),
                (KINDS[1], "192.168.1.1:5000/ip?a=b".to_owned()),
            ]
        );
        assert_eq!(found(&all[1], ""), [(KINDS[2], "192.168.1.1:5000/ppp".to_owned())]);
        let one = service("WANIPConnection:1", "http://192.168.1.1:81/c");
        assert_eq!(found(&one, ""), [(KINDS[1], "192.168.1.1:81/c".to_owned())]);
        let base = "<URLBase>http://192.168.1.1:82/</URLBase>";
        assert_eq!(found(&all[3], base), [(KINDS[0], "192.168.1.1:82/two".to_owned())]);
        assert_eq!(found(&one.repeat(100), "").len(), MOST);
    }

    #[test]
    fn nothing_leads_off_the_router() {
        let elsewhere = [
            "http://192.168.1.2/c",
            "http://127.0.0.1:22/",
            "//127.0.0.1/",
            "@127.0.0.1/",
            "ftp://192.168.1.1/",
            "a b",
        ];
        for control in elsewhere {
            let found = found(&service("WANIPConnection:1", control), "<URLBase>http://127.0.0.1/</URLBase>");
            assert!(found.iter().all(|(_, at)| at.starts_with("192.168.1.1:5000/")), "{control}: {found:?}");
        }
        assert_eq!(found(&service("WANIPConnection:1", "http://127.0.0.1/"), ""), []);
        let of_itself = r#"<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><x>&b;</x>"#;
        assert!(parsed(of_itself).is_none(), "no document has names of its own");
        assert!(parsed(&"<a>".repeat(100_000)).is_none());
        assert!(parsed(&format!("<a>{}</a>", "<b/>".repeat(20_000))).is_none());
        let many = |count: usize| {
            let open: String = (0..count).map(|number| format!("<a xmlns:n{number}='u{number}'>")).collect();
            format!("{open}{}", "</a>".repeat(count))
        };
        assert!(parsed(&many(NAMESPACES)).is_some() && parsed(&many(NAMESPACES + 1)).is_none());
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_router_writes_is_read_or_refused(text in "[ -~\n]{0,200}", control in "[ -~]{0,60}") {
            let from = Place::on(Ipv4Addr::new(192, 168, 1, 1), "http://192.168.1.1/root.xml").unwrap();
            let with = format!("<root>{}</root>", service("WANIPConnection:1", &control));
            for text in [text, with] {
                let services = services(&text, &from);
                proptest::prop_assert!(services.iter().all(|service| service.place.at.ip() == from.at.ip()));
            }
        }
    }
}
