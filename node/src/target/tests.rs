use std::fs;

use super::*;

fn port(number: u16) -> NonZeroU16 {
    NonZeroU16::new(number).unwrap()
}

fn tcp(host: &str, number: u16) -> Target {
    Target::Tcp { host: host.to_owned(), port: port(number) }
}

#[test]
fn what_people_type_is_understood() {
    let tls = |host: &str, number| Target::Tls {
        host: host.to_owned(),
        port: port(number),
        trust: OriginTrust::WebRoots,
    };
    for (text, expected) in [
        ("3000", Target::Port(port(3000))),
        ("65535", Target::Port(port(65535))),
        ("localhost:3000", tcp("localhost", 3000)),
        (":3000", tcp("localhost", 3000)),
        ("192.168.1.7:80", tcp("192.168.1.7", 80)),
        ("[::1]:8080", tcp("::1", 8080)),
        ("http://example.com", tcp("example.com", 80)),
        ("http://localhost:5173/", tcp("localhost", 5173)),
        ("HTTP://[::1]:5173", tcp("::1", 5173)),
        ("https://example.com", tls("example.com", 443)),
        ("https://localhost:8443", tls("localhost", 8443)),
    ] {
        assert_eq!(Target::parse(text).unwrap(), expected, "{text}");
    }
}

#[test]
fn folders_files_and_sockets_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let real = folder.path().canonicalize().unwrap();
    let file = folder.path().join("page.html");
    fs::write(&file, "x").unwrap();
    let parse = |path: &Path| Target::parse(path.to_str().unwrap()).unwrap();
    assert_eq!(parse(folder.path()), Target::Folder(real.clone()));
    assert_eq!(parse(&file), Target::File(real.join("page.html")));
    assert_eq!(Target::parse("unix:/run/x.sock").unwrap(), Target::Unix("/run/x.sock".into()));
    assert_eq!(Target::parse("unix:///run/x.sock").unwrap(), Target::Unix("/run/x.sock".into()));
    assert!(matches!(Target::parse(".").unwrap(), Target::Folder(path) if path.is_absolute()));
}

#[test]
fn what_cannot_be_a_target_says_why() {
    let code = |text: &str| Target::parse(text).unwrap_err().code();
    for (text, expected) in [
        ("", Code::BadRequest),
        ("0", Code::BadRequest),
        ("65536", Code::BadRequest),
        ("localhost:0", Code::BadRequest),
        ("localhost:99999", Code::BadRequest),
        ("ftp://host", Code::BadRequest),
        ("http://", Code::BadRequest),
        ("http://user@host", Code::BadRequest),
        ("http://host:0", Code::BadRequest),
        ("http://host/path", Code::BadRequest),
        ("http://host/?q", Code::BadRequest),
        ("unix:", Code::BadRequest),
        ("./no-such-folder", Code::NotFound),
        ("no/such:3000", Code::NotFound),
        ("::1", Code::NotFound),
    ] {
        assert_eq!(code(text), expected, "{text}");
    }
    #[cfg(unix)]
    assert!(matches!(Target::parse("/dev/null"), Err(TargetError::Special(_))));
}

#[test]
fn the_text_form_is_what_a_person_would_open() {
    for (text, shown) in [
        ("3000", "http://localhost:3000"),
        ("[::1]:80", "http://[::1]:80"),
        ("https://example.com", "https://example.com:443"),
        ("unix:/run/x.sock", "unix:/run/x.sock"),
    ] {
        assert_eq!(Target::parse(text).unwrap().to_string(), shown);
    }
}

#[tokio::test]
async fn a_port_is_found_on_either_loopback_address() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let Ok(listener) = tokio::net::TcpListener::bind(address).await else {
            continue; // a machine without IPv6
        };
        let port = NonZeroU16::new(listener.local_addr().unwrap().port()).unwrap();
        Target::Port(port).probe().await.unwrap();
        drop(listener);
        assert!(matches!(Target::Port(port).probe().await, Err(DialError::Connect(_))));
    }
}

#[tokio::test]
async fn folders_and_files_are_probed_too() {
    let folder = tempfile::tempdir().unwrap();
    let target = Target::parse(folder.path().to_str().unwrap()).unwrap();
    target.probe().await.unwrap();
    drop(folder);
    assert!(matches!(target.probe().await, Err(DialError::Read(_))));
}

mod tls {
    use std::sync::Arc;

    use rustls::ServerConfig;
    use rustls_pki_types::PrivatePkcs8KeyDer;
    use tokio::{io::AsyncWriteExt, net::TcpListener};
    use tokio_rustls::TlsAcceptor;

    use super::*;

    async fn server() -> (TcpListener, TlsAcceptor) {
        let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivatePkcs8KeyDer::from(signed.key_pair.serialize_der());
        let config =
            ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![signed.cert.der().clone()], key.into())
                .unwrap();
        (TcpListener::bind("127.0.0.1:0").await.unwrap(), TlsAcceptor::from(Arc::new(config)))
    }

    #[tokio::test]
    async fn a_self_signed_origin_needs_the_flag() {
        let (listener, acceptor) = server().await;
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let accept = || async {
            let (stream, _) = listener.accept().await.unwrap();
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let _ = stream.shutdown().await;
            }
        };

        let strict = Target::parse(&url).unwrap();
        let (refused, ()) = tokio::join!(strict.probe(), accept());
        assert!(matches!(refused, Err(DialError::Handshake(_))), "{refused:?}");

        let lax = strict.with_trust(OriginTrust::AnyOnLoopback);
        let (accepted, ()) = tokio::join!(lax.probe(), accept());
        accepted.unwrap();
    }
}
