use super::*;

fn headers(pairs: &[(&str, &str)]) -> Vec<Header> {
    pairs
        .iter()
        .map(|(name, value)| Header { name: (*name).to_owned(), value: value.as_bytes().to_vec() })
        .collect()
}

fn valid(
    provider: Provider,
    secret: &str,
    sent: &[(&str, &str)],
    body: &str,
    arrived: u64,
) -> Result<(), String> {
    valid_at(provider, secret, ("/", sent), body, arrived)
}

fn valid_at(
    provider: Provider,
    secret: &str,
    (target, sent): (&str, &[(&str, &str)]),
    body: &str,
    arrived: u64,
) -> Result<(), String> {
    let head = RequestHead { method: "POST".to_owned(), target: target.to_owned(), headers: headers(sent) };
    let verdict = verify(provider, secret, &head, body.as_bytes(), arrived);
    if verdict.valid { Ok(()) } else { Err(verdict.reason) }
}

/// The example of GitHub's documentation.
#[test]
fn github() {
    let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let check =
        |secret, body| valid(Provider::GitHub, secret, &[("X-Hub-Signature-256", signature)], body, 0);
    assert_eq!(check("It's a Secret to Everybody", "Hello, World!"), Ok(()));
    assert!(
        check("It's a Secret to Everybody", "Hello, World?").unwrap_err().contains("not that of this secret")
    );
    assert!(check("another", "Hello, World!").is_err());
    assert!(check("", "Hello, World!").unwrap_err().contains("no secret"));
}

/// The example of Slack's documentation.
#[test]
fn slack() {
    let body = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    let sent = [
        ("X-Slack-Signature", "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"),
        ("X-Slack-Request-Timestamp", "1531420618"),
    ];
    let check = |arrived| valid(Provider::Slack, "8f742231b10e8888abcd99yyyzzz85a5", &sent, body, arrived);
    assert_eq!(check(1_531_420_618), Ok(()));
    assert_eq!(check(1_531_420_618 + TOLERANCE), Ok(()));
    assert!(check(1_531_420_619 + TOLERANCE).unwrap_err().contains("older"));
    assert!(check(1_531_420_617 - TOLERANCE).unwrap_err().contains("later"));
}

/// The example of the Standard Webhooks libraries.
#[test]
fn standard_webhooks() {
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let sent = |prefix: &str, signature: &str| {
        [("id", "msg_p5jXN8AQM9LWM0D4loKWxJek"), ("timestamp", "1614265330"), ("signature", signature)]
            .map(|(name, value)| (format!("{prefix}-{name}"), value.to_owned()))
    };
    let check = |prefix: &str, signature: &str| {
        let sent = sent(prefix, signature);
        let sent: Vec<_> = sent.iter().map(|(name, value)| (&**name, &**value)).collect();
        valid(Provider::Standard, secret, &sent, r#"{"test": 2432232314}"#, 1_614_265_330)
    };
    let right = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    assert_eq!(check("webhook", right), Ok(()));
    assert_eq!(check("svix", &format!("v1a,xyz v1,AAAA {right}")), Ok(()));
    assert!(check("webhook", "v2,g0hM9SsE").unwrap_err().contains("none in the form"));
    assert!(check("other", right).unwrap_err().contains("webhook-id"));
}

/// Stripe and Shopify publish no example with its secret: these were made with openssl.
#[test]
fn stripe_and_shopify() {
    let sent = [("Stripe-Signature", "t=1492774577,v1=STRIPE,v0=00")];
    let sent = [(sent[0].0, &*sent[0].1.replace("STRIPE", STRIPE))];
    let check = |body| valid(Provider::Stripe, "whsec_test", &sent, body, 1_492_774_600);
    assert_eq!(check(r#"{"id":"evt_1"}"#), Ok(()));
    assert!(check(r#"{"id":"evt_2"}"#).is_err());
    let check = |body| valid(Provider::Shopify, "hush", &[("X-Shopify-Hmac-Sha256", SHOPIFY)], body, 0);
    assert_eq!(check(r#"{"id":1}"#), Ok(()));
    assert!(check(r#"{"id":2}"#).is_err());
}

const STRIPE: &str = "7656fc2882a7ca0a651666b36bf2f2f22ee204f54f608f227498a2419f2890b2";
const SHOPIFY: &str = "VnKUjZsLuN5iZWjn5EntcBVCF9kMN43LglzCE1/GSeY=";

/// The example of Twilio's documentation: of the address that it was told to call, whatever reaches the server.
#[test]
fn twilio() {
    let target = "/myapp.php?foo=1&bar=2";
    let form =
        "To=%2B18005551212&CallSid=CA1234567890ABCDE&Caller=%2B14158675310&Digits=1234&From=%2B14158675310";
    let check = |host: &str, target: &str, form: &str| {
        let sent = [
            ("Host", host),
            ("X-Forwarded-Proto", "https"),
            ("X-Twilio-Signature", "L/OH5YylLD5NRKLltdqwSvS0BnU="),
        ];
        valid_at(Provider::Twilio, "12345", (target, &sent), form, 0)
    };
    assert_eq!(check("example.com", target, form), Ok(()));
    assert_eq!(check("example.com:443", target, form), Ok(()), "it was told so without the port");
    assert!(check("example.com:8443", target, form).is_err());
    assert!(check("example.org", target, form).unwrap_err().contains("not that of this secret"));
    assert!(check("example.com", "/myapp.php", form).is_err());
    assert!(check("example.com", target, &form.replace("1234&", "1235&")).is_err());
    // The name that a server is called by may be another.
    let sent = [
        ("Host", "app.local"),
        ("X-Forwarded-Host", "example.com"),
        ("X-Twilio-Signature", "L/OH5YylLD5NRKLltdqwSvS0BnU="),
    ];
    assert_eq!(valid_at(Provider::Twilio, "12345", (target, &sent), form, 0), Ok(()));
}

/// What is no form is signed by its hash in the address. Made with openssl.
#[test]
fn twilio_json() {
    let check = |body: &str| {
        let sent = [("Host", "example.com"), ("X-Twilio-Signature", TWILIO_JSON)];
        valid_at(Provider::Twilio, "12345", (TWILIO_JSON_TARGET, &sent), body, 0)
    };
    assert_eq!(check(r#"{"id":1}"#), Ok(()));
    assert!(check(r#"{"id":2}"#).unwrap_err().contains("bodySHA256"));
}

const TWILIO_JSON_TARGET: &str =
    "/hook?bodySHA256=037c9214eef74cc3887f3a4f085b4e17d76280dafd273b0ee160c09c4ba1cfd4";
const TWILIO_JSON: &str = "mAzqIx1MO3JChHh/HAQXEmzt0O8=";
