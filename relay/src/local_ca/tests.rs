use mytunnel_keys::id::{ProjectId, TunnelId, TunnelKind};
use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
};

use super::*;
use crate::route::{Pipe, PipeError, PipeSource, Tunnel};

#[derive(Debug)]
struct NoPipes;

impl PipeSource for NoPipes {
    fn open(&self) -> futures::future::BoxFuture<'_, Result<Pipe, PipeError>> {
        Box::pin(async { Err(PipeError::Gone) })
    }
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + DAY * 20_000
}

/// Whether a browser that trusts `pem` takes `key` for `name` at `at`.
fn trusts(pem: &str, key: &CertifiedKey, name: &str, at: SystemTime) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
    let at = UnixTime::since_unix_epoch(at.duration_since(SystemTime::UNIX_EPOCH).unwrap());
    let name = ServerName::try_from(name.to_owned()).unwrap();
    verifier.verify_server_cert(&key.cert[0], &[], &name, &[], at).is_ok()
}

fn resolver(routes: &Routes) -> Resolver {
    let ca = LocalCa::ephemeral("tun.test", "console.test", now()).unwrap();
    Resolver { ca, routes: routes.clone(), kept: Mutex::default() }
}

#[test]
fn a_certificate_is_good_for_its_name_and_time() {
    let ca = LocalCa::ephemeral("localhost", "localhost", now()).unwrap();
    let leaf = ca.certify("demo.localhost", now()).unwrap();
    assert!(trusts(ca.certificate_pem(), &leaf, "demo.localhost", now()));
    assert!(!trusts(ca.certificate_pem(), &leaf, "other.localhost", now()));
    assert!(!trusts(ca.certificate_pem(), &leaf, "demo.localhost", now() + DAY * 91));
    assert!(!trusts(ca.certificate_pem(), &leaf, "demo.localhost", now() - DAY * 2));
    let other = LocalCa::ephemeral("localhost", "localhost", now()).unwrap();
    assert!(!trusts(other.certificate_pem(), &leaf, "demo.localhost", now()));
}

#[test]
fn the_authority_cannot_speak_for_other_domains() {
    let ca = LocalCa::ephemeral("tun.test", "console.test", now()).unwrap();
    for (name, trusted) in [
        ("a.tun.test", true),
        ("tun.test", true),
        ("console.test", true),
        ("bank.example", false),
        ("192.0.2.1", false),
        ("2001:db8::1", false),
    ] {
        let leaf = ca.certify(name, now()).unwrap();
        assert_eq!(trusts(ca.certificate_pem(), &leaf, name, now()), trusted, "{name}");
    }
}

#[test]
fn the_authority_outlives_the_process() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path().join("made/on/the/way");
    let first = LocalCa::open(&directory, "localhost", "localhost", now()).unwrap();
    let leaf = first.certify("a.localhost", now()).unwrap();
    let second = LocalCa::open(&directory, "localhost", "localhost", now() + DAY * 30).unwrap();
    assert_eq!(first.certificate_pem(), second.certificate_pem());
    assert!(trusts(second.certificate_pem(), &leaf, "a.localhost", now()));
    let later = second.certify("a.localhost", now() + DAY * 30).unwrap();
    assert!(trusts(first.certificate_pem(), &later, "a.localhost", now() + DAY * 30));
    assert_eq!(fs::read_to_string(second.path().unwrap()).unwrap(), second.certificate_pem());
    // The chain ends in the certificate that was published, not in one of its later twins.
    let published = CertificateDer::from_pem_slice(first.certificate_pem().as_bytes()).unwrap();
    assert_eq!((leaf.cert.last(), later.cert.last()), (Some(&published), Some(&published)));
    // Another domain is another authority.
    let other = LocalCa::open(&directory, "tun.test", "console.test", now()).unwrap();
    assert_ne!(other.certificate_pem(), first.certificate_pem());
}

#[cfg(unix)]
#[test]
fn the_key_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;

    let directory = tempfile::tempdir().unwrap();
    LocalCa::open(directory.path(), "localhost", "localhost", now()).unwrap();
    let key = fs::metadata(directory.path().join("local-ca-localhost.key")).unwrap();
    assert_eq!(key.permissions().mode() & 0o777, 0o600);
}

#[test]
fn damage_is_named_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("local-ca-localhost.key");
    fs::write(&key, "not a key").unwrap();
    let error = LocalCa::open(directory.path(), "localhost", "localhost", now()).unwrap_err();
    assert!(matches!(&error, LocalCaError::Key { path, .. } if *path == key), "{error}");
    assert_eq!(fs::read_to_string(&key).unwrap(), "not a key");
    let error = LocalCa::open(&key.join("below-a-file"), "localhost", "localhost", now()).unwrap_err();
    assert!(matches!(error, LocalCaError::File { .. }), "{error}");
}

#[test]
fn only_names_that_exist_get_a_certificate() {
    let routes = Routes::new();
    let resolver = resolver(&routes);
    let name: mytunnel_keys::id::TunnelName = "demo".parse().unwrap();
    let project: ProjectId = "proj_a".parse().unwrap();
    let id = TunnelId::derive(&"tun.test".parse().unwrap(), &project, &name);
    assert!(resolver.certificate(Some("demo.tun.test"), now()).is_none());
    routes.insert(Tunnel::new(id, name, project, TunnelKind::Http, Arc::new(NoPipes)));
    routes.note_known(&"away".parse().unwrap(), None);
    for (asked, answered) in [
        (Some("demo.tun.test"), true),
        (Some("DEMO.tun.test."), true),
        (Some("away.tun.test"), true),
        (Some("console.test"), true),
        (Some("tun.test"), true),
        (None, true),
        (Some("nobody.tun.test"), false),
        (Some("a.demo.tun.test"), false),
        (Some("example.com"), false),
    ] {
        assert_eq!(resolver.certificate(asked, now()).is_some(), answered, "{asked:?}");
    }
}

#[test]
fn certificates_are_kept_renewed_and_bounded() {
    let routes = Routes::new();
    let resolver = resolver(&routes);
    let first = resolver.certificate(Some("tun.test"), now()).unwrap();
    let again = resolver.certificate(Some("TUN.test"), now() + DAY).unwrap();
    assert!(Arc::ptr_eq(&first, &again));
    let renewed = resolver.certificate(Some("tun.test"), now() + DAY * 61).unwrap();
    assert!(!Arc::ptr_eq(&first, &renewed));

    let made = now();
    let mut kept = resolver.kept.lock().unwrap();
    for number in 0..KEPT {
        kept.insert(format!("x{number}").into(), Kept { key: Arc::clone(&first), made });
    }
    drop(kept);
    resolver.certificate(Some("console.test"), now()).unwrap();
    assert!(resolver.kept.lock().unwrap().len() <= KEPT);
}
