//! Where a router describes itself (UPnP Device Architecture 1.1, section 1.3: search).

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    time::Duration,
};

use http::Uri;
use tokio::{
    net::UdpSocket,
    time::{Instant, timeout_at},
};

use super::Trouble;

/// Where searches are heard.
const EVERYBODY: Ipv4Addr = Ipv4Addr::new(239, 255, 255, 250);
const PORT: u16 = 1900;

/// A gateway of the second version answers to the first as well. It may take a second to answer.
const SEARCH: &[u8] =
    b"M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\n\
    ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\r\n";

/// How long an answer is waited for each time.
const WAIT: Duration = Duration::from_millis(1100);

/// What is read of an answer.
const LONGEST: usize = 2048;

/// A document or a service on a router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) at: SocketAddrV4,
    pub(super) path: String,
}

impl Place {
    /// What an address names, if it lies on the router.
    pub(super) fn on(gateway: Ipv4Addr, uri: &str) -> Option<Self> {
        let uri: Uri = uri.trim().parse().ok()?;
        let is_there = uri.scheme_str() == Some("http") && uri.host()?.parse() == Ok(gateway);
        let at = SocketAddrV4::new(gateway, uri.port_u16().unwrap_or(80));
        let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned();
        is_there.then_some(Self { at, path })
    }
}

/// Asks the router of this network where it describes itself.
pub(super) async fn description(local: Ipv4Addr, gateway: Ipv4Addr) -> Result<Place, Trouble> {
    found(local, gateway).await.ok().flatten().ok_or(Trouble::Silent)
}

async fn found(local: Ipv4Addr, gateway: Ipv4Addr) -> io::Result<Option<Place>> {
    let socket = UdpSocket::bind((local, 0)).await?;
    // Of everybody only where the router does not hear what is for it alone (allowed since version 1.1).
    for whom in [&[gateway][..], &[gateway, EVERYBODY]] {
        for one in whom {
            // What cannot be sent to one leaves the other.
            let _ = socket.send_to(SEARCH, (*one, PORT)).await;
        }
        let until = Instant::now() + WAIT;
        let mut answer = [0; LONGEST];
        while Instant::now() < until {
            let Ok(heard) = timeout_at(until, socket.recv_from(&mut answer)).await else { break };
            // A port where nobody listens is told as an error.
            let Ok((length, from)) = heard else { continue };
            let place = answer
                .get(..length)
                .filter(|_| is_of(gateway, from))
                .and_then(|answer| told(answer, gateway));
            if place.is_some() {
                return Ok(place);
            }
        }
    }
    Ok(None)
}

fn is_of(gateway: Ipv4Addr, from: SocketAddr) -> bool {
    from.ip() == IpAddr::V4(gateway)
}

/// What an answer says where the description is, if that is on the router itself.
pub(super) fn told(answer: &[u8], gateway: Ipv4Addr) -> Option<Place> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    response.parse(answer).ok()?;
    if response.code != Some(200) {
        return None;
    }
    let location = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("location"))?;
    Place::on(gateway, str::from_utf8(location.value).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);

    #[test]
    fn an_answer_names_a_document_on_the_router_itself_or_nothing() {
        let at = |location: &str| {
            let answer = format!("HTTP/1.1 200 OK\r\nST: x\r\nLocation: {location}\r\n\r\n");
            told(answer.as_bytes(), GATEWAY).map(|place| (place.at.port(), place.path))
        };
        assert_eq!(at("http://192.168.1.1:5000/root.xml"), Some((5000, "/root.xml".to_owned())));
        assert_eq!(at(" http://192.168.1.1 "), Some((80, "/".to_owned())));
        for elsewhere in [
            "http://192.168.1.2:5000/root.xml",
            "http://127.0.0.1/root.xml",
            "http://router/root.xml",
            "http://192.168.1.1.example/",
            "http://192.168.1.1@127.0.0.1/",
            "https://192.168.1.1/",
            "file:///etc/passwd",
            "/root.xml",
            "",
        ] {
            assert_eq!(at(elsewhere), None, "{elsewhere}");
        }
        assert_eq!(told(b"HTTP/1.1 404 No\r\nLocation: http://192.168.1.1/\r\n\r\n", GATEWAY), None);
        assert_eq!(told(b"NOTIFY * HTTP/1.1\r\nLocation: http://192.168.1.1/\r\n\r\n", GATEWAY), None);
    }

    proptest::proptest! {
        #[test]
        fn no_answer_leads_off_the_router(answer: Vec<u8>, location in "[ -~]{0,60}") {
            let with = format!("HTTP/1.1 200 OK\r\nLOCATION: {location}\r\n\r\n");
            for answer in [&answer[..], with.as_bytes()] {
                proptest::prop_assert!(told(answer, GATEWAY).is_none_or(|place| *place.at.ip() == GATEWAY));
            }
        }
    }
}
