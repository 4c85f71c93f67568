use std::{io::ErrorKind, net::SocketAddr};

use proptest::prelude::*;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::*;

const APEX: &str = "_acme-challenge.tunnel.example.com.";

/// Bytes that an answer may have beyond its question: twice a record of 13 bytes with a SHA-256 in base64url.
const MORE: usize = VALUES * (13 + 43);

/// What every answer fits into, with and without EDNS.
const DATAGRAM: usize = 512;

fn zone(values: usize) -> Zone {
    let zone = Zone::new("tunnel.example.com").unwrap();
    (0..values).for_each(|number| zone.show(&value(number)));
    zone
}

/// As long as they are: a SHA-256 in base64url.
fn value(number: usize) -> String {
    format!("{number:043}")
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut question = Message::new(77, MessageType::Query, OpCode::Query);
    question.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    question
}

fn ask(zone: &Zone, question: &Message) -> Message {
    let packet = question.to_vec().unwrap();
    let answer = zone.answer(&packet, Length::Whole).unwrap();
    assert!(answer.len() <= packet.len() + MORE && answer.len() <= DATAGRAM, "{} bytes", answer.len());
    let answer = Message::from_vec(&answer).unwrap();
    assert_eq!((answer.metadata.id, answer.metadata.message_type), (77, MessageType::Response));
    assert!(!answer.metadata.recursion_available);
    answer
}

fn texts(answer: &Message) -> Vec<String> {
    let text = |record: &Record| {
        assert_eq!(record.record_type(), RecordType::TXT);
        record.data.to_string()
    };
    answer.answers.iter().map(text).collect()
}

#[test]
fn the_values_of_an_order_are_shown_and_taken_back() {
    let zone = zone(3);
    let answer = ask(&zone, &question(APEX, RecordType::TXT));
    assert!(answer.metadata.authoritative);
    assert_eq!(texts(&answer), [value(1), value(2)], "no more than two");
    zone.take_back(&value(1));
    zone.take_back("another");
    assert_eq!(texts(&ask(&zone, &question(APEX, RecordType::TXT))), [value(2)]);
    zone.take_back(&value(2));
    let answer = ask(&zone, &question(APEX, RecordType::TXT));
    assert!(answer.answers.is_empty() && answer.authorities[0].record_type() == RecordType::SOA);
    assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
}

#[test]
fn a_name_counts_however_it_is_spelled_and_is_repeated_as_it_was() {
    let mixed = "_aCMe-chALLenge.TUNNEL.example.cOM.";
    let answer = ask(&zone(2), &question(mixed, RecordType::TXT));
    assert_eq!(texts(&answer).len(), 2);
    assert_eq!(answer.queries[0].name().to_ascii(), mixed);
    assert_eq!(answer.answers[0].name.to_ascii(), mixed);
    let soa = ask(&zone(2), &question(mixed, RecordType::A));
    assert_eq!(soa.authorities.len(), 1);
}

#[test]
fn it_is_the_authority_for_one_name_alone() {
    let zone = zone(2);
    let of = |kind| ask(&zone, &question(APEX, kind));
    let [name_server, start] = [RecordType::NS, RecordType::SOA].map(of);
    assert_eq!(name_server.answers[0].data.to_string(), "tunnel.example.com.");
    assert_eq!(start.answers[0].record_type(), RecordType::SOA);
    assert_eq!(of(RecordType::ANY).answers.len(), 1);
    for kind in [RecordType::A, RecordType::AAAA, RecordType::CNAME, RecordType::CAA, RecordType::DNSKEY] {
        let answer = of(kind);
        assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
        assert!(answer.answers.is_empty() && answer.authorities[0].record_type() == RecordType::SOA);
    }
    let under = ask(&zone, &question(&format!("x.{APEX}"), RecordType::TXT));
    assert_eq!(under.metadata.response_code, ResponseCode::NXDomain);
    for name in ["tunnel.example.com.", "_acme-challenge.example.com.", "example.org.", "."] {
        let answer = ask(&zone, &question(name, RecordType::TXT));
        assert_eq!(answer.metadata.response_code, ResponseCode::Refused, "{name}");
        assert!(!answer.metadata.authoritative && answer.answers.is_empty() && answer.authorities.is_empty());
    }
    for kind in [RecordType::AXFR, RecordType::IXFR] {
        assert_eq!(of(kind).metadata.response_code, ResponseCode::Refused);
    }
    let mut chaos = question(APEX, RecordType::TXT);
    chaos.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(ask(&zone, &chaos).metadata.response_code, ResponseCode::Refused);
}

#[test]
fn edns_is_answered_in_kind() {
    let mut extended = question(APEX, RecordType::TXT);
    extended.set_edns(Edns::new().set_max_payload(4096).clone());
    let answer = ask(&zone(2), &extended);
    assert_eq!((answer.edns.as_ref().unwrap().max_payload(), texts(&answer).len()), (QUESTION, 2));
    extended.set_edns(Edns::new().set_version(1).clone());
    let answer = ask(&zone(2), &extended);
    assert_eq!(u16::from(answer.metadata.response_code), u16::from(ResponseCode::BADVERS));
    assert!(answer.answers.is_empty());
    assert!(ask(&zone(2), &question(APEX, RecordType::TXT)).edns.is_none());
}

#[test]
fn what_is_no_question_is_told_so_or_left_alone() {
    let zone = zone(2);
    let mut update = question(APEX, RecordType::SOA);
    update.metadata.op_code = OpCode::Update;
    assert_eq!(ask(&zone, &update).metadata.response_code, ResponseCode::NotImp);
    let mut two = question(APEX, RecordType::TXT);
    two.add_query(two.queries[0].clone());
    assert_eq!(ask(&zone, &two).metadata.response_code, ResponseCode::FormErr);
    let mut many = question(APEX, RecordType::TXT).to_vec().unwrap();
    many[4..6].fill(0xff);
    let answer = zone.answer(&many, Length::Whole).unwrap();
    assert_eq!(answer.len(), 12, "and no room is made for 65,535");
    let mut response = question(APEX, RecordType::TXT);
    response.metadata.message_type = MessageType::Response;
    assert_eq!(zone.answer(&response.to_vec().unwrap(), Length::Whole), None, "two servers must not talk");
    assert_eq!(zone.answer(&[0; 11], Length::Whole), None);
}

#[test]
fn who_asks_too_often_is_led_to_tcp_in_as_many_bytes_as_were_asked() {
    let packet = question(APEX, RecordType::TXT).to_vec().unwrap();
    let answer = zone(2).answer(&packet, Length::Nothing).unwrap();
    assert_eq!(answer.len(), packet.len());
    assert!(Message::from_vec(&answer).unwrap().metadata.truncation);
}

#[test]
fn the_longest_domain_is_answered_for_within_a_datagram() {
    let label = "a".repeat(63);
    let domain = format!("{label}.{label}.{label}.{}", "b".repeat(45));
    let zone = Zone::new(&domain).unwrap();
    (0..2).for_each(|number| zone.show(&value(number)));
    assert_eq!(texts(&ask(&zone, &question(&format!("{}.", zone.name()), RecordType::TXT))).len(), 2);
    assert!(Zone::new(&format!("b{domain}")).is_err());
}

fn kinds() -> impl Strategy<Value = RecordType> {
    any::<u16>().prop_map(RecordType::from)
}

proptest! {
    #[test]
    fn any_packet_is_answered_within_bounds_or_not_at_all(
        packet in proptest::collection::vec(any::<u8>(), 0..1300),
        values in 0_usize..3,
        whole: bool,
    ) {
        bounded(&packet, values, whole);
    }

    #[test]
    fn a_question_that_was_tampered_with_is_too(
        name in prop_oneof![Just(APEX.to_owned()), Just(format!("x.y.{APEX}")), "[a-z]{1,20}\\.com\\."],
        kind in kinds(),
        edns: bool,
        changes in proptest::collection::vec((0_usize..80, any::<u8>()), 0..6),
        cut in 0_usize..100,
        whole: bool,
    ) {
        let mut question = question(&name, kind);
        if edns {
            question.set_edns(Edns::new());
        }
        let mut packet = question.to_vec().unwrap();
        for (at, byte) in changes {
            let at = at % packet.len();
            packet[at] = byte;
        }
        packet.truncate(cut.max(12));
        bounded(&packet, 2, whole);
    }
}

#[track_caller]
fn bounded(packet: &[u8], values: usize, whole: bool) {
    let length = if whole { Length::Whole } else { Length::Nothing };
    let Some(answer) = zone(values).answer(packet, length) else { return };
    let more = if whole { MORE } else { 0 };
    assert!(answer.len() <= DATAGRAM.max(packet.len()), "{} to {}", answer.len(), packet.len());
    assert!(answer.len() <= packet.len() + more, "{} to {}", answer.len(), packet.len());
    assert_eq!((&answer[..2], answer[2] & 0x80), (&packet[..2], 0x80));
    Message::from_vec(&answer).unwrap();
}

/// One that runs until the token is cancelled.
async fn served() -> (SocketAddr, CancellationToken, JoinSet<()>) {
    // Both ways on one port: who finds the second taken tries another first.
    let mut tries = 1..100;
    let server = loop {
        match NameServer::bind("127.0.0.1:0".parse().unwrap(), zone(2)).await {
            Ok(server) => break server,
            Err(error) if error.kind() == ErrorKind::AddrInUse && tries.next().is_some() => {}
            Err(error) => panic!("{error}"),
        }
    };
    let (addr, stop, mut running) = (server.addr(), CancellationToken::new(), JoinSet::new());
    running.spawn(server.run(stop.clone()));
    (addr, stop, running)
}

async fn over_tcp(stream: &mut TcpStream, packet: &[u8]) -> Vec<u8> {
    stream.write_u16(packet.len().try_into().unwrap()).await.unwrap();
    stream.write_all(packet).await.unwrap();
    let mut answer = vec![0; stream.read_u16().await.unwrap().into()];
    stream.read_exact(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn both_protocols_are_answered_at_one_port_and_connections_are_few() {
    let (addr, stop, mut running) = served().await;
    let packet = question(APEX, RecordType::TXT).to_vec().unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    udp.send_to(b"noise", addr).await.unwrap();
    udp.send_to(&packet, addr).await.unwrap();
    let mut buffer = [0; 2048];
    let (length, from) = udp.recv_from(&mut buffer).await.unwrap();
    assert_eq!(from, addr);
    assert_eq!(texts(&Message::from_vec(&buffer[..length]).unwrap()).len(), 2);

    let mut all = Vec::new();
    for _ in 0..4 {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        for _ in 0..3 {
            assert_eq!(over_tcp(&mut stream, &packet).await, buffer[..length]);
        }
        all.push(stream);
    }
    let mut fifth = TcpStream::connect(addr).await.unwrap();
    let refused = fifth.read(&mut buffer).await;
    assert!(matches!(refused, Ok(0) | Err(_)), "a fifth of one address: {refused:?}");
    let long = all.last_mut().unwrap();
    long.write_u16(QUESTION + 1).await.unwrap();
    assert_eq!(long.read(&mut buffer).await.unwrap(), 0, "nobody asks at such length");

    stop.cancel();
    running.join_next().await.unwrap().unwrap();
    assert!(TcpStream::connect(addr).await.is_err(), "connections end with it");
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_over_tcp_is_cut_off() {
    let (addr, stop, mut running) = served().await;
    let mut silent = TcpStream::connect(addr).await.unwrap();
    assert_eq!(silent.read(&mut [0; 1]).await.unwrap(), 0);
    stop.cancel();
    running.join_next().await.unwrap().unwrap();
}
