//! What the certificate of an authority says of it, for those who are asked to trust it.

use std::time::{Duration, SystemTime};

use data_encoding::BASE64;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use x509_parser::{
    error::X509Error,
    extensions::NameConstraints,
    prelude::{FromDer as _, GeneralName, X509Certificate},
};

/// Domains without a dot that nobody can have in the public DNS: reserved (RFC 2606, RFC 6761, RFC 6762, and `internal` by
/// ICANN), or in use in so many houses that they are given to nobody.
const HOUSE: [&str; 9] =
    ["localhost", "test", "example", "invalid", "local", "internal", "lan", "home", "corp"];

/// An authority, by its certificate.
#[derive(Debug, Clone)]
pub struct Described {
    /// What it is called, without characters that act on a terminal.
    pub name: String,
    /// It may speak for these domains and for names below them. Empty: nothing keeps it to any.
    pub domains: Vec<String>,
    /// From then on it is trusted by nobody.
    pub ends: SystemTime,
    /// The certificate.
    pub certificate: CertificateDer<'static>,
    unfit: Option<Unfit>,
}

/// Why a text does not describe an authority.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DescribeError {
    /// It has no certificate in it.
    #[error("it is not a certificate in PEM form")]
    Pem(#[source] rustls::pki_types::pem::Error),
    /// It has more than the one that could be looked at.
    #[error("it holds {0} certificates: an authority's file holds one")]
    Several(usize),
    /// The certificate is damaged.
    #[error("its certificate cannot be read")]
    Certificate(#[source] x509_parser::nom::Err<X509Error>),
    /// Other bytes follow the certificate.
    #[error("something stands behind its certificate")]
    Surplus,
    /// An extension of the certificate is damaged, or there twice.
    #[error("an extension of its certificate cannot be read")]
    Extension(#[from] X509Error),
}

/// Why an authority is not to be trusted by a whole machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It is the certificate of a server, or of anybody else.
    #[error("it is not the certificate of an authority")]
    NotAnAuthority,
    /// Whoever has its key could be any site.
    #[error("nothing keeps it to certain domains: whoever has its key could pass for any site")]
    Unbound,
    /// Whoever has its key could be any site of a large part of the web.
    #[error("it may vouch for a whole top-level domain: whoever has its key could pass for every site there")]
    TopLevel,
    /// Whoever has its key could be any address.
    #[error("nothing keeps it from vouching for IP addresses")]
    Addresses,
    /// It may vouch for others than the servers of sites.
    #[error("nothing keeps it to servers: it may vouch for programs, people or mail, too")]
    Purposes,
    /// Its time is over.
    #[error("it has ended")]
    Ended,
}

impl Described {
    /// Reads the one certificate in a text.
    pub fn read(pem: &[u8]) -> Result<Self, DescribeError> {
        let mut all: Vec<_> =
            CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(DescribeError::Pem)?;
        let der = match (all.pop(), all.len()) {
            (Some(der), 0) => der,
            (None, _) => return Err(DescribeError::Pem(rustls::pki_types::pem::Error::NoItemsFound)),
            (Some(_), others) => return Err(DescribeError::Several(others + 1)),
        };
        let (rest, parsed) = X509Certificate::from_der(&der).map_err(DescribeError::Certificate)?;
        if !rest.is_empty() {
            return Err(DescribeError::Surplus);
        }
        let name = parsed.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
        let name: String = name.unwrap_or_default().chars().filter(|&letter| is_plain(letter)).collect();
        let ends = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or_default();
        let (domains, unfit) = bounds(&parsed)?;
        Ok(Self {
            name: if name.trim().is_empty() { "an authority without a name".to_owned() } else { name },
            domains,
            ends: SystemTime::UNIX_EPOCH + Duration::from_secs(ends),
            unfit,
            certificate: der,
        })
    }

    /// Whether a machine may trust it: that it can speak for the domains it names, and for nothing else.
    pub fn check(&self, now: SystemTime) -> Result<(), Unfit> {
        match self.unfit {
            Some(unfit) => Err(unfit),
            None if self.ends <= now => Err(Unfit::Ended),
            None => Ok(()),
        }
    }

    /// The certificate in PEM form: it alone, whatever stood around it where it was read.
    pub fn pem(&self) -> String {
        let text = BASE64.encode(&self.certificate);
        let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (line, more) = rest.split_at_checked(64).unwrap_or((rest, ""));
            pem.push_str(line);
            pem.push('\n');
            rest = more;
        }
        pem.push_str("-----END CERTIFICATE-----\n");
        pem
    }
}

/// The domains that an authority is kept to, and what speaks against it.
fn bounds(certificate: &X509Certificate<'_>) -> Result<(Vec<String>, Option<Unfit>), X509Error> {
    let is_authority = certificate.basic_constraints()?.is_some_and(|basic| basic.value.ca)
        && certificate.key_usage()?.is_none_or(|usage| usage.value.key_cert_sign());
    let constraints = certificate.name_constraints()?.filter(|found| found.critical);
    let Some(constraints) = constraints.map(|found| found.value) else {
        return Ok((Vec::new(), Some(if is_authority { Unfit::Unbound } else { Unfit::NotAnAuthority })));
    };
    let permitted = constraints.permitted_subtrees.as_deref().unwrap_or_default();
    let domains: Vec<String> = permitted.iter().filter_map(|tree| domain(&tree.base)).collect();
    let unfit = if !is_authority {
        Some(Unfit::NotAnAuthority)
    } else if domains.is_empty() || domains.len() < permitted.len() {
        Some(Unfit::Unbound)
    } else if domains.iter().any(|domain| is_top_level(domain)) {
        Some(Unfit::TopLevel)
    } else if !shuts_out(constraints, 8) || !shuts_out(constraints, 32) {
        Some(Unfit::Addresses)
    } else if !is_for_servers(certificate)? {
        Some(Unfit::Purposes)
    } else {
        None
    };
    Ok((domains, unfit))
}

fn domain(name: &GeneralName<'_>) -> Option<String> {
    // The empty domain is the tree of all of them. What is no name of a host is nothing that a person could judge.
    if let GeneralName::DNSName(domain) = name
        && !domain.trim_matches('.').is_empty()
        && domain.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
    {
        Some((*domain).to_owned())
    } else {
        None
    }
}

fn is_top_level(domain: &str) -> bool {
    let domain = domain.trim_matches('.');
    !domain.contains('.') && !HOUSE.iter().any(|house| house.eq_ignore_ascii_case(domain))
}

/// Whether all addresses of so many bytes, with their mask, are out. A constraint is about its own kind of name alone
/// (RFC 5280 §4.2.1.10): one of domains leaves all addresses free.
fn shuts_out(constraints: &NameConstraints<'_>, length: usize) -> bool {
    let excluded = constraints.excluded_subtrees.as_deref().unwrap_or_default();
    excluded.iter().any(
        |tree| matches!(tree.base, GeneralName::IPAddress(net) if net.len() == length && net.iter().all(|&byte| byte == 0)),
    )
}

/// Whether it may vouch for servers and for nothing else. Mail, people and programs have names of other kinds, of which no
/// constraint of domains says anything.
fn is_for_servers(certificate: &X509Certificate<'_>) -> Result<bool, X509Error> {
    let is_for_all = certificate.key_usage()?.is_none();
    Ok(certificate.extended_key_usage()?.is_some_and(|found| {
        let usage = found.value;
        let others = [
            usage.any,
            usage.client_auth,
            usage.code_signing,
            usage.email_protection,
            usage.time_stamping,
            usage.ocsp_signing,
            !usage.other.is_empty(),
        ];
        usage.server_auth && !is_for_all && !others.contains(&true)
    }))
}

/// Not what acts on a terminal, and not what turns the direction of writing or is drawn as nothing.
fn is_plain(letter: char) -> bool {
    !letter.is_control()
        && !matches!(letter, '\u{00ad}' | '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CidrSubnet, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
        KeyPair, KeyUsagePurpose, NameConstraints,
    };

    use super::*;
    use crate::local_ca::LocalCa;

    fn domain(name: &str) -> GeneralSubtree {
        GeneralSubtree::DnsName(name.to_owned())
    }

    fn addresses() -> Vec<GeneralSubtree> {
        vec![
            GeneralSubtree::IpAddress(CidrSubnet::V4([0; 4], [0; 4])),
            GeneralSubtree::IpAddress(CidrSubnet::V6([0; 16], [0; 16])),
        ]
    }

    /// What is right with everything, but for names.
    fn params(ca: bool) -> CertificateParams {
        let mut params = CertificateParams::default();
        if ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params
    }

    fn pem(params: CertificateParams) -> String {
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
    }

    fn check(params: CertificateParams) -> Option<Unfit> {
        Described::read(pem(params).as_bytes()).unwrap().check(SystemTime::now()).err()
    }

    fn unfit(ca: bool, permitted: Vec<GeneralSubtree>, excluded: Vec<GeneralSubtree>) -> Option<Unfit> {
        let mut params = params(ca);
        if !permitted.is_empty() || !excluded.is_empty() {
            params.name_constraints =
                Some(NameConstraints { permitted_subtrees: permitted, excluded_subtrees: excluded });
        }
        check(params)
    }

    /// One that is kept to this domain.
    fn kept_to(name: &str) -> CertificateParams {
        let mut params = params(true);
        params.name_constraints =
            Some(NameConstraints { permitted_subtrees: vec![domain(name)], excluded_subtrees: addresses() });
        params
    }

    #[test]
    fn ours_is_kept_to_its_domains_and_to_no_address() {
        let now = SystemTime::now();
        let ca = LocalCa::ephemeral("tun.test", "console.test", now).unwrap();
        let described = Described::read(ca.certificate_pem().as_bytes()).unwrap();
        assert_eq!(described.check(now), Ok(()));
        assert_eq!(described.check(described.ends), Err(Unfit::Ended));
        assert_eq!(described.domains, ["tun.test", "console.test"]);
        assert!(described.name.starts_with("mytunnel local CA for tun.test ("), "{}", described.name);
        assert!(described.ends > now);
    }

    #[test]
    fn what_could_pass_for_others_is_unfit() {
        let v4 = || GeneralSubtree::IpAddress(CidrSubnet::V4([0; 4], [0; 4]));
        let v6 = || GeneralSubtree::IpAddress(CidrSubnet::V6([0; 16], [0; 16]));
        let part = GeneralSubtree::IpAddress(CidrSubnet::V4([10, 0, 0, 0], [255, 0, 0, 0]));
        for (ca, permitted, excluded, answer) in [
            (true, vec![domain("a.test")], vec![v4(), v6()], None),
            (true, vec![], vec![], Some(Unfit::Unbound)),
            (true, vec![domain("")], vec![v4(), v6()], Some(Unfit::Unbound)),
            (true, vec![domain("a.test"), domain(".")], vec![v4(), v6()], Some(Unfit::Unbound)),
            (true, vec![], vec![v4(), v6()], Some(Unfit::Unbound)),
            (true, vec![domain("a.test"), domain("b\u{1b}[2K.test")], vec![v4(), v6()], Some(Unfit::Unbound)),
            (true, vec![domain("com")], vec![v4(), v6()], Some(Unfit::TopLevel)),
            (true, vec![domain("a.test"), domain(".COM.")], vec![v4(), v6()], Some(Unfit::TopLevel)),
            (true, vec![domain("localhost")], vec![v4(), v6()], None),
            (true, vec![domain("a.test")], vec![], Some(Unfit::Addresses)),
            (true, vec![domain("a.test")], vec![v4()], Some(Unfit::Addresses)),
            (true, vec![domain("a.test")], vec![part, v6()], Some(Unfit::Addresses)),
            (false, vec![], vec![], Some(Unfit::NotAnAuthority)),
        ] {
            let shown = format!("{ca} {permitted:?} {excluded:?}");
            assert_eq!(unfit(ca, permitted, excluded), answer, "{shown}");
        }
    }

    #[test]
    fn what_may_vouch_for_more_than_servers_or_may_not_sign_is_unfit() {
        use ExtendedKeyUsagePurpose::{Any, ClientAuth, CodeSigning, EmailProtection, Other, ServerAuth};
        for purposes in [
            vec![],
            vec![Any],
            vec![ServerAuth, Any],
            vec![ServerAuth, ClientAuth],
            vec![CodeSigning],
            vec![ServerAuth, EmailProtection],
            vec![ServerAuth, Other(vec![1, 3, 6, 1])],
        ] {
            let shown = format!("{purposes:?}");
            let mut params = kept_to("a.test");
            params.extended_key_usages = purposes;
            assert_eq!(check(params), Some(Unfit::Purposes), "{shown}");
        }
        for (usages, answer) in
            [(vec![], Unfit::Purposes), (vec![KeyUsagePurpose::DigitalSignature], Unfit::NotAnAuthority)]
        {
            let mut params = kept_to("a.test");
            params.key_usages = usages;
            assert_eq!(check(params), Some(answer));
        }
        assert_eq!(check(kept_to("a.test")), None);
    }

    #[test]
    fn a_file_of_several_is_no_authority_and_what_is_passed_on_is_the_certificate_alone() {
        let (one, other) = (pem(kept_to("a.test")), pem(params(true)));
        let both = Described::read(format!("{one}{other}").as_bytes());
        assert!(matches!(both, Err(DescribeError::Several(2))), "{both:?}");
        let described = Described::read(format!("a word before\n{one}and one behind\n").as_bytes()).unwrap();
        assert_eq!(described.pem(), one.replace("\r\n", "\n"));
        let longer = [&described.certificate[..], b"more"].concat();
        let longer = Described { certificate: longer.into(), ..described }.pem();
        assert!(matches!(Described::read(longer.as_bytes()), Err(DescribeError::Surplus)));
    }

    #[test]
    fn nothing_in_a_name_acts_on_a_terminal() {
        let mut params = kept_to("a.test");
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "good\u{1b}[2K\u{9b}1A\u{202e}\r\nauthority");
        assert_eq!(Described::read(pem(params).as_bytes()).unwrap().name, "good[2K1Aauthority");
    }

    #[test]
    fn what_is_no_certificate_is_said_to_be_none() {
        assert!(matches!(Described::read(b"hello"), Err(DescribeError::Pem(_))));
        let damaged = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(Described::read(damaged), Err(DescribeError::Certificate(_))));
    }
}
