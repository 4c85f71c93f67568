//! Domains of one's own, from the command line to the visitor.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use hickory_proto::op::{Message, OpCode, ResponseCode};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::{RData, Record};
use mytunnel_tests::lab::Lab;
use mytunnel_tests::origin::Origin;
use mytunnel_tests::wire::Connection;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;

const DOMAIN: &str = "app.example.com";

/// A name server with TXT records.
struct Zone {
    address: SocketAddr,
    records: Arc<Mutex<HashMap<String, String>>>,
    _task: JoinSet<Result<()>>,
}

impl Zone {
    async fn start() -> Result<Self> {
        // Both on one port: who finds the second taken tries another first.
        let (socket, listener) = loop {
            let socket = UdpSocket::bind("127.0.0.1:0").await?;
            if let Ok(listener) = TcpListener::bind(socket.local_addr()?).await {
                break (socket, listener);
            }
        };
        let (address, records) = (socket.local_addr()?, Arc::<Mutex<HashMap<String, String>>>::default());
        let (known, mut task) = (records.clone(), JoinSet::new());
        task.spawn(async move {
            let mut buffer = [0; 512];
            loop {
                let (length, from) = socket.recv_from(&mut buffer).await?;
                socket.send_to(&answer(&buffer[..length], &known)?, from).await?;
            }
        });
        let known = records.clone();
        task.spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await?;
                let mut question = vec![0; stream.read_u16().await?.into()];
                stream.read_exact(&mut question).await?;
                let answer = answer(&question, &known)?;
                stream.write_u16(answer.len().try_into()?).await?;
                stream.write_all(&answer).await?;
            }
        });
        Ok(Self { address, records, _task: task })
    }
}

fn answer(question: &[u8], known: &Mutex<HashMap<String, String>>) -> Result<Vec<u8>> {
    let question = Message::from_vec(question)?;
    let name = question.queries.first().context("a question")?.name().clone();
    let mut answer = Message::response(question.metadata.id, OpCode::Query);
    answer.add_queries(question.queries.clone());
    let text = name.to_ascii().trim_end_matches('.').to_owned();
    match known.lock().unwrap_or_else(PoisonError::into_inner).get(&text) {
        Some(value) => {
            answer.add_answer(Record::from_rdata(name, 0, RData::TXT(TXT::new(vec![value.clone()]))));
        }
        None => answer.metadata.response_code = ResponseCode::NXDomain,
    }
    Ok(answer.to_vec()?)
}

async fn visit(lab: &Lab, host: &str) -> Result<(u16, String)> {
    let mut visitor = Connection::open(lab.http).await?;
    let request = format!("GET /head HTTP/1.1\r\nhost: {host}\r\n\r\n");
    let (head, body) = visitor.exchange(request.as_bytes()).await?;
    Ok((head.status, String::from_utf8(body)?))
}

#[tokio::test]
async fn a_domain_is_added_verified_visited_and_removed() -> Result<()> {
    let mut lab = Lab::empty(Path::new(env!("CARGO_BIN_EXE_mytunnel-e2e")))?;
    let (zone, origin) = (Zone::start().await?, Origin::start().await?);
    let file = lab.path("relay.toml");
    std::fs::write(&file, format!("name_servers = ['{}']\n", zone.address))?;
    let file = file.to_str().context("a path in UTF-8")?.to_owned();
    let any = ["127.0.0.1:0"; 3];
    lab.start_relay_with(&any, &["--config", &file]).await?;
    let code = lab.ready["setup_code"].as_str().context("a setup code")?.to_owned();
    let server = lab.server();
    lab.own(&server, &code).await?;
    let target = origin.address.port().to_string();
    let (_node, _) = lab.node(&target, "web").await?;

    let unknown = lab.run(&["domains", "add", DOMAIN, "--name", "nobody", "--json"]).await?;
    ensure!(unknown.success().is_err(), "there is no such tunnel");
    let added = lab
        .run(&["domains", "add", "App.Example.com", "--name", "web", "--json"])
        .await?
        .success()?
        .json()?;
    assert_eq!((&added["domain"], &added["state"]), (&DOMAIN.into(), &"pending".into()));
    let record = &added["records"][0];
    let (name, value) =
        (record["name"].as_str().context("name")?, record["value"].as_str().context("value")?);
    assert_eq!(added["records"][1]["value"], "web.localhost");
    assert_eq!(visit(&lab, DOMAIN).await?.0, 404);

    let early = lab.run(&["domains", "verify", DOMAIN, "--once", "--json"]).await?;
    let failure = early.json()?;
    assert_eq!(failure["code"], "NOT_FOUND", "{failure}");
    ensure!(failure["help"].as_str().is_some_and(|help| help.contains(value)), "{failure}");

    zone.records.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), value.to_owned());
    let verified = lab.run(&["domains", "verify", DOMAIN, "--json"]).await?.success()?.json()?;
    assert_eq!((&verified["state"], &verified["relays"][0]["applied"]), (&"verified".into(), &true.into()));
    let (status, seen) = visit(&lab, DOMAIN).await?;
    assert_eq!(status, 200);
    ensure!(seen.to_ascii_lowercase().contains("x-forwarded-host: app.example.com"), "{seen}");
    assert_eq!(lab.get("web", "/head").await?.0.status, 200, "the other name stays");

    // It outlives the relay's process, and what stands before the tunnel stands before it too.
    lab.kill_relay().await?;
    let addresses = lab.listen_addresses()?;
    lab.start_relay_with(&addresses, &["--config", &file]).await?;
    lab.run(&["tunnels", "pin", "web", "--json"]).await?.success()?;
    let asked = async {
        loop {
            match visit(&lab, DOMAIN).await? {
                (401, _) => return anyhow::Ok(()),
                (503, _) => {}
                other => anyhow::bail!("{other:?}"),
            }
        }
    };
    tokio::time::timeout(mytunnel_tests::process::PATIENCE, asked).await??;
    lab.run(&["tunnels", "pin", "web", "--off"]).await?.success()?;

    let listed = lab.run(&["domains", "list"]).await?.success()?.stdout;
    ensure!(listed.contains(DOMAIN) && listed.contains("verified"), "{listed}");
    lab.run(&["domains", "remove", "APP.example.com."]).await?.success()?;
    assert_eq!(visit(&lab, DOMAIN).await?.0, 404);
    let none = lab.run(&["domains", "list", "--json"]).await?.success()?.json()?;
    assert_eq!(none["domains"], serde_json::json!([]));
    Ok(())
}
