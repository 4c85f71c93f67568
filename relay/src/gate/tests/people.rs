//! Who people are: signed in with somebody who vouches for them.

use super::*;

/// A gatekeeper with whom visitors can sign in, and a tunnel that lets in whom these domains name.
fn signing_in(domains: &[&str]) -> (Gatekeeper, Tunnel) {
    let settings = mytunnel_sign_in::Settings {
        id: "google".to_owned(),
        client_id: "us".to_owned(),
        client_secret: zeroize::Zeroizing::new("secret".to_owned()),
        ..mytunnel_sign_in::Settings::default()
    };
    let client = Client::new(vec![mytunnel_sign_in::Provider::new(settings).unwrap()]).unwrap();
    let keeper = Gatekeeper::new(Arc::new(client), "tun.test").unwrap();
    (keeper, tunnel(1, listed(domains)))
}

fn listed(domains: &[&str]) -> Gates {
    let allowed_domains = domains.iter().map(ToString::to_string).collect();
    Gates { sign_in: Some(SignInGate { allowed_domains, ..sign_in() }), ..Gates::default() }
}

/// The cookie of somebody who has signed in.
fn signed_in_as(email: &str) -> HeaderMap {
    let who = format!(r#"{{"subject":"7","email":"{email}","shown":"{email}"}}"#);
    let session = session::Session { ends_at: NOW + 60, who: who.into_bytes() };
    let value = session.seal(&SessionKey::from_bytes([8; 32]), "web.tun.test");
    HeaderMap::from_iter([(COOKIE, HeaderValue::try_from(format!("__Host-mtk_gate={value}")).unwrap())])
}

#[tokio::test]
async fn the_lists_are_looked_at_with_every_request_and_who_it_is_is_told_to_the_server() {
    let (keeper, web) = signing_in(&["acme.example"]);
    let ann = signed_in_as("ann@acme.example");
    let passed = pass(&keeper, &web, &ann).await.unwrap();
    let mut forwarded = ann.clone();
    passed.strip(&mut forwarded);
    passed.introduce(&mut forwarded);
    assert!(!forwarded.contains_key(COOKIE));
    assert_eq!(
        (&forwarded[X_FORWARDED_EMAIL], &forwarded[X_FORWARDED_USER]),
        (&HeaderValue::from_static("ann@acme.example"), &HeaderValue::from_static("7"))
    );

    web.set_gates(Some(Arc::new(listed(&["other.example"]))));
    assert_eq!(passed.check(&web).unwrap_err().failure, Failure::SignInRequired);
    let denied = pass(&keeper, &web, &ann).await.unwrap_err();
    assert_eq!(denied.failure, Failure::AccessDenied);
    let html = HeaderMap::from_iter([(http::header::ACCEPT, HeaderValue::from_static("text/html"))]);
    let page = denied.response(&html);
    assert_eq!(
        (page.status(), page.headers()[ERROR_HEADER].as_bytes()),
        (StatusCode::FORBIDDEN, &b"ACCESS_DENIED"[..])
    );
    let text = std::str::from_utf8(page.body()).unwrap();
    assert!(
        text.contains("ann@acme.example") && text.contains("/.mytunnel/sign-in?another=1&amp;to=%2Fa%3Fb"),
        "{text}"
    );
    let json = HeaderMap::from_iter([(http::header::ACCEPT, HeaderValue::from_static("application/json"))]);
    let told = denied.response(&json);
    assert!(std::str::from_utf8(told.body()).unwrap().contains("access_denied"));
    assert_eq!(
        Request { now: NOW + 60, ..Request::get(ann) }.passes(&keeper, &web).await.unwrap_err(),
        Failure::SignInRequired
    );
}

#[tokio::test]
async fn people_are_led_to_the_provider_and_programs_are_told() {
    let (keeper, web) = signing_in(&[]);
    let program = pass(&keeper, &web, &HeaderMap::new()).await.unwrap_err();
    assert_eq!(program.response(&HeaderMap::new()).status(), StatusCode::UNAUTHORIZED);
    let mut person = Request::get(HeaderMap::new());
    person.headers.insert("host", HeaderValue::from_static("web.tun.test"));
    person.headers.insert("sec-fetch-mode", HeaderValue::from_static("navigate"));
    let Ok(Outcome::Answered(led)) = person.at(&keeper, &web, "").await else { panic!("no answer") };
    assert_eq!(led.status(), StatusCode::FOUND);
    assert!(led.headers()[LOCATION].as_bytes().starts_with(b"https://tun.test/.mytunnel/sign-in?begin="));
    // The sign-in comes before the number, and a session of it alone does not do.
    web.set_gates(Some(Arc::new(Gates { pin: number("123456", 1).pin, ..listed(&[]) })));
    let Ok(Outcome::Answered(led)) = person.at(&keeper, &web, "").await else { panic!("no answer") };
    assert_eq!(led.status(), StatusCode::FOUND);
    let ann = signed_in_as("ann@acme.example");
    assert_eq!(pass(&keeper, &web, &ann).await.unwrap_err().failure, Failure::PinRequired);
    let mut form = Request::form();
    form.headers.extend(ann.clone());
    let mut known = session(&keeper, &web, &form).await;
    assert_eq!(pass(&keeper, &web, &known).await.unwrap_err().failure, Failure::SignInRequired);
    let both = format!("{}; {}", known[COOKIE].to_str().unwrap(), ann[COOKIE].to_str().unwrap());
    known.insert(COOKIE, HeaderValue::try_from(both).unwrap());
    pass(&keeper, &web, &known).await.unwrap();
}

#[tokio::test]
async fn who_signs_out_has_no_session_left_and_neither_has_a_copy_of_its_cookie() {
    let (keeper, web) = signing_in(&[]);
    let (ann, ben) = (signed_in_as("ann@acme.example"), signed_in_as("ben@acme.example"));
    let sign_out = |method: Method, site: &'static str| {
        let mut headers = ann.clone();
        headers.insert("sec-fetch-site", HeaderValue::from_static(site));
        Request { method, path: "/.mytunnel/sign-out", ..Request::get(headers) }
    };
    // To look at the page, or to be led there by another one, signs nobody out.
    assert!(sign_out(Method::GET, "same-origin").at(&keeper, &web, "").await.is_ok());
    assert_eq!(
        sign_out(Method::POST, "same-site").at(&keeper, &web, "").await.unwrap_err().failure,
        Failure::CrossSite
    );
    pass(&keeper, &web, &ann).await.unwrap();
    let out = sign_out(Method::POST, "same-origin").at(&keeper, &web, "").await;
    assert!(matches!(out, Ok(Outcome::Answered(page)) if page.status() == StatusCode::OK));
    assert_eq!(pass(&keeper, &web, &ann).await.unwrap_err().failure, Failure::SignInRequired);
    pass(&keeper, &web, &ben).await.unwrap();
}

#[tokio::test]
async fn nobody_is_led_back_to_a_port_at_which_somebody_elses_server_is() {
    let (keeper, web) = signing_in(&[]);
    let keeper = keeper.beside_ports(Some(PortRange::DEFAULT));
    let begun = async |host: &'static str| {
        let host = (http::header::HOST, HeaderValue::from_static(host));
        let html = (http::header::ACCEPT, HeaderValue::from_static("text/html"));
        Request::get(HeaderMap::from_iter([host, html])).at(&keeper, &web, "").await
    };
    for host in ["web.tun.test", "web.tun.test:8443", "web.tun.test:19999"] {
        assert!(matches!(begun(host).await, Ok(Outcome::Answered(_))), "{host}");
    }
    for host in ["web.tun.test:20000", "web.tun.test:29999"] {
        assert_eq!(begun(host).await.unwrap_err().failure, Failure::BadRequest, "{host}");
    }
}

#[tokio::test]
async fn sign_ins_of_one_address_are_limited() {
    let (keeper, _) = signing_in(&[]);
    let routes = Routes::new();
    let (uri, visitor) = (Uri::from_static("/.mytunnel/sign-in?begin=x"), Visitor::new(HOME, true));
    let headers = HeaderMap::new();
    let asked = Asked {
        method: &Method::GET,
        uri: &uri,
        headers: &headers,
        visitor: &visitor,
        host: "tun.test",
        now: NOW,
        signed_out: false,
    };
    let places = Places { routes: &routes, domain: "tun.test", console: "tun.test" };
    for _ in 0..SIGN_INS.tries {
        assert_eq!(keeper.sign_in(&asked, places).await.unwrap_err(), Failure::SignInStale);
    }
    assert_eq!(keeper.sign_in(&asked, places).await.unwrap_err(), Failure::GateBusy);
}
