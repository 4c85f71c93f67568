//! What the certificate of an authority says of it, for those who are asked to trust it.

use std::time::{Duration, SystemTime};

use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// An authority, by its certificate.
#[derive(Debug, Clone)]
pub struct Described {
    /// What it is called.
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
    /// The certificate is damaged.
    #[error("its certificate cannot be read")]
    Certificate(#[source] x509_parser::nom::Err<x509_parser::error::X509Error>),
    /// An extension of the certificate is damaged, or there twice.
    #[error("an extension of its certificate cannot be read")]
    Extension(#[from] x509_parser::error::X509Error),
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
    /// Whoever has its key could be any address.
    #[error("nothing keeps it from vouching for IP addresses")]
    Addresses,
}

impl Described {
    /// Reads the first certificate in a text.
    pub fn read(pem: &[u8]) -> Result<Self, DescribeError> {
        let der = CertificateDer::from_pem_slice(pem).map_err(DescribeError::Pem)?.into_owned();
        let (_, parsed) = X509Certificate::from_der(&der).map_err(DescribeError::Certificate)?;
        let name = parsed.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
        let ends = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or_default();
        let (domains, unfit) = bounds(&parsed)?;
        Ok(Self {
            name: name.unwrap_or("an authority without a name").to_owned(),
            domains,
            ends: SystemTime::UNIX_EPOCH + Duration::from_secs(ends),
            unfit,
            certificate: der,
        })
    }

    /// Whether a machine may trust it: that it can speak for the domains it names, and for nothing else.
    pub fn check(&self) -> Result<(), Unfit> {
        self.unfit.map_or(Ok(()), Err)
    }
}

/// The domains that an authority is kept to, and what speaks against it.
fn bounds(
    certificate: &X509Certificate<'_>,
) -> Result<(Vec<String>, Option<Unfit>), x509_parser::error::X509Error> {
    let is_authority = certificate.basic_constraints()?.is_some_and(|basic| basic.value.ca);
    let Some(constraints) = certificate.name_constraints()?.filter(|found| found.critical) else {
        return Ok((Vec::new(), Some(if is_authority { Unfit::Unbound } else { Unfit::NotAnAuthority })));
    };
    let permitted = constraints.value.permitted_subtrees.as_deref().unwrap_or_default();
    let domains: Vec<String> = permitted.iter().filter_map(|tree| domain(&tree.base)).collect();
    // A constraint is about its own kind of name alone (RFC 5280 §4.2.1.10): one of domains leaves all addresses free.
    let excluded = constraints.value.excluded_subtrees.as_deref().unwrap_or_default();
    let all_out = |length: usize| {
        excluded.iter().any(
            |tree| matches!(tree.base, GeneralName::IPAddress(net) if net.len() == length && net.iter().all(|&byte| byte == 0)),
        )
    };
    let unfit = if !is_authority {
        Some(Unfit::NotAnAuthority)
    } else if domains.is_empty() || domains.len() < permitted.len() {
        Some(Unfit::Unbound)
    } else if !all_out(8) || !all_out(32) {
        Some(Unfit::Addresses)
    } else {
        None
    };
    Ok((domains, unfit))
}

fn domain(name: &GeneralName<'_>) -> Option<String> {
    // The empty domain is the tree of all of them.
    if let GeneralName::DNSName(domain) = name
        && !domain.trim_matches('.').is_empty()
    {
        Some((*domain).to_owned())
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CidrSubnet, GeneralSubtree, IsCa, KeyPair, NameConstraints,
    };

    use super::*;
    use crate::local_ca::LocalCa;

    fn unfit(ca: bool, permitted: Vec<GeneralSubtree>, excluded: Vec<GeneralSubtree>) -> Option<Unfit> {
        let mut params = CertificateParams::default();
        if ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        if !permitted.is_empty() || !excluded.is_empty() {
            params.name_constraints =
                Some(NameConstraints { permitted_subtrees: permitted, excluded_subtrees: excluded });
        }
        let pem = params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem();
        Described::read(pem.as_bytes()).unwrap().check().err()
    }

    #[test]
    fn ours_is_kept_to_its_domains_and_to_no_address() {
        let now = SystemTime::now();
        let ca = LocalCa::ephemeral("tun.test", "console.test", now).unwrap();
        let described = Described::read(ca.certificate_pem().as_bytes()).unwrap();
        assert_eq!(described.check(), Ok(()));
        assert_eq!(described.domains, ["tun.test", "console.test"]);
        assert!(described.name.starts_with("mytunnel local CA for tun.test ("), "{}", described.name);
        assert!(described.ends > now);
    }

    #[test]
    fn what_could_pass_for_others_is_unfit() {
        let domain = |name: &str| GeneralSubtree::DnsName(name.to_owned());
        let v4 = || GeneralSubtree::IpAddress(CidrSubnet::V4([0; 4], [0; 4]));
        let v6 = || GeneralSubtree::IpAddress(CidrSubnet::V6([0; 16], [0; 16]));
        let part = GeneralSubtree::IpAddress(CidrSubnet::V4([10, 0, 0, 0], [255, 0, 0, 0]));
        for (ca, permitted, excluded, answer) in [
            (true, vec![domain("a.test")], vec![v4(), v6()], None),
            (true, vec![], vec![], Some(Unfit::Unbound)),
            (true, vec![domain("")], vec![v4(), v6()], Some(Unfit::Unbound)),
            (true, vec![domain("a.test"), domain(".")], vec![v4(), v6()], Some(Unfit::Unbound)),
            (true, vec![], vec![v4(), v6()], Some(Unfit::Unbound)),
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
    fn what_is_no_certificate_is_said_to_be_none() {
        assert!(matches!(Described::read(b"hello"), Err(DescribeError::Pem(_))));
        let damaged = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(Described::read(damaged), Err(DescribeError::Certificate(_))));
    }
}
