use hickory_proto::rr::Record;
use hickory_proto::rr::rdata::{CNAME, TXT};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::*;

/// A name server of one question, which answers it over UDP with each of these in turn.
async fn server(answers: impl FnOnce(Message) -> Vec<Vec<u8>> + Send + 'static) -> (SocketAddr, JoinSet<()>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (address, mut task) = (socket.local_addr().unwrap(), JoinSet::new());
    task.spawn(async move {
        let mut buffer = [0; 512];
        let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
        for answer in answers(Message::from_vec(&buffer[..length]).unwrap()) {
            socket.send_to(&answer, from).await.unwrap();
        }
        std::future::pending::<()>().await;
    });
    (address, task)
}

fn text(name: &Name, parts: &[&str]) -> Record {
    let parts = parts.iter().map(|part| (*part).to_owned()).collect();
    Record::from_rdata(name.clone(), 60, RData::TXT(TXT::new(parts)))
}

fn answer(question: &Message, code: ResponseCode, records: Vec<Record>) -> Message {
    let mut answer = Message::response(question.metadata.id, OpCode::Query);
    answer.metadata.response_code = code;
    answer.add_queries(question.queries.clone());
    answer.add_answers(records);
    answer
}

async fn asked(server: SocketAddr) -> Result<Vec<String>, LookupError> {
    Resolver::new(vec![server]).look("_mytunnel.app.example.com").await
}

#[tokio::test]
async fn values_come_whole_also_behind_an_alias() {
    let (server, _task) = server(|question| {
        let name = question.queries[0].name().clone();
        assert_eq!(name.to_ascii(), "_mytunnel.app.example.com.");
        assert!(question.metadata.recursion_desired);
        let other = Name::from_ascii("zone.example.").unwrap();
        let alias = Record::from_rdata(name, 60, RData::CNAME(CNAME(other.clone())));
        let records = vec![alias, text(&other, &["mytunnel-", "domain=x"]), text(&other, &["other"])];
        vec![answer(&question, ResponseCode::NoError, records).to_vec().unwrap()]
    })
    .await;
    assert_eq!(asked(server).await.unwrap(), ["mytunnel-domain=x", "other"]);
}

#[tokio::test]
async fn what_does_not_answer_the_question_is_passed_over() {
    let (server, _task) = server(|question| {
        let name = question.queries[0].name().clone();
        let mut forged = answer(&question, ResponseCode::NoError, vec![text(&name, &["forged"])]);
        forged.metadata.id = question.metadata.id.wrapping_add(1);
        let mut other = answer(&question, ResponseCode::NoError, vec![text(&name, &["other"])]);
        other.queries[0].set_name(Name::from_ascii("evil.example.").unwrap());
        let mut echo = answer(&question, ResponseCode::NoError, vec![text(&name, &["echo"])]);
        echo.metadata.message_type = MessageType::Query;
        let good = answer(&question, ResponseCode::NoError, vec![text(&name, &["good"])]);
        let all = [forged, other, echo, good];
        std::iter::once(b"noise".to_vec()).chain(all.iter().map(|one| one.to_vec().unwrap())).collect()
    })
    .await;
    assert_eq!(asked(server).await.unwrap(), ["good"]);
}

#[tokio::test]
async fn a_name_that_does_not_exist_has_no_values_and_a_failure_is_none() {
    let (nobody, _task) =
        server(|question| vec![answer(&question, ResponseCode::NXDomain, Vec::new()).to_vec().unwrap()])
            .await;
    assert_eq!(asked(nobody).await.unwrap(), [""; 0]);
    let (failing, _task) =
        server(|question| vec![answer(&question, ResponseCode::ServFail, Vec::new()).to_vec().unwrap()])
            .await;
    let refused = ask(failing, &Name::from_ascii("a.example.").unwrap(), Way::Usual).await;
    assert!(matches!(refused, Err(LookupError::Failed(ResponseCode::ServFail))), "{refused:?}");
}

#[tokio::test]
async fn the_next_server_is_asked_where_one_fails() {
    let (failing, _first) =
        server(|question| vec![answer(&question, ResponseCode::Refused, Vec::new()).to_vec().unwrap()]).await;
    let (good, _second) = server(|question| {
        let name = question.queries[0].name().clone();
        vec![answer(&question, ResponseCode::NoError, vec![text(&name, &["good"])]).to_vec().unwrap()]
    })
    .await;
    let found = Resolver::new(vec![failing, good]).look("a.example").await;
    assert_eq!(found.unwrap(), ["good"]);
}

/// A name server whose two answers differ, by the way they go.
async fn two_faced(
    udp_answers: impl Fn(&Message) -> Message + Send + 'static,
    tcp_answers: impl Fn(&Message) -> Message + Send + 'static,
) -> (SocketAddr, JoinSet<()>) {
    // Both on one port: who finds the second taken tries another first.
    let (udp, tcp) = loop {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            break (udp, tcp);
        }
    };
    let (server, mut task) = (udp.local_addr().unwrap(), JoinSet::new());
    task.spawn(async move {
        let mut buffer = [0; 512];
        let (length, from) = udp.recv_from(&mut buffer).await.unwrap();
        let question = Message::from_vec(&buffer[..length]).unwrap();
        udp.send_to(&udp_answers(&question).to_vec().unwrap(), from).await.unwrap();
        let (mut stream, _) = tcp.accept().await.unwrap();
        let length = stream.read_u16().await.unwrap();
        let mut question = vec![0; length.into()];
        stream.read_exact(&mut question).await.unwrap();
        let question = Message::from_vec(&question).unwrap();
        let answer = tcp_answers(&question).to_vec().unwrap();
        stream.write_u16(answer.len().try_into().unwrap()).await.unwrap();
        stream.write_all(&answer).await.unwrap();
    });
    (server, task)
}

#[tokio::test]
async fn a_long_answer_comes_over_tcp() {
    let cut = |question: &Message| {
        let mut cut = answer(question, ResponseCode::NoError, Vec::new());
        cut.metadata.truncation = true;
        cut
    };
    let whole = |question: &Message| {
        let long = "x".repeat(250);
        let name = question.queries[0].name();
        answer(question, ResponseCode::NoError, (0..8).map(|_| text(name, &[&long])).collect())
    };
    let (server, _task) = two_faced(cut, whole).await;
    assert_eq!(asked(server).await.unwrap().len(), 8);
}

#[tokio::test]
async fn what_shows_a_domain_to_be_somebodys_is_believed_over_tcp_alone() {
    let says = |values: &'static [&'static str]| {
        move |question: &Message| {
            let name = question.queries[0].name();
            let records = values.iter().map(|value| text(name, &[value])).collect();
            answer(question, ResponseCode::NoError, records)
        }
    };
    let tenant: TenantId = "ten_a".parse().unwrap();
    let shown = async |server| Resolver::new(vec![server]).shown(&tenant, "a.example", "mine").await;
    // Guessed by somebody who would have the domain, who leaves out whose it is.
    let (server, _first) = two_faced(says(&["mine"]), says(&["theirs", "mine"])).await;
    assert_eq!(shown(server).await.unwrap(), ["theirs", "mine"]);
    let (server, _second) = two_faced(says(&["mine"]), says(&["theirs"])).await;
    assert_eq!(shown(server).await.unwrap(), ["theirs"]);
    // What shows nothing need not be asked for twice.
    let (server, _third) = two_faced(says(&["other"]), says(&["mine"])).await;
    assert_eq!(shown(server).await.unwrap(), ["other"]);
    // And a server that has no TCP shows nothing.
    let (server, _fourth) = server_of(says(&["mine"])).await;
    let refused = shown(server).await;
    assert!(matches!(refused, Err(LookupError::Unproven(_))), "{refused:?}");
}

async fn server_of(answers: impl FnOnce(&Message) -> Message + Send + 'static) -> (SocketAddr, JoinSet<()>) {
    server(move |question| vec![answers(&question).to_vec().unwrap()]).await
}

#[test]
fn the_systems_servers_are_those_that_are_listed() {
    let text = "# a comment\nsearch example.com\nnameserver 192.0.2.1\nnameserver\t2001:db8::1 # one\n\
                nameserver fe80::1%eth0\noptions ndots:1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n";
    let servers: Vec<_> = listed(text).iter().map(ToString::to_string).collect();
    assert_eq!(servers, ["192.0.2.1:53", "[2001:db8::1]:53", "192.0.2.2:53"]);
}
