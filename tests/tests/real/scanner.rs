//! What a relay offers in TLS, as sslyze and testssl.sh see it from outside.

use std::env;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use mytunnel_tests::lab::Lab;
use mytunnel_tests::ports;
use serde_json::Value;
use tokio::process::Command;

use super::{acme, end_to_end, lab, output};

/// Names of the cipher suites that a version of TLS is accepted with.
fn accepted(scan: &Value, version: &str) -> Result<Vec<String>> {
    let suites = &scan[format!("{version}_cipher_suites")];
    ensure!(suites["status"] == "COMPLETED", "{version}: {suites}");
    let suites = suites["result"]["accepted_cipher_suites"].as_array().context("a list of suites")?;
    let name = |suite: &Value| suite["cipher_suite"]["name"].as_str().map(str::to_owned);
    suites.iter().map(|suite| name(suite).context("a suite has a name")).collect()
}

#[tokio::test]
async fn tls_is_offered_in_versions_and_ways_that_are_sound_and_in_no_others() -> Result<()> {
    let sslyze = env::var("MYTUNNEL_TEST_SSLYZE")
        .context("MYTUNNEL_TEST_SSLYZE is not set: MYTUNNEL_TEST_SSLYZE=$(.ci/sslyze)")?;
    let lab = lab().await?;
    let [_, https, _] = lab.listen_addresses()?;
    let checks = "--sslv2 --sslv3 --tlsv1 --tlsv1_1 --tlsv1_2 --tlsv1_3 --resum --heartbleed --robot --reneg --compression \
                  --openssl_ccs --ems --early_data --mozilla_config=disable --sni localhost";
    let file = lab.path("scan.json");
    output(Command::new(sslyze).args(checks.split_whitespace()).arg("--json_out").arg(&file).arg(&https))
        .await?;
    let report: Value = serde_json::from_slice(&std::fs::read(&file)?)?;
    let server = &report["server_scan_results"][0];
    ensure!(server["scan_status"] == "COMPLETED", "{server}");
    let scan = &server["scan_result"];
    for version in ["ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1"] {
        ensure!(accepted(scan, version)?.is_empty(), "{version} is accepted");
    }
    for version in ["tls_1_2", "tls_1_3"] {
        let suites = accepted(scan, version)?;
        ensure!(suites.len() == 3, "{version}: {suites:?}");
        let sound = |suite: &String| suite.contains("_GCM_") || suite.contains("_CHACHA20_POLY1305_");
        ensure!(suites.iter().all(sound), "not every suite is authenticated encryption: {suites:?}");
        let fresh = |suite: &String| version == "tls_1_3" || suite.starts_with("TLS_ECDHE_");
        ensure!(suites.iter().all(fresh), "not every key is forward secret: {suites:?}");
    }
    let said = |pointer: &str| scan.pointer(pointer).with_context(|| format!("no {pointer} in {scan}"));
    for (pointer, wanted) in [
        ("/tls_compression/result/supports_compression", Value::from(false)),
        ("/heartbleed/result/is_vulnerable_to_heartbleed", Value::from(false)),
        ("/openssl_ccs_injection/result/is_vulnerable_to_ccs_injection", Value::from(false)),
        ("/session_renegotiation/result/is_vulnerable_to_client_renegotiation_dos", Value::from(false)),
        ("/session_renegotiation/result/supports_secure_renegotiation", Value::from(true)),
        ("/tls_extended_master_secret/result/supports_ems_extension", Value::from(true)),
        // What comes in early data can be played again by whoever saw it.
        ("/tls_1_3_early_data/result/supports_early_data", Value::from(false)),
        ("/session_resumption/result/session_id_resumption_result", Value::from("FULLY_SUPPORTED")),
    ] {
        ensure!(*said(pointer)? == wanted, "{pointer}: {}", said(pointer)?);
    }
    Ok(())
}

/// What testssl says beyond "low", for a name with a certificate of this authority; what is known, and why it stays, is left out.
async fn complaints(
    lab: &Lab,
    authority: &Path,
    host: &str,
    https: &str,
    known: &[&str],
) -> Result<Vec<String>> {
    let file = lab.path(&format!("testssl-{host}.json"));
    let port = https.rsplit(':').next().context("a port")?;
    // Everything but the simulation of some fifty clients, which only prints what each would agree on.
    let mut command = Command::new("testssl");
    command.args("--quiet --color 0 --warnings batch --ip 127.0.0.1 -p -s -f -P -S -h -U".split_whitespace());
    command.arg("--add-ca").arg(authority).arg("--jsonfile").arg(&file).arg(format!("https://{host}:{port}"));
    // Its exit code counts what it has found; without a report it has failed.
    let ran = command.output().await.context("testssl.sh is not installed")?;
    let report = std::fs::read(&file).with_context(|| String::from_utf8_lossy(&ran.stdout).into_owned())?;
    let report: Value = serde_json::from_slice(&report)?;
    let findings = report.as_array().context("a list of findings")?;
    let of = |key: &'static str| move |finding: &Value| finding[key].as_str().unwrap_or_default().to_owned();
    let (id, severity) = (of("id"), of("severity"));
    for looked_at in ["TLS1_3", "cert_trust", "BREACH", "ROBOT", "heartbleed"] {
        ensure!(
            findings.iter().any(|finding| id(finding).starts_with(looked_at)),
            "nothing about {looked_at}: {report}"
        );
    }
    let bad = findings.iter().filter(|finding| {
        ["WARN", "MEDIUM", "HIGH", "CRITICAL", "FATAL"].contains(&&*severity(finding))
            && !known.contains(&&*id(finding))
    });
    Ok(bad.map(Value::to_string).collect())
}

/// Clients choose among suites that are all sound, by what they are fast in (Mozilla's "modern" and "intermediate" say so, too).
const CHOICE: &str = "cipher_order";
/// A local authority has nobody who could be asked, nor has pebble.
const REVOCATION: &str = "cert_revocation";
/// testssl leaves without waiting for a ticket, and at times before it comes, with any server; [`resumes`] waits.
const TICKET: &str = "sessionresumption_ticket";

/// Whether a ticket opens the next connection, in TLS 1.3.
async fn resumes(lab: &Lab, host: &str, https: &str) -> Result<()> {
    let script = format!(
        "ask() {{ printf 'HEAD / HTTP/1.1\\r\\nHost: {host}\\r\\nConnection: close\\r\\n\\r\\n' | \
         openssl s_client -ign_eof -connect {https} -servername {host} -tls1_3 \"$@\" 2>&1; }}\n\
         ask -sess_out {host}.session && ask -sess_in {host}.session"
    );
    let said = output(Command::new("bash").args(["-c", &script]).current_dir(lab.path("."))).await?;
    ensure!(said.contains("\nNew, TLSv1.3, ") && said.contains("\nReused, TLSv1.3, "), "{said}");
    Ok(())
}

#[tokio::test]
async fn testssl_has_nothing_to_say_of_the_local_authoritys_console() -> Result<()> {
    let lab = lab().await?;
    let [_, https, _] = lab.listen_addresses()?;
    let authority = lab.path("data/local-ca-localhost.pem");
    let bad = complaints(&lab, &authority, "localhost", &https, &[CHOICE, REVOCATION, TICKET]).await?;
    ensure!(bad.is_empty(), "{bad:#?}");
    resumes(&lab, "localhost", &https).await
}

/// pebble's certificates are good for five years; those of public authorities for weeks.
const FIVE_YEARS: &str = "cert_validityPeriod";
/// Looked for without a name, for which there is no certificate here.
const WITHOUT_A_NAME: &str = "secure_renego";

#[tokio::test]
async fn testssl_has_nothing_to_say_of_a_name_with_a_public_authoritys_certificate() -> Result<()> {
    let mut lab = Lab::empty(Path::new(env!("CARGO_BIN_EXE_mytunnel-e2e")))?;
    let https = ports::free()?;
    let authority = acme::Authority::start(&lab, https).await?;
    acme::relay(&mut lab, &authority, https, "").await?;
    let (_node, _) = lab.node(&acme::site(&lab)?, "web").await?;
    let root = authority.root(&lab).await?;
    ensure!(acme::visit(&root, https, "web").await? == "certified\n");
    let https = format!("127.0.0.1:{https}");
    let known = [CHOICE, REVOCATION, TICKET, FIVE_YEARS, WITHOUT_A_NAME];
    let bad = complaints(&lab, &root, "web.relay.test", &https, &known).await?;
    ensure!(bad.is_empty(), "{bad:#?}");
    resumes(&lab, "web.relay.test", &https).await
}

#[tokio::test]
async fn testssl_has_nothing_to_say_of_a_name_whose_tls_ends_at_the_node() -> Result<()> {
    let mut lab = Lab::empty(Path::new(env!("CARGO_BIN_EXE_mytunnel-e2e")))?;
    let https = ports::free()?;
    let authority = acme::Authority::start(&lab, https).await?;
    acme::relay(&mut lab, &authority, https, "").await?;
    let mut node = end_to_end::share(&lab, &authority)?;
    node.event("ready").await?;
    let root = authority.root(&lab).await?;
    ensure!(acme::visit(&root, https, "vault").await? == "certified\n");
    let https = format!("127.0.0.1:{https}");
    let known = [CHOICE, REVOCATION, TICKET, FIVE_YEARS, WITHOUT_A_NAME];
    let bad = complaints(&lab, &root, "vault.relay.test", &https, &known).await?;
    ensure!(bad.is_empty(), "{bad:#?}");
    resumes(&lab, "vault.relay.test", &https).await
}
