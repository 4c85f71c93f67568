//! Words for a coordinator that does not answer, or that is none.

use std::io;

use mytunnel_keys::error::Code;
use mytunnel_keys::token::ServerUrl;
use ureq::http::StatusCode;

use crate::failure::Failure;

/// The request did not get through.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the client's errors are many, those a person can act on few"
)]
pub(super) fn unreachable(server: &ServerUrl, error: &ureq::Error) -> Failure {
    let failure =
        |why: &str| Failure::new(Code::CoordinatorUnreachable, format!("cannot reach {server}: {why}"));
    match error {
        ureq::Error::HostNotFound => {
            failure("no such host").with_help("Check the address for typing errors, and this machine's DNS.")
        }
        ureq::Error::Timeout(_) => failure("no answer in time"),
        ureq::Error::Io(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused => failure("nothing listens there")
                .with_help("Check host and port, and that `mytunnel relay` runs there."),
            io::ErrorKind::InvalidData => untrusted(server, &error.to_string()),
            _ => failure(&error.to_string()),
        },
        ureq::Error::Rustls(error) => untrusted(server, &error.to_string()),
        ureq::Error::Tls(why) => untrusted(server, why),
        ureq::Error::Protocol(_) => not_http(server),
        other => failure(&other.to_string()),
    }
}

fn untrusted(server: &ServerUrl, why: &str) -> Failure {
    Failure::new(Code::CoordinatorUnreachable, format!("{server} could not prove who it is: {why}"))
        .with_help("If it is a relay without a public certificate, use its http:// address from a network you trust.")
}

fn not_http(server: &ServerUrl) -> Failure {
    Failure::new(Code::CoordinatorUnreachable, format!("what answers at {server} does not speak HTTP"))
        .with_help("Check the port, and whether it is http:// or https://.")
}

/// Something answered, but not one of ours.
pub(super) fn not_a_coordinator(server: &ServerUrl, status: StatusCode) -> Failure {
    let message = format!("what answers at {server} is not a mytunnel coordinator (status {status})");
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
        let failures = [
            unreachable(&server(), &ureq::Error::HostNotFound),
            unreachable(&server(), &ureq::Error::Io(refused)),
            unreachable(&server(), &ureq::Error::Tls("unknown issuer")),
            not_a_coordinator(&server(), StatusCode::NOT_FOUND),
        ];
        for failure in &failures {
            assert!(failure.message().contains("http://localhost:1"), "{failure:?}");
            assert_eq!(failure.exit_code(), 6);
            assert!(failure.help().ends_with('.'));
        }
        let helps: std::collections::HashSet<_> = failures.iter().map(Failure::help).collect();
        assert_eq!(helps.len(), failures.len());
    }
}
