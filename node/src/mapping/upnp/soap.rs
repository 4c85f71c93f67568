//! Calls of a router's services (UPnP Device Architecture 1.1, section 3: control).

use std::net::Ipv4Addr;

use http::{Method, Request, header};

use super::{
    description::{self, Service},
    exchange::{self, ExchangeError},
};

/// What a call was answered.
#[derive(Debug)]
pub(super) struct Answer(String);

/// Why a call was not done.
#[derive(Debug, thiserror::Error)]
pub(in crate::mapping) enum Fault {
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    /// The service's own reason: its number and its words.
    #[error("it refuses ({0} {1})")]
    Refused(u16, String),
    #[error("its answer cannot be read")]
    Nonsense,
}

impl Fault {
    /// Somebody else has the port (`ConflictInMappingEntry`, `ConflictWithOtherMechanisms`).
    pub(super) const fn is_taken(&self) -> bool {
        matches!(self, Self::Refused(718 | 729, _))
    }

    /// Whether the service may have done what it was called for.
    pub(super) const fn is_unheard(&self) -> bool {
        matches!(self, Self::Exchange(_) | Self::Nonsense)
    }

    /// It keeps ports until somebody takes them back (`OnlyPermanentLeasesSupported`).
    pub(super) const fn wants_for_ever(&self) -> bool {
        matches!(self, Self::Refused(725, _))
    }
}

impl Answer {
    /// The value of an argument that was given back.
    pub(super) fn value(&self, name: &str) -> Option<String> {
        let document = description::parsed(&self.0)?;
        description::text(document.root(), name).map(str::to_owned)
    }

    /// What a service says that cannot do it.
    fn fault(&self) -> Fault {
        /// Letters that are shown of its words.
        const WORDS: usize = 80;
        let Some(document) = description::parsed(&self.0) else { return Fault::Nonsense };
        let code = description::text(document.root(), "errorCode").and_then(|code| code.parse().ok());
        let words = description::text(document.root(), "errorDescription").unwrap_or_default();
        let words = words.chars().filter(|letter| letter.is_ascii_graphic() || *letter == ' ').take(WORDS);
        code.map_or(Fault::Nonsense, |code| Fault::Refused(code, words.collect()))
    }
}

/// Calls a service.
pub(super) async fn call(
    local: Ipv4Addr,
    service: &Service,
    action: &str,
    arguments: &[(&str, &str)],
) -> Result<Answer, Fault> {
    let request = Request::builder()
        .method(Method::POST)
        .header(header::CONTENT_TYPE, "text/xml; charset=\"utf-8\"")
        .header("soapaction", format!("\"{}#{action}\"", service.kind));
    let body = envelope(service.kind, action, arguments);
    let (status, text) = exchange::send(local, &service.place, request, body).await?;
    let answer = Answer(text);
    if status.is_success() { Ok(answer) } else { Err(answer.fault()) }
}

/// For the fuzzer.
pub(super) fn fuzz(text: &str) {
    let fault = Answer(text.to_owned()).fault().to_string();
    assert!(
        fault.len() < 200 && fault.chars().all(|letter| letter.is_ascii_graphic() || letter == ' '),
        "{fault}"
    );
}

/// All of it are our own words and numbers, in which nothing has a meaning in XML.
fn envelope(kind: &str, action: &str, arguments: &[(&str, &str)]) -> String {
    let arguments: String =
        arguments.iter().map(|(name, value)| format!("<{name}>{value}</{name}>")).collect();
    format!(
        "<?xml version=\"1.0\"?>\r\n<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
         s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body><u:{action} xmlns:u=\"{kind}\">\
         {arguments}</u:{action}></s:Body></s:Envelope>\r\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_a_document_with_its_arguments_in_order() {
        let text = envelope("urn:x:1", "Add", &[("NewA", ""), ("NewB", "7")]);
        let document = description::parsed(&text).unwrap();
        let call = document.descendants().find(|node| node.has_tag_name(("urn:x:1", "Add"))).unwrap();
        let arguments = call.children().map(|node| (node.tag_name().name(), node.text().unwrap_or_default()));
        assert_eq!(arguments.collect::<Vec<_>>(), [("NewA", ""), ("NewB", "7")]);
    }

    #[test]
    fn a_fault_has_its_number_and_no_words_that_act() {
        let fault =
            |inner: &str| Answer(format!("<Envelope><Body><Fault>{inner}</Fault></Body></Envelope>")).fault();
        let taken = fault("<errorCode>718</errorCode><errorDescription>Con\u{202e}flict</errorDescription>");
        assert!(taken.is_taken() && taken.to_string() == "it refuses (718 Conflict)", "{taken}");
        assert!(fault("<errorCode> 725 </errorCode>").wants_for_ever());
        assert!(matches!(fault("<errorCode>x</errorCode>"), Fault::Nonsense));
        assert!(matches!(Answer("no XML".to_owned()).fault(), Fault::Nonsense));
    }
}
