//! An exchange as JSON: for the page, and for `mytunnel requests`. Secrets are masked unless asked for.

use data_encoding::BASE64;
use mytunnel_node::inspect::{Body, Exchange, Header};
use serde_json::{Value, json};

use super::mask;

/// Whether secrets are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Secrets {
    Masked,
    Shown,
}

/// One line of the list.
pub(crate) fn summary(exchange: &Exchange) -> Value {
    json!({
        "id": exchange.id,
        "method": exchange.method(),
        "path": mask::target(exchange.target()),
        "status": exchange.status(),
        "started_ms": exchange.started / 1000,
        "ms": exchange.millis(),
        "bytes_in": exchange.request_body.length,
        "bytes_out": exchange.response_body.length,
        "upgraded": exchange.upgraded,
        "error": exchange.trouble.map(|trouble| trouble.to_string()),
        "replay_of": exchange.replay_of,
    })
}

/// Everything that was kept of it.
pub(crate) fn whole(exchange: &Exchange, secrets: Secrets) -> Value {
    let mut value = summary(exchange);
    if secrets == Secrets::Shown {
        value["path"] = json!(exchange.target());
    }
    let request = exchange.request.as_ref().map(|head| {
        json!({
            "headers": headers(&head.headers, secrets),
            "body": body(&exchange.request_body, &head.headers, secrets),
        })
    });
    let response = exchange.response.as_ref().map(|head| {
        json!({
            "reason": head.reason,
            "headers": headers(&head.headers, secrets),
            "body": body(&exchange.response_body, &head.headers, secrets),
        })
    });
    value["request"] = json!(request);
    value["response"] = json!(response);
    value["secrets"] = json!(hides(exchange));
    value
}

/// Whether anything of it is masked.
fn hides(exchange: &Exchange) -> bool {
    let differ = |headers: &[Header], of: &Body| {
        self::headers(headers, Secrets::Masked) != self::headers(headers, Secrets::Shown)
            || body(of, headers, Secrets::Masked) != body(of, headers, Secrets::Shown)
    };
    mask::target(exchange.target()) != exchange.target()
        || exchange.request.as_ref().is_some_and(|head| differ(&head.headers, &exchange.request_body))
        || exchange.response.as_ref().is_some_and(|head| differ(&head.headers, &exchange.response_body))
}

fn headers(headers: &[Header], secrets: Secrets) -> Vec<[String; 2]> {
    let value = |header: &Header| match secrets {
        Secrets::Masked => mask::header(header),
        Secrets::Shown => String::from_utf8_lossy(&header.value).into_owned(),
    };
    headers.iter().map(|header| [header.name.clone(), value(header)]).collect()
}

fn body(body: &Body, headers: &[Header], secrets: Secrets) -> Value {
    let mut value = json!({"length": body.length, "whole": body.is_whole()});
    match text(&body.kept) {
        Some(text) if secrets == Secrets::Masked => value["text"] = json!(mask::body(text, headers)),
        Some(text) => value["text"] = json!(text),
        None => value["base64"] = json!(BASE64.encode(&body.kept)),
    }
    value
}

/// Bytes that are text; one that was cut in the middle of a character is text too.
pub(crate) fn text(bytes: &[u8]) -> Option<&str> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&bytes[..error.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    let binary = |char: char| char.is_control() && !matches!(char, '\n' | '\r' | '\t');
    (!text.contains(binary)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::told::tests::exchange;

    #[test]
    fn secrets_are_masked_until_they_are_asked_for() {
        let headers =
            [("Authorization", "Bearer abc"), ("Content-Type", "application/x-www-form-urlencoded")];
        let exchange = exchange("POST", "/a?token=t", &headers, b"user=ann&password=p");
        let masked = whole(&exchange, Secrets::Masked);
        assert_eq!(masked["path"], "/a?token=***");
        assert_eq!(masked["request"]["headers"][0], json!(["Authorization", "Bearer ***"]));
        assert_eq!(masked["request"]["body"]["text"], "user=ann&password=***");
        assert_eq!(masked["secrets"], true);
        let shown = whole(&exchange, Secrets::Shown).to_string();
        for secret in ["token=t", "Bearer abc", "password=p"] {
            assert!(shown.contains(secret) && !masked.to_string().contains(secret), "{secret}");
        }
    }

    #[test]
    fn a_body_is_text_or_base64() {
        let body = |bytes: &[u8]| body(&exchange("POST", "/", &[], bytes).request_body, &[], Secrets::Masked);
        assert_eq!(body("grün\n".as_bytes())["text"], "grün\n");
        assert_eq!(body(&"grün".as_bytes()[..3])["text"], "gr");
        assert_eq!(body(b"\x89PNG")["base64"], "iVBORw==");
        assert_eq!(body(b"a\0b")["base64"], "YQBi");
        assert_eq!(whole(&exchange("GET", "/", &[], b""), Secrets::Masked)["secrets"], false);
    }
}
