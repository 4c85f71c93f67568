//! Whom a sign-in lets in.

use mytunnel_keys::feed::SignInGate;

use super::Who;

/// Whether the lists of a gate name somebody; without any entry everybody may enter who has signed in.
pub(in super::super) fn permits(gate: &SignInGate, who: &Who) -> bool {
    let SignInGate { allowed_domains, allowed_emails, .. } = gate;
    if allowed_domains.is_empty() && allowed_emails.is_empty() {
        return true;
    }
    // Only an address that is theirs beyond doubt, in the one form of all addresses: lower case, ASCII, one `@`.
    let Some((email, domain)) =
        who.email.as_deref().and_then(|email| Some((email, email.split_once('@')?.1)))
    else {
        return false;
    };
    let named = allowed_emails.iter().any(|allowed| allowed == email);
    named || (!domain.contains('@') && allowed_domains.iter().any(|allowed| allowed == domain))
}

#[cfg(test)]
mod tests {
    use mytunnel_keys::feed::SessionKey;

    use super::*;

    fn permitted(domains: &[&str], emails: &[&str], email: Option<&str>) -> bool {
        let owned = |list: &[&str]| list.iter().map(ToString::to_string).collect();
        let gate = SignInGate {
            provider: "google".to_owned(),
            allowed_domains: owned(domains),
            allowed_emails: owned(emails),
            session_key: SessionKey::from_bytes([1; 32]),
        };
        let who = Who {
            subject: "7".to_owned(),
            email: email.map(str::to_owned),
            shown: "x@acme.example".to_owned(),
        };
        permits(&gate, &who)
    }

    #[test]
    fn empty_lists_let_in_who_has_signed_in_and_others_whom_they_name() {
        assert!(permitted(&[], &[], None) && permitted(&[], &[], Some("a@b.example")));
        let (domains, emails) = (["acme.example"], ["ann@b.example"]);
        for welcome in ["x@acme.example", "ann@b.example"] {
            assert!(permitted(&domains, &emails, Some(welcome)), "{welcome}");
        }
        for stranger in [
            "bob@b.example",
            "x@evil.acme.example",
            "x@acme.example.evil.example",
            "x@evilacme.example",
            "x@evil.example@acme.example",
            "ann@b.example@evil.example",
            "acme.example",
            "",
        ] {
            assert!(!permitted(&domains, &emails, Some(stranger)), "{stranger}");
        }
        // An address that the provider does not vouch for is none, whatever is shown.
        assert!(!permitted(&domains, &emails, None));
        assert!(
            !permitted(&["acme.example"], &[], Some("ann@b.example"))
                && !permitted(&[], &["a@b.example"], Some("c@b.example"))
        );
    }
}
