//! Certificates from a real ACME server that is not ours: pebble, with its DNS server, whose records the tests set.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mytunnel_tests::lab::Lab;
use mytunnel_tests::ports;
use mytunnel_tests::process::{PATIENCE, Running};
use tokio::process::Command;

use crate::{listening, output};

pub(crate) const DOMAIN: &str = "relay.test";

/// An authority, and a name server that says that every name is this machine.
pub(crate) struct Authority {
    pub(crate) directory: String,
    management: u16,
    /// Where records are set.
    records: u16,
    /// The name server.
    dns: u16,
    _pebble: Running,
    _names: Running,
}

impl Authority {
    /// `https` is where the authority looks whether a name is ours.
    pub(crate) async fn start(lab: &Lab, https: u16) -> Result<Self> {
        Self::start_asking(lab, https, None, None).await
    }

    /// One whose certificates are good for so long.
    async fn start_brief(lab: &Lab, https: u16, life: Duration) -> Result<Self> {
        Self::start_asking(lab, https, None, Some(life)).await
    }

    /// One that asks this name server, which is not ours to set records at.
    async fn start_with(lab: &Lab, https: u16, asked: u16) -> Result<Self> {
        Self::start_asking(lab, https, Some(asked), None).await
    }

    async fn start_asking(lab: &Lab, https: u16, asked: Option<u16>, life: Option<Duration>) -> Result<Self> {
        let place = lab.path("pebble");
        std::fs::create_dir_all(&place)?;
        let openssl = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
             -subj /CN=pebble -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE \
             -keyout key.pem -out cert.pem 2>&1";
        output(Command::new("bash").args(["-c", openssl]).current_dir(&place)).await?;
        let (listen, management, dns, other) =
            (ports::free()?, ports::free()?, ports::free()?, ports::free()?);
        let config = serde_json::json!({"pebble": {
            "listenAddress": format!("127.0.0.1:{listen}"),
            "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": place.join("cert.pem"), "privateKey": place.join("key.pem"),
            "httpPort": other, "tlsPort": https, "ocspResponderURL": "",
            // Zero stands for its own, of five years.
            "certificateValidityPeriod": life.map_or(0, |life| life.as_secs()),
        }});
        let file = place.join("config.json");
        std::fs::write(&file, config.to_string())?;
        let text = |path: &Path| path.to_str().map(str::to_owned).context("a path in UTF-8");
        let records = ports::free()?;
        let names = Running::start(
            Path::new("pebble-challtestsrv"),
            [
                "-defaultIPv6".to_owned(),
                String::new(),
                "-dns01".to_owned(),
                format!("127.0.0.1:{dns}"),
                "-http01".to_owned(),
                String::new(),
                "-https01".to_owned(),
                String::new(),
                "-tlsalpn01".to_owned(),
                String::new(),
                "-management".to_owned(),
                format!("127.0.0.1:{records}"),
            ],
            &[],
            &place,
        )?;
        listening(records).await?;
        let pebble = Running::start(
            Path::new("pebble"),
            [
                "-config".to_owned(),
                text(&file)?,
                "-dnsserver".to_owned(),
                format!("127.0.0.1:{}", asked.unwrap_or(dns)),
                "-strict".to_owned(),
            ],
            // By itself it refuses one of twenty nonces that are good, of which three in a row are an order that rests for a minute.
            &[("PEBBLE_VA_NOSLEEP", "1".as_ref()), ("PEBBLE_WFE_NONCEREJECT", "0".as_ref())],
            &place,
        )?;
        listening(listen).await?;
        let directory = format!("https://127.0.0.1:{listen}/dir");
        Ok(Self { directory, management, records, dns, _pebble: pebble, _names: names })
    }

    /// The certificate that vouches for all that it issues.
    pub(crate) async fn root(&self, lab: &Lab) -> Result<PathBuf> {
        let file = lab.path("root.pem");
        let url = format!("https://127.0.0.1:{}/roots/0", self.management);
        let pem = output(Command::new("curl").args(["-sk", &url])).await?;
        ensure!(pem.contains("BEGIN CERTIFICATE"), "{pem}");
        std::fs::write(&file, pem)?;
        Ok(file)
    }
}

/// A relay of a public domain that asks this authority.
pub(crate) async fn relay(lab: &mut Lab, authority: &Authority, https: u16, more: &str) -> Result<()> {
    let file = lab.path("relay.toml");
    let ca = lab.path("pebble/cert.pem");
    std::fs::write(
        &file,
        format!(
            "domain = '{DOMAIN}'\nconsole = 'localhost'\nredirect_http = false\nacme = 'me@example.com'\n\
             acme_directory = '{}'\nacme_directory_ca = '{}'\n{more}",
            authority.directory,
            ca.display()
        ),
    )?;
    let https = format!("127.0.0.1:{https}");
    let file = file.to_str().context("a path in UTF-8")?.to_owned();
    lab.start_relay_with(&["127.0.0.1:0", &https, "127.0.0.1:0"], &["--config", &file]).await?;
    let code = lab.ready["setup_code"].as_str().map(str::to_owned);
    if let Some(code) = code {
        let server = lab.server();
        lab.own(&server, &code).await?;
    }
    Ok(())
}

/// What curl says of `https://NAME.relay.test`, believing only `root`.
pub(crate) async fn visit(root: &Path, https: u16, name: &str) -> Result<String> {
    visit_host(root, https, &format!("{name}.{DOMAIN}")).await
}

async fn visit_host(root: &Path, https: u16, host: &str) -> Result<String> {
    let resolve = format!("{host}:{https}:127.0.0.1");
    let root = root.to_str().context("a path in UTF-8")?;
    let url = format!("https://{host}:{https}/");
    output(Command::new("curl").args([
        "-sS",
        "--max-time",
        "30",
        "--cacert",
        root,
        "--resolve",
        &resolve,
        &url,
    ]))
    .await
}

/// The serial number and the names of the certificate that is shown for a name.
pub(crate) async fn shown(https: u16, name: &str) -> Result<String> {
    let script = format!(
        "openssl s_client -connect 127.0.0.1:{https} -servername {name} </dev/null 2>/dev/null | \
         openssl x509 -noout -serial -ext subjectAltName"
    );
    output(Command::new("bash").args(["-o", "pipefail", "-c", &script])).await
}

/// The names of the certificates' files, of whatever authority.
fn kept(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for authority in std::fs::read_dir(folder)? {
        for file in std::fs::read_dir(authority?.path())? {
            names.push(file?.file_name().to_string_lossy().into_owned());
        }
    }
    names.retain(|name| name.ends_with(".pem"));
    Ok(names)
}

pub(crate) fn site(lab: &Lab) -> Result<String> {
    let site = lab.path("site");
    std::fs::create_dir_all(&site)?;
    std::fs::write(site.join("index.html"), "certified\n")?;
    Ok(site.to_str().context("a path in UTF-8")?.to_owned())
}

#[tokio::test]
async fn each_name_that_exists_gets_a_certificate_when_it_comes_up_and_keeps_it() -> Result<()> {
    let mut lab = Lab::empty(Path::new(env!("CARGO_BIN_EXE_mytunnel-e2e")))?;
    let https = ports::free()?;
    let authority = Authority::start(&lab, https).await?;
    relay(&mut lab, &authority, https, "").await?;
    let (_node, ready) = lab.node(&site(&lab)?, "web").await?;
    ensure!(ready["url"] == format!("https://web.{DOMAIN}:{https}"), "{ready}");
    let root = authority.root(&lab).await?;
    ensure!(visit(&root, https, "web").await? == "certified\n");
    let first = shown(https, "web.relay.test").await?;
    ensure!(first.contains("DNS:web.relay.test") && !first.contains('*'), "{first}");
    let stranger = visit(&root, https, "other").await;
    ensure!(stranger.is_err(), "a name that does not exist has a certificate");
    ensure!(kept(&lab.path("data/acme"))? == ["web.relay.test.pem"], "{:?}", kept(&lab.path("data/acme"))?);

    // It is kept over a restart, though the authority is away.
    drop(authority);
    restart(&mut lab, &root, https).await?;
    ensure!(shown(https, "web.relay.test").await? == first);
    Ok(())
}

/// Starts the relay anew, and waits until the node is back.
async fn restart(lab: &mut Lab, root: &Path, https: u16) -> Result<()> {
    let addresses = lab.listen_addresses()?;
    lab.kill_relay().await?;
    let file = lab.path("relay.toml");
    lab.start_relay_with(&addresses, &["--config", file.to_str().context("a path in UTF-8")?]).await?;
    let served = async { while visit(root, https, "web").await.ok().as_deref() != Some("certified\n") {} };
    tokio::time::timeout(PATIENCE, served).await.context("the node does not come back")
}

/// In one process a name is not ordered again within an hour, so that it is another one that renews it.
#[tokio::test]
async fn a_certificate_is_renewed_before_it_ends_and_no_connection_notices() -> Result<()> {
    const LARGE: usize = 10_000_000;
    let mut lab = Lab::empty(Path::new(env!("CARGO_BIN_EXE_mytunnel-e2e")))?;
    let https = ports::free()?;
    let authority = Authority::start_brief(&lab, https, Duration::from_secs(60)).await?;
    relay(&mut lab, &authority, https, "").await?;
    let site = site(&lab)?;
    std::fs::write(Path::new(&site).join("large"), vec![7; LARGE])?;
    let (_node, _) = lab.node(&site, "web").await?;
    let root = authority.root(&lab).await?;
    ensure!(visit(&root, https, "web").await? == "certified\n");
    let first = shown(https, "web.relay.test").await?;
    restart(&mut lab, &root, https).await?;

    // It lasts for 50 seconds, and the renewal is due 40 seconds after the order, which was a moment ago.
    let mut download = Command::new("curl");
    let resolve = format!("web.{DOMAIN}:{https}:127.0.0.1");
    download.args(["-sS", "--limit-rate", "200k", "-o", "/dev/null", "-w", "%{http_code} %{size_download}"]);
    download.arg("--cacert").arg(&root).args(["--resolve", &resolve]);
    download.arg(format!("https://web.{DOMAIN}:{https}/large"));
    ensure!(output(&mut download).await? == format!("200 {LARGE}"));
    let second = shown(https, "web.relay.test").await?;
    ensure!(second != first, "it is not renewed");
    ensure!(second.contains("DNS:web.relay.test"), "{second}");
    ensure!(visit(&root, https, "web").await? == "certified\n");
    Ok(())
}

#[tokio::test]
async fn one_certificate_is_for_all_names_where_dns_can_be_answered_for() -> Result<()> {
    let mut lab = Lab::empty(Path::new(env!("CARGO_BIN_EXE_mytunnel-e2e")))?;
    let https = ports::free()?;
    let authority = Authority::start(&lab, https).await?;
    let hook = lab.path("hook.sh");
    std::fs::write(
        &hook,
        format!(
            "set -eu\necho \"$@\" >> {}\n\
             case $1 in present) verb=set-txt body='{{\"host\":\"'$2'.\",\"value\":\"'$3'\"}}' ;;\n\
             *) verb=clear-txt body='{{\"host\":\"'$2'.\"}}' ;; esac\n\
             curl -sSf -d \"$body\" http://127.0.0.1:{}/$verb\n",
            lab.path("hook.log").display(),
            authority.records
        ),
    )?;
    let hook = hook.to_str().context("a path in UTF-8")?;
    relay(&mut lab, &authority, https, &format!("acme_dns_hook = ['bash', '{hook}']\n")).await?;
    let root = authority.root(&lab).await?;
    let site = site(&lab)?;
    let (_one, _) = lab.node(&site, "one").await?;
    ensure!(visit(&root, https, "one").await? == "certified\n");
    let first = shown(https, "one.relay.test").await?;
    ensure!(first.contains("DNS:*.relay.test") && first.contains("DNS:relay.test"), "{first}");
    let begun = tokio::time::Instant::now();
    let (_two, _) = lab.node(&site, "two").await?;
    ensure!(visit(&root, https, "two").await? == "certified\n");
    ensure!(shown(https, "two.relay.test").await? == first, "another certificate for a name that is covered");
    ensure!(begun.elapsed() < Duration::from_secs(20));
    let log = std::fs::read_to_string(lab.path("hook.log"))?;
    let of = |verb: &str| log.lines().filter(|line| line.starts_with(verb)).count();
    ensure!(of("present _acme-challenge.relay.test ") == of("cleanup _acme-challenge.relay.test "), "{log}");
    ensure!(of("present") >= 1, "{log}");
    Ok(())
}

#[tokio::test]
async fn one_certificate_is_for_all_names_where_the_relay_answers_for_its_record_itself() -> Result<()> {
    let mut lab = Lab::empty(Path::new(env!("CARGO_BIN_EXE_mytunnel-e2e")))?;
    let (https, dns) = (ports::free()?, ports::free()?);
    let authority = Authority::start_with(&lab, https, dns).await?;
    relay(&mut lab, &authority, https, &format!("acme_dns = '127.0.0.1:{dns}'\n")).await?;
    let root = authority.root(&lab).await?;
    let (_one, _) = lab.node(&site(&lab)?, "one").await?;
    ensure!(visit(&root, https, "one").await? == "certified\n");
    let shown = shown(https, "one.relay.test").await?;
    ensure!(shown.contains("DNS:*.relay.test") && shown.contains("DNS:relay.test"), "{shown}");

    for way in ["+notcp", "+tcp"] {
        let of = async |kind| dig(dns, &[way, "+short", "_acme-challenge.relay.test", kind]).await;
        ensure!(of("NS").await?.trim() == "relay.test.");
        ensure!(of("SOA").await?.starts_with("relay.test. . 1 "));
        ensure!(of("TXT").await?.is_empty(), "the values of the order are left over");
        let none = dig(dns, &[way, "_acme-challenge.RELAY.test", "TXT"]).await?;
        ensure!(none.contains("NOERROR") && none.contains("flags: qr aa rd;"), "{none}");
        let other = dig(dns, &[way, "relay.test", "A"]).await?;
        ensure!(other.contains("REFUSED"), "{other}");
    }
    Ok(())
}

/// What dig says of a name server of this machine.
async fn dig(port: u16, question: &[&str]) -> Result<String> {
    let port = port.to_string();
    let server = ["@127.0.0.1", "-p", &port, "+tries=3"];
    output(Command::new("dig").args([&server[..], question].concat())).await
}

#[tokio::test]
async fn a_domain_of_ones_own_gets_a_certificate_once_it_is_shown_and_only_then() -> Result<()> {
    let mut lab = Lab::empty(Path::new(env!("CARGO_BIN_EXE_mytunnel-e2e")))?;
    let https = ports::free()?;
    let authority = Authority::start(&lab, https).await?;
    let names = format!("name_servers = ['127.0.0.1:{}']\n", authority.dns);
    relay(&mut lab, &authority, https, &names).await?;
    let (_node, _) = lab.node(&site(&lab)?, "web").await?;
    let root = authority.root(&lab).await?;
    ensure!(visit(&root, https, "web").await? == "certified\n");

    let domain = "app.example.net";
    let added = lab.run(&["domains", "add", domain, "--name", "web", "--json"]).await?.success()?.json()?;
    ensure!(visit_host(&root, https, domain).await.is_err(), "nobody has shown it");
    let record = &added["records"][0];
    let name = record["name"].as_str().context("a name")?;
    let body = serde_json::json!({"host": format!("{name}."), "value": record["value"]}).to_string();
    let url = format!("http://127.0.0.1:{}/set-txt", authority.records);
    output(Command::new("curl").args(["-sSf", "-d", &body, &url])).await?;
    lab.run(&["domains", "verify", domain, "--once"]).await?.success()?;
    ensure!(kept(&lab.path("data/acme"))? == ["web.relay.test.pem"], "ordered before anybody came");
    ensure!(visit_host(&root, https, domain).await? == "certified\n");
    let first = shown(https, domain).await?;
    ensure!(first.contains("DNS:app.example.net") && !first.contains("relay.test"), "{first}");

    lab.run(&["domains", "remove", domain]).await?.success()?;
    ensure!(visit_host(&root, https, domain).await.is_err(), "its certificate is shown no more");
    ensure!(visit(&root, https, "web").await? == "certified\n");
    Ok(())
}
