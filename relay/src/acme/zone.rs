//! A name server for one name: `_acme-challenge.DOMAIN`, which an NS record of the operator's leads to this relay.
//!
//! What it says is decided by [`answer`], a function of the question alone. It knows the TXT values of the order under way, and
//! the SOA and the NS record of that name; it refuses whatever else it is asked, looks nothing up for anybody, and says
//! no more than two such values beyond the question (112 bytes), so that there is little to gain from asking in another's
//! name; how often an address is answered is bounded besides ([`Rates`]). The wire format is `hickory-proto`'s.

mod rates;
mod server;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex};

use hickory_proto::{
    ProtoError,
    op::{Edns, Header, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{
        DNSClass, Name, RData, Record, RecordType,
        rdata::{NS, SOA, TXT},
    },
    serialize::binary::BinDecodable,
};

#[cfg(doc)]
use self::rates::Rates;
pub(crate) use self::server::NameServer;
use crate::ingress::locked;

/// Values that are shown at once: one for the domain, one for all names under it. A third takes the place of the first.
const VALUES: usize = 2;

/// Seconds for which others may remember an answer, also that there is none: the next order has other values.
const MEMORY: u32 = 1;

/// The longest question that is read, and what is said to be taken: nothing of that size is cut on its way.
const QUESTION: u16 = 1232;

/// The name and what is shown under it; clones share it.
#[derive(Debug, Clone)]
pub(super) struct Zone(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    apex: Name,
    values: Mutex<Vec<Box<str>>>,
}

/// How much may be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    Whole,
    /// Only that the question is to come again, over TCP, where nobody asks in another's name.
    Nothing,
}

impl Zone {
    pub(super) fn new(domain: &str) -> Result<Self, ProtoError> {
        let mut apex = Name::from_ascii(format!("_acme-challenge.{domain}"))?;
        apex.set_fqdn(true);
        Ok(Self(Arc::new(Inner { apex, values: Mutex::default() })))
    }

    /// The name, without a dot at its end.
    pub(super) fn name(&self) -> Box<str> {
        self.0.apex.to_ascii().trim_end_matches('.').into()
    }

    pub(super) fn show(&self, value: &str) {
        let mut values = locked(&self.0.values);
        if values.len() >= VALUES {
            values.remove(0);
        }
        values.push(value.into());
    }

    pub(super) fn take_back(&self, value: &str) {
        let mut values = locked(&self.0.values);
        if let Some(at) = values.iter().position(|shown| **shown == *value) {
            values.remove(at);
        }
    }

    fn answer(&self, packet: &[u8], length: Length) -> Option<Vec<u8>> {
        answer(packet, &self.0.apex, &locked(&self.0.values), length)
    }
}

/// What is said to a packet; nothing to one that is no question.
fn answer(packet: &[u8], apex: &Name, values: &[Box<str>], length: Length) -> Option<Vec<u8>> {
    let header = Header::from_bytes(packet).ok()?;
    if header.metadata.message_type != MessageType::Query {
        return None;
    }
    let mut answer = Message::new(header.metadata.id, MessageType::Response, header.metadata.op_code);
    answer.metadata.recursion_desired = header.metadata.recursion_desired;
    // Looked at first: the library makes room for as many as are announced.
    let counts = header.counts;
    let is_usual =
        counts.queries == 1 && counts.answers == 0 && counts.authorities == 0 && counts.additionals <= 2;
    if header.metadata.op_code != OpCode::Query {
        answer.metadata.response_code = ResponseCode::NotImp;
    } else if let Some(question) = is_usual.then(|| Message::from_vec(packet).ok()).flatten()
        && let [query] = &*question.queries
    {
        answer.add_query(query.clone());
        if let Some(asked) = &question.edns {
            let mut edns = Edns::new();
            edns.set_max_payload(QUESTION);
            answer.set_edns(edns);
            if asked.version() > 0 {
                answer.metadata.response_code = ResponseCode::BADVERS;
                return answer.to_vec().ok();
            }
        }
        match length {
            Length::Whole => fill(&mut answer, query, apex, values),
            Length::Nothing => answer.metadata.truncation = true,
        }
    } else {
        answer.metadata.response_code = ResponseCode::FormErr;
    }
    answer.to_vec().ok()
}

fn fill(answer: &mut Message, query: &Query, apex: &Name, values: &[Box<str>]) {
    let asked = query.name();
    let is_transfer = matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR);
    if query.query_class() != DNSClass::IN || is_transfer || !apex.zone_of(asked) {
        answer.metadata.response_code = ResponseCode::Refused;
        return;
    }
    answer.metadata.authoritative = true;
    // Cut from the question, so that they are references to it, however it is spelled.
    let owner = asked.trim_to(usize::from(apex.num_labels()));
    let domain = owner.base_name();
    let record = |data| Record::from_rdata(owner.clone(), MEMORY, data);
    let day = 24 * 3600;
    let soa = || RData::SOA(SOA::new(domain.clone(), Name::root(), 1, day, 3600, 7 * day, MEMORY));
    if owner.num_labels() != asked.num_labels() {
        answer.metadata.response_code = ResponseCode::NXDomain;
        answer.add_authority(record(soa()));
        return;
    }
    let kind = query.query_type();
    if kind == RecordType::TXT && !values.is_empty() {
        let texts = values.iter().map(|value| RData::TXT(TXT::new(vec![value.to_string()])));
        answer.add_answers(texts.map(record));
    } else if kind == RecordType::NS {
        answer.add_answer(record(RData::NS(NS(domain.clone()))));
    } else if matches!(kind, RecordType::SOA | RecordType::ANY) {
        // To the question for all there is, one of them (RFC 8482 §4.1).
        answer.add_answer(record(soa()));
    } else {
        answer.add_authority(record(soa()));
    }
}

/// For fuzzers: a packet, as it comes from anybody. Returns whether it was answered with a value.
#[doc(hidden)]
pub fn fuzz(packet: &[u8]) -> bool {
    let Ok(apex) = Name::from_ascii("_acme-challenge.tun.test.") else { return false };
    let values = ["a".repeat(43).into_boxed_str(), "b".repeat(43).into()];
    let answer = |length| answer(packet, &apex, &values, length);
    let Some(whole) = answer(Length::Whole) else {
        assert_eq!(answer(Length::Nothing), None, "what is no question is answered by nothing");
        return false;
    };
    // So that nobody gains by asking in another's name.
    assert!(whole.len() <= packet.len() + 112, "{} bytes for {}", whole.len(), packet.len());
    assert!(whole[..2] == packet[..2] && whole[2] & 0x80 != 0, "an answer to another question");
    assert!(packet[2] & 0x80 == 0, "an answer was answered: two such servers would go on for ever");
    assert!(whole[3] & 0x80 == 0, "it looks nothing up for others");
    let said = Message::from_vec(&whole).unwrap_or_else(|error| panic!("{error}: {whole:?}"));
    let texts = said.answers.iter().filter(|record| record.record_type() == RecordType::TXT);
    let texts: Vec<_> = texts.map(|record| record.name.to_lowercase()).collect();
    assert!(texts.iter().all(|name| *name == apex), "{texts:?}");
    let short = answer(Length::Nothing).unwrap_or_default();
    assert!(short.len() <= packet.len().max(12) && short.len() <= whole.len(), "{} bytes", short.len());
    !texts.is_empty()
}
