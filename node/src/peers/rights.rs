//! What a certificate says about a private share, decided at both ends without asking anybody.
//!
//! The connection's handshake has proved the other end's key, and its certificate is for that key. So it matters to
//! nobody what the relay between them says or where it leads to.

use mytunnel_keys::{
    Verified,
    certificate::{self, Claims, Kind, VerifyError},
    error::Code,
    id::{Cluster, ProjectId, PublicKey, Scope, TenantId, TunnelId, TunnelName},
    trust::Trust,
};

use crate::state::link::Refusal;

/// What this node's own certificate says of it.
#[derive(Debug, Clone)]
pub(crate) struct Own {
    pub(crate) cluster: Cluster,
    pub(crate) tenant: TenantId,
    /// None for a person's device, which may reach every project of its tenant.
    pub(crate) project: Option<ProjectId>,
}

impl Own {
    /// The tunnel that a name is of what we serve, whatever a relay calls it.
    pub(crate) fn tunnel(&self, name: &TunnelName) -> TunnelId {
        TunnelId::derive(&self.cluster, &serves_in(&self.tenant, self.project.as_ref()), name)
    }
}

/// Where a key serves names.
fn serves_in(tenant: &TenantId, project: Option<&ProjectId>) -> ProjectId {
    project.cloned().unwrap_or_else(|| tenant.home_project())
}

/// May who holds this certificate reach what we share under this name?
pub(crate) fn of_guest(
    certificate: &[u8],
    holder: &PublicKey,
    name: &TunnelName,
    trust: &Trust,
    own: &Own,
    now: u64,
) -> Result<Verified<Claims>, Refusal> {
    let claims = certificate::verify(certificate, trust, holder, now)
        .map_err(|error| refusal(error.code(), error.to_string()))?;
    if claims.tenant != own.tenant {
        // Not even that there is such a name.
        return Err(unknown(name));
    }
    if !may_meet(&claims) {
        return Err(refusal(Code::ScopeDenied, "this key may not reach private shares"));
    }
    let project = serves_in(&own.tenant, own.project.as_ref());
    if claims.project.as_ref().is_some_and(|theirs| *theirs != project) {
        return Err(refusal(Code::ProjectMismatch, format!("{name} belongs to another project")));
    }
    if !claims.allows_name(name) {
        return Err(refusal(Code::ScopeDenied, format!("this key may not use the name {name}")));
    }
    Ok(claims)
}

/// The answer to whoever asks for what is not shared here.
pub(crate) fn unknown(name: &TunnelName) -> Refusal {
    refusal(Code::NotFound, format!("there is no private share {name}"))
}

/// Is who holds this certificate the one that serves this name?
pub(crate) fn of_host(
    certificate: &[u8],
    holder: &PublicKey,
    name: &TunnelName,
    tunnel: &TunnelId,
    trust: &Trust,
    own: &Own,
    now: u64,
) -> Result<Verified<Claims>, FalseHost> {
    let claims = certificate::verify(certificate, trust, holder, now)?;
    let project = serves_in(&claims.tenant, claims.project.as_ref());
    let is_ours = claims.tenant == own.tenant && own.project.as_ref().is_none_or(|own| *own == project);
    if !is_ours {
        return Err(FalseHost::Project);
    }
    // Who came with a ticket has the right name and serves nothing: it would stand in for the one that was looked for.
    if !may_meet(&claims) || !claims.allows_name(name) || claims.max_tunnels == 0 {
        return Err(FalseHost::Rights);
    }
    if *tunnel != TunnelId::derive(&own.cluster, &project, name) {
        return Err(FalseHost::Tunnel);
    }
    Ok(claims)
}

/// Whether it is somebody who takes part in private shares at all.
fn may_meet(claims: &Claims) -> bool {
    matches!(claims.kind, Kind::UserDevice | Kind::Child) && claims.scopes.contains(Scope::Private)
}

/// The node to which a relay has led us is not the one that was looked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FalseHost {
    #[error("the certificate of the node that answers is refused: {0}")]
    Certificate(#[from] VerifyError),
    #[error("the node that answers belongs to another project")]
    Project,
    #[error("the node that answers may not serve this name")]
    Rights,
    #[error("the node that answers serves something else")]
    Tunnel,
    #[error("the node that answers speaks version {0} of the protocol")]
    Version(u16),
}

fn refusal(code: Code, message: impl Into<String>) -> Refusal {
    Refusal { code, message: message.into(), help: code.help().to_owned() }
}

#[cfg(test)]
mod tests {
    use mytunnel_keys::{certificate::Flags, secret::Seed};

    use super::*;
    use crate::testing::{self, NOW};

    fn name() -> TunnelName {
        "box".parse().unwrap()
    }

    fn trust() -> Trust {
        Trust::open(&testing::bundle(1), &testing::root().fingerprint()).unwrap()
    }

    fn claims() -> Claims {
        Claims { scopes: "private".parse().unwrap(), flags: Flags::NONE, ..testing::node_claims() }
    }

    fn own() -> Own {
        let claims = claims();
        Own { cluster: claims.cluster, tenant: claims.tenant, project: claims.project }
    }

    fn other_tenant() -> TenantId {
        "ten_ffffffffffffffff".parse().unwrap()
    }

    fn other_project() -> ProjectId {
        "proj_ffffffffffffffff".parse().unwrap()
    }

    fn guest(claims: &Claims) -> Result<Verified<Claims>, Code> {
        let key = testing::node().public();
        let certificate = testing::sign(claims);
        of_guest(&certificate, &key, &name(), &trust(), &own(), NOW).map_err(|refusal| refusal.code)
    }

    fn host(claims: &Claims, own: &Own) -> Result<Verified<Claims>, FalseHost> {
        let project = serves_in(&claims.tenant, claims.project.as_ref());
        let tunnel = TunnelId::derive(&claims.cluster, &project, &name());
        let (key, certificate) = (testing::node().public(), testing::sign(claims));
        of_host(&certificate, &key, &name(), &tunnel, &trust(), own, NOW)
    }

    fn device(claims: Claims) -> Claims {
        Claims { kind: Kind::UserDevice, project: None, parent: None, ..claims }
    }

    #[test]
    fn one_project_meets_and_a_device_meets_all_of_its_tenant() {
        assert!(guest(&claims()).is_ok() && guest(&device(claims())).is_ok());
        assert!(host(&claims(), &own()).is_ok());
        let person = Own { project: None, ..own() };
        assert!(host(&claims(), &person).is_ok() && host(&device(claims()), &person).is_ok());
    }

    #[test]
    fn a_guest_without_the_right_is_refused_and_another_tenant_told_nothing() {
        let with = |change: fn(&mut Claims)| {
            let mut claims = claims();
            change(&mut claims);
            guest(&claims).map(drop)
        };
        assert_eq!(with(|claims| claims.tenant = other_tenant()), Err(Code::NotFound));
        assert_eq!(with(|claims| claims.project = Some(other_project())), Err(Code::ProjectMismatch));
        assert_eq!(
            with(|claims| claims.scopes = "http tcp udp pair".parse().unwrap()),
            Err(Code::ScopeDenied)
        );
        assert_eq!(with(|claims| claims.hosts = vec!["pr-*".parse().unwrap()]), Err(Code::ScopeDenied));
        assert_eq!(with(|claims| claims.kind = Kind::Relay), Err(Code::ScopeDenied));
        assert_eq!(with(|claims| claims.kind = Kind::PairGuest), Err(Code::ScopeDenied));
        assert_eq!(
            with(|claims| claims.not_after = claims.not_before + 1),
            Ok(()),
            "within the clocks' slack"
        );
        assert_eq!(with(|claims| claims.subject = Seed::from_bytes([9; 32]).public()), Err(Code::InvalidKey));
        let late = of_guest(
            &testing::sign(&claims()),
            &testing::node().public(),
            &name(),
            &trust(),
            &own(),
            NOW + 2 * 3600,
        );
        assert_eq!(late.unwrap_err().code, Code::KeyExpired);
    }

    #[test]
    fn a_guest_with_a_ticket_reaches_one_name_and_is_nobodys_host() {
        let guest_of_box = Claims { max_tunnels: 0, hosts: vec!["box".parse().unwrap()], ..claims() };
        assert!(guest(&guest_of_box).is_ok());
        assert_eq!(host(&guest_of_box, &own()).map(drop), Err(FalseHost::Rights));
        let other = Claims { hosts: vec!["other".parse().unwrap()], ..guest_of_box };
        assert_eq!(guest(&other).map(drop), Err(Code::ScopeDenied));
    }

    #[test]
    fn a_host_that_a_relay_has_made_up_is_none() {
        let with = |change: fn(&mut Claims)| {
            let mut claims = claims();
            change(&mut claims);
            host(&claims, &own()).map(drop)
        };
        assert_eq!(with(|claims| claims.tenant = other_tenant()), Err(FalseHost::Project));
        assert_eq!(with(|claims| claims.project = Some(other_project())), Err(FalseHost::Project));
        let elsewhere = Own { project: Some(other_project()), ..own() };
        assert_eq!(host(&device(claims()), &elsewhere).map(drop), Err(FalseHost::Project));
        assert_eq!(with(|claims| claims.hosts = vec!["web".parse().unwrap()]), Err(FalseHost::Rights));
        assert_eq!(with(|claims| claims.scopes = "http".parse().unwrap()), Err(FalseHost::Rights));
        assert_eq!(with(|claims| claims.kind = Kind::Relay), Err(FalseHost::Rights));
        assert_eq!(with(|claims| claims.max_tunnels = 0), Err(FalseHost::Rights));
        let wrong_key = with(|claims| claims.subject = Seed::from_bytes([9; 32]).public());
        assert_eq!(wrong_key, Err(FalseHost::Certificate(VerifyError::Holder)));
        let (key, certificate) = (testing::node().public(), testing::sign(&claims()));
        let other = TunnelId::from_bytes([1; 16]);
        let made_up = of_host(&certificate, &key, &name(), &other, &trust(), &own(), NOW);
        assert_eq!(made_up.map(drop), Err(FalseHost::Tunnel));
    }
}
