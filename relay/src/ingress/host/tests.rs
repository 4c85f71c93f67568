use http::HeaderValue;
use proptest::prelude::*;

use super::*;

fn request(target: &str, hosts: &[&str]) -> (Uri, HeaderMap) {
    let hosts = hosts.iter().map(|host| (HOST, HeaderValue::from_str(host).unwrap()));
    let mut headers = HeaderMap::new();
    for (name, host) in hosts {
        headers.append(name, host);
    }
    (target.parse().unwrap(), headers)
}

fn asked(target: &str, hosts: &[&str]) -> Result<String, HostError> {
    let (target, headers) = request(target, hosts);
    requested(&target, &headers).map(|authority| authority.host.into_owned())
}

#[test]
fn one_form_for_every_spelling() {
    for spelling in
        ["demo.localhost", "DEMO.LocalHost:8080", "demo.localhost.", "demo.localhost.:80", "demo.localhost:"]
    {
        assert_eq!(parse(spelling.as_bytes()).unwrap().host, "demo.localhost", "{spelling}");
    }
    assert_eq!(parse(b"[::1]:8080").unwrap(), Authority { host: "[::1]".into(), port: Some(8080) });
}

#[test]
fn what_servers_read_differently_is_refused() {
    let hostile: &[&[u8]] = &[
        b"",
        b".",
        b"a..b",
        b".a",
        b"user@a",
        b"a b",
        b"a,b",
        b"a/b",
        b"a%2eb",
        b"a:80:80",
        b"a:+80",
        b"a:65536",
        b"a:-1",
        b"a:8o",
        b"[::1",
        b"::1",
        b"[::1]x:80",
        b"[zz]",
        "ö.example".as_bytes(),
        b"\xff",
        b"a\0b",
        b"a\tb",
        b"a#b",
        b"a?b",
        b"a\\b",
        b"a.. ",
    ];
    for host in hostile {
        assert_eq!(parse(host), Err(HostError::Invalid), "{:?}", String::from_utf8_lossy(host));
    }
    assert_eq!(parse("a".repeat(254).as_bytes()), Err(HostError::Invalid));
}

#[test]
fn exactly_one_host_header_that_agrees_with_the_target() {
    assert_eq!(asked("/", &["demo.localhost"]), Ok("demo.localhost".into()));
    assert_eq!(asked("/", &[]), Err(HostError::Missing));
    assert_eq!(asked("/", &["a", "a"]), Err(HostError::Repeated));
    assert_eq!(asked("http://demo.localhost/", &["DEMO.localhost:80"]), Ok("demo.localhost".into()));
    assert_eq!(asked("http://demo.localhost:8080/", &["demo.localhost:8080"]), Ok("demo.localhost".into()));
    assert_eq!(asked("http://other.localhost/", &["demo.localhost"]), Err(HostError::Differs));
    assert_eq!(asked("http://demo.localhost:81/", &["demo.localhost"]), Err(HostError::Differs));
    assert_eq!(asked("http://demo.localhost/", &[]), Err(HostError::Missing));
}

#[test]
fn only_one_label_under_the_domain_is_a_tunnel() {
    let to = |host| destination(host, "tun.example", "console.tun.example");
    assert_eq!(to("demo.tun.example"), Destination::Tunnel("demo".into()));
    assert_eq!(to("console.tun.example"), Destination::Console);
    for host in [
        "tun.example",
        "a.b.tun.example",
        "demotun.example",
        "demo.tun.example.evil",
        ".tun.example",
        "[::1]",
    ] {
        assert_eq!(to(host), Destination::Nowhere, "{host}");
    }
    assert_eq!(destination("localhost", "localhost", "localhost"), Destination::Console);
}

proptest! {
    #[test]
    fn never_panics_and_the_normal_form_is_stable(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(authority) = parse(&bytes) {
            let again = parse(authority.host.as_bytes()).unwrap();
            prop_assert_eq!(&again.host, &authority.host);
            prop_assert_eq!(again.port, None);
        }
    }

    #[test]
    fn case_port_and_dot_do_not_matter(host in "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?(\\.[a-z0-9]{1,10}){0,4}", port in any::<u16>()) {
        let spelt = format!("{}.:{port}", host.to_uppercase());
        let read = parse(spelt.as_bytes()).unwrap();
        prop_assert_eq!(read.host, host);
        prop_assert_eq!(read.port, Some(port));
    }
}
