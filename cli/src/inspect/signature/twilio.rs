//! Twilio signs the address that it was told to call, with the fields of the form that it sends behind it (or, where it sends
//! something else, a hash of that within the address): <https://www.twilio.com/docs/usage/security>.

use std::collections::BTreeSet;

use data_encoding::HEXLOWER_PERMISSIVE;
use mytunnel_node::inspect::RequestHead;
use sha2::{Digest as _, Sha256};
use url::form_urlencoded;

use super::sent;

/// What was signed. An address may have been given with or without its usual port: either is looked at.
pub(super) fn signed(head: &RequestHead, body: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let query = head.target.split_once('?').map_or("", |(_, query)| query);
    let hash = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "bodySHA256");
    let fields = match hash {
        Some((_, hash)) => {
            let is_of_body = HEXLOWER_PERMISSIVE
                .decode(hash.as_bytes())
                .is_ok_and(|hash| hash == Sha256::digest(body).as_slice());
            if !is_of_body {
                return Err(
                    "bodySHA256 in the address is not the hash of this body: does something on the way \
                            change it?"
                        .to_owned(),
                );
            }
            String::new()
        }
        // Sorted by name; a name that comes twice has its values sorted, and none of them twice.
        None => form_urlencoded::parse(body)
            .collect::<BTreeSet<_>>()
            .into_iter()
            .map(|(name, value)| format!("{name}{value}"))
            .collect(),
    };
    Ok(addresses(head)?.map(|address| format!("{address}{fields}").into_bytes()).to_vec())
}

/// The address as the visitor has it, in both ways to write it.
fn addresses(head: &RequestHead) -> Result<[String; 2], String> {
    let host = sent(&head.headers, "x-forwarded-host").or_else(|_| sent(&head.headers, "host"))?;
    let scheme = sent(&head.headers, "x-forwarded-proto").unwrap_or_else(|_| "https".to_owned());
    let usual = if scheme == "http" { ":80" } else { ":443" };
    let other = match host.strip_suffix(usual) {
        Some(without) => without.to_owned(),
        None if host.contains(':') => host.clone(),
        None => format!("{host}{usual}"),
    };
    Ok([host, other].map(|host| format!("{scheme}://{host}{}", head.target)))
}
