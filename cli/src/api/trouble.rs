//! Words for a coordinator that does not answer, or that is none.

use std::io;

use mytunnel_keys::error::Code;
use mytunnel_keys::token::ServerUrl;
use rustls::CertificateError;
use ureq::http::StatusCode;

use crate::failure::Failure;

/// The request did not get through.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the client's errors are many, those a person can act on few"
)]
pub(super) fn unreachable(server: &ServerUrl, error: &ureq::Error) -> Failure {
    let failure = |why: &str| {
        Failure::new(Code::CoordinatorUnreachable, format!("cannot reach {}: {why}", server.base()))
    };
    match error {
        ureq::Error::HostNotFound => {
            failure("no such host").with_help("Check the address for typing errors, and this machine's DNS.")
        }
        ureq::Error::Timeout(_) => failure("no answer in time"),
        ureq::Error::Io(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused => failure("nothing listens there")
                .with_help("Check host and port, and that `mytunnel relay` runs there."),
            io::ErrorKind::InvalidData => match error.get_ref().and_then(|inner| inner.downcast_ref()) {
                Some(error) => untrusted(server, error),
                None => unproven(server, &error.to_string()),
            },
            _ => failure(&error.to_string()),
        },
        ureq::Error::Rustls(error) => untrusted(server, error),
        ureq::Error::Tls(why) => unproven(server, why),
        ureq::Error::Protocol(_) => not_http(server),
        other => failure(&other.to_string()),
    }
}

/// The server's certificate was not taken.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a certificate can be wrong in many ways, few have a remedy"
)]
fn untrusted(server: &ServerUrl, error: &rustls::Error) -> Failure {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) if server.pin().is_some() => {
            unproven(server, "its certificate is not from the authority that is pinned").with_help(
                "If the relay was set up anew, sign in with the address that it prints when it starts; if not, somebody else answers in its place.",
            )
        }
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            unproven(server, "nobody known to this machine vouches for its certificate").with_help(format!(
                "A relay vouches for itself in the address that it prints when it starts: mytunnel login '{}#ca=…'",
                server.base()
            ))
        }
        rustls::Error::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        ) => unproven(server, &error.to_string())
            .with_help("Check this machine's clock (`timedatectl set-ntp true`), then try again."),
        _ => unproven(server, &error.to_string()),
    }
}

fn unproven(server: &ServerUrl, why: &str) -> Failure {
    Failure::new(Code::CoordinatorUnreachable, format!("{} could not prove who it is: {why}", server.base()))
        .with_help(
            "Check the address: a relay's certificate is for its own names, and not for an IP address.",
        )
}

fn not_http(server: &ServerUrl) -> Failure {
    Failure::new(
        Code::CoordinatorUnreachable,
        format!("what answers at {} does not speak HTTP", server.base()),
    )
    .with_help("Check the port, and whether it is http:// or https://.")
}

/// Something answered, but not one of ours.
pub(super) fn not_a_coordinator(server: &ServerUrl, status: StatusCode) -> Failure {
    let message =
        format!("what answers at {} is not a mytunnel coordinator (status {status})", server.base());
    Failure::new(Code::CoordinatorUnreachable, message)
        .with_help("Use the address that `mytunnel relay` printed for signing in.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> ServerUrl {
        "http://localhost:1".parse().unwrap()
    }

    #[test]
    fn each_trouble_names_the_server_and_a_remedy_of_its_own() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let unknown = || rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let failures = [
            unreachable(&server(), &ureq::Error::Rustls(unknown())),
            unreachable(
                &server(),
                &ureq::Error::Io(io::Error::new(io::ErrorKind::InvalidData, {
                    rustls::Error::InvalidCertificate(CertificateError::Expired)
                })),
            ),
            unreachable(&server(), &ureq::Error::HostNotFound),
            unreachable(&server(), &ureq::Error::Io(refused)),
            unreachable(&server(), &ureq::Error::Tls("unknown issuer")),
            not_a_coordinator(&server(), StatusCode::NOT_FOUND),
        ];
        for failure in &failures {
            assert!(failure.message().contains("http://localhost:1"), "{failure:?}");
            assert_eq!(failure.exit_code(), 6);
            assert!(failure.help().ends_with(['.', '\'']), "{failure:?}");
        }
        let helps: std::collections::HashSet<_> = failures.iter().map(Failure::help).collect();
        assert_eq!(helps.len(), failures.len());
    }

    #[test]
    fn a_pinned_server_that_is_another_is_told_apart() {
        let pinned: ServerUrl = "https://t.example#ca=00112233445566778899aabbccddeeff".parse().unwrap();
        let unknown = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let failure = untrusted(&pinned, &unknown);
        assert!(failure.message().starts_with("https://t.example could not prove"), "{failure:?}");
        assert!(failure.message().ends_with("is pinned") && failure.help().contains("set up anew"));
    }
}
