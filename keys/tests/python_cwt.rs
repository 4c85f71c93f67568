//! The certificate is what the standards say, not only what we say: a COSE library of other people (`cwt` for Python)
//! verifies the golden one and reads the same claims.
//!
//! `.ci/python-cwt` prepares the interpreter and prints its path, for `MYTUNNEL_TEST_PYTHON_CWT`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{env, ffi::OsString, process::Command};

use data_encoding::HEXLOWER;
use mytunnel_keys::{certificate, secret::Seed};

const CERTIFICATE: &str = include_str!("vectors/certificate.hex");
const RENEWAL: &str = include_str!("vectors/certificate-renewal.hex");

/// Arguments: certificate and issuer's public key, in hex. Prints what it read, one claim a line.
const SCRIPT: &str = r#"
import hashlib, sys
import cbor2
from cwt import COSE, COSEKey

certificate, public = (bytes.fromhex(argument) for argument in sys.argv[1:])
kid = hashlib.sha256(public).digest()[:8]
key = COSEKey.new({1: 1, 2: kid, 3: -19, -1: 6, -2: public})
protected, unprotected, payload = COSE.new().decode_with_headers(certificate, key)
assert protected == {1: -19, 4: kid, 16: "mtk+cwt"}, protected
assert unprotected == {}, unprotected
claims = cbor2.loads(payload)
assert sorted(claims) == [-65537, 3, 4, 5, 6, 7, 8, 9], claims
private = claims[-65537]
assert sorted(set(private) - {11}) == [1, 2, 3, 4, 5, 6, 7, 8, 9], private
print("aud", claims[3])
print("exp nbf iat", claims[4], claims[5], claims[6])
print("cti", claims[7].hex())
print("cnf", claims[8][1][-2].hex(), {label: claims[8][1][label] for label in (1, -1)})
print("scope", claims[9])
print("tenant project", private[3], private[4])
print("parent", private[5].hex())
print("hosts", " ".join(private[6]))
print("replaces", private[11].hex() if 11 in private else "nobody")
"#;

fn run(python: &OsString, certificate: &[u8]) -> Result<String, String> {
    let output = Command::new(python)
        .args(["-c", SCRIPT])
        .arg(HEXLOWER.encode(certificate))
        .arg(HEXLOWER.encode(Seed::from_bytes([2; 32]).public().as_bytes()))
        .output()
        .unwrap_or_else(|error| panic!("MYTUNNEL_TEST_PYTHON_CWT={}: {error}", python.display()));
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

#[test]
fn a_library_of_other_people_verifies_the_certificate() {
    let Some(python) = env::var_os("MYTUNNEL_TEST_PYTHON_CWT") else {
        eprintln!(
            "SKIPPED: no independent check of the certificate; MYTUNNEL_TEST_PYTHON_CWT=$(.ci/python-cwt) turns it on"
        );
        return;
    };
    for certificate in [CERTIFICATE, RENEWAL] {
        reads_the_same(&python, HEXLOWER.decode(certificate.trim_end().as_bytes()).unwrap());
    }
}

fn reads_the_same(python: &OsString, mut bytes: Vec<u8>) {
    let read = certificate::inspect(&bytes).unwrap();
    let claims = read.peek();
    let hosts: Vec<_> = claims.hosts.iter().map(ToString::to_string).collect();
    let ours = format!(
        "aud {}\nexp nbf iat {} {} {}\ncti {}\ncnf {} {{1: 1, -1: 6}}\nscope {}\ntenant project {} {}\nparent {}\nhosts {}\nreplaces {}\n",
        claims.cluster,
        claims.not_after,
        claims.not_before,
        claims.issued_at,
        claims.serial,
        HEXLOWER.encode(claims.subject.as_bytes()),
        claims.scopes,
        claims.tenant,
        claims.project.as_ref().unwrap(),
        claims.parent.unwrap(),
        hosts.join(" "),
        claims.replaces.map_or_else(|| "nobody".to_owned(), |serial| serial.to_string()),
    );
    assert_eq!(run(python, &bytes).unwrap(), ours);

    *bytes.last_mut().unwrap() ^= 1;
    let refused = run(python, &bytes).unwrap_err();
    assert!(refused.contains("VerifyError"), "{refused}");
}
