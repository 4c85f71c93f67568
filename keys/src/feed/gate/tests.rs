use super::*;

const KEY: SessionKey = SessionKey::from_bytes([9; 32]);

fn all() -> Gates {
    let networks = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    Gates {
        basic: Some(BasicGate { user: "ann".to_owned(), hash: "$argon2id$v=19$x".to_owned(), generation: 7 }),
        sign_in: Some(SignInGate {
            provider: "google".to_owned(),
            allowed_domains: vec!["acme.example".to_owned()],
            allowed_emails: vec!["a@b.example".to_owned(), "c@d.example".to_owned()],
            session_key: KEY,
        }),
        pin: Some(PinGate { hash: "$argon2id$pin".to_owned(), generation: 8, session_key: KEY }),
        bearer: Some(BearerGate { hash: "$argon2id$bearer".to_owned(), generation: 9 }),
        addresses: Some(AddressGate {
            allow: networks(&["10.0.0.0/8", "2001:db8::/32"]),
            deny: networks(&["10.0.0.7"]),
        }),
        ends_at: Some(1_800_000_000),
    }
}

#[test]
fn gates_come_back_as_they_were_alone_and_together() {
    let Gates { basic, sign_in, pin, bearer, addresses, ends_at } = all();
    let none = Gates::default();
    let each = [
        Gates { basic, ..none.clone() },
        Gates { sign_in, ..none.clone() },
        Gates { pin, ..none.clone() },
        Gates { bearer, ..none.clone() },
        Gates { addresses, ..none.clone() },
        Gates { ends_at, ..none.clone() },
    ];
    for gates in each {
        assert!(!gates.is_open(), "{gates:?}");
        assert_eq!(Gates::read(&gates.write()), Some(gates));
    }
    assert!(none.is_open());
    assert_eq!(Gates::read(&none.write()), Some(none));
    assert_eq!(Gates::read(&all().write()), Some(all()));
    assert_eq!(all().names(), ["basic", "oidc", "pin", "bearer", "ip"]);
}

#[test]
fn whatever_else_changes_but_the_end_is_asked_anew() {
    let (all, other) = (all(), SessionKey::from_bytes([8; 32]));
    for ends_at in [None, Some(1), Some(u64::MAX)] {
        assert!(all.ask_as(&Gates { ends_at, ..all.clone() }), "{ends_at:?}");
    }
    let pin = all.pin.clone().map(|gate| PinGate { generation: 9, ..gate });
    let sign_in = all.sign_in.clone().map(|gate| SignInGate { session_key: other, ..gate });
    for others in [
        Gates { basic: None, ..all.clone() },
        Gates { pin, ..all.clone() },
        Gates { sign_in, ..all.clone() },
        Gates { bearer: None, ..all.clone() },
        Gates { addresses: None, ..all.clone() },
    ] {
        assert!(!all.ask_as(&others) && !others.ask_as(&all), "{others:?}");
    }
}

#[test]
fn what_is_not_understood_whole_is_refused() {
    let Value::Array(written) = all().write() else { panic!("gates are a list") };
    for (kind, gate) in written.iter().enumerate() {
        let Value::Array(parts) = gate else { panic!("a gate is a list") };
        let read = |gates: Vec<Vec<Value>>| {
            Gates::read(&Value::Array(gates.into_iter().map(Value::Array).collect()))
        };
        assert!(read(vec![parts.clone()]).is_some());
        assert_eq!(read(vec![parts.clone(), parts.clone()]), None, "two of kind {kind}");
        for place in 0..parts.len() {
            let mut odd = parts.clone();
            odd[place] = Value::Null;
            assert_eq!(read(vec![odd]), None, "{kind} {place}");
            let mut less = parts.clone();
            less.remove(place);
            assert_eq!(read(vec![less]), None, "{kind} without {place}");
        }
        let mut more = parts.clone();
        more.push(1.into());
        assert_eq!(read(vec![more]), None, "more than is known of {kind}");
    }
    for odd in [vec![], vec![7.into(), "x".into()], vec![0.into()]] {
        assert_eq!(Gates::read(&Value::Array(vec![Value::Array(odd)])), None, "another kind");
    }
}

#[test]
fn texts_lists_and_keys_have_their_lengths() {
    let read = |parts: Vec<Value>| Gates::read(&Value::Array(vec![Value::Array(parts)]));
    let key = || Value::from([9_u8; 32].as_slice());
    let list = |entry: &str, many: usize| Value::Array(vec![entry.into(); many]);
    assert_eq!(read(vec![1.into(), "".into(), "$hash".into(), 7.into()]), None);
    assert_eq!(read(vec![1.into(), "ann".into(), "x".repeat(MAX_TEXT + 1).into(), 7.into()]), None);
    let sign_in = |domains: Value, key: Value| {
        read(vec![2.into(), "google".into(), domains, list("", 0), key]).is_some()
    };
    assert!(sign_in(list("a.example", MAX_LIST), key()));
    assert!(!sign_in(list("a.example", MAX_LIST + 1), key()));
    assert!(!sign_in("a.example".into(), key()) && !sign_in(Value::Array(vec![7.into()]), key()));
    assert!(!sign_in(list("", 0), Value::from([9_u8; 31].as_slice())));
    let addresses = |allow: Value| read(vec![5.into(), allow, list("", 0)]).is_some();
    assert!(addresses(list("10.0.0.0/8", MAX_LIST)) && !addresses(list("10.0.0.0/8", MAX_LIST + 1)));
    assert!(!addresses(list("10.0.0.0/99", 1)) && !addresses(list("", 1)));
}

#[test]
fn who_is_denied_stays_out_also_if_allowed_and_a_list_of_who_may_is_one() {
    let gate = |allow: &[&str], deny: &[&str]| {
        let networks = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        AddressGate { allow: networks(allow), deny: networks(deny) }
    };
    let admits = |gate: &AddressGate, from: &str| gate.admits(from.parse().unwrap());
    let office = gate(&["192.0.2.0/24", "2001:db8::/32"], &["192.0.2.7"]);
    assert!(admits(&office, "192.0.2.1") && admits(&office, "::ffff:192.0.2.1"));
    assert!(admits(&office, "2001:db8::7"));
    assert!(!admits(&office, "192.0.2.7") && !admits(&office, "::ffff:192.0.2.7"));
    assert!(!admits(&office, "198.51.100.1") && !admits(&office, "2001:db9::1"));
    let blocked = gate(&[], &["198.51.100.0/24"]);
    assert!(admits(&blocked, "192.0.2.1") && !admits(&blocked, "198.51.100.9"));
    assert!(!admits(&gate(&["0.0.0.0/0"], &["0.0.0.0/0"]), "192.0.2.1"));
}

#[test]
fn nothing_secret_is_printed() {
    let printed = format!("{:?}", all());
    assert!(
        !printed.contains("argon2") && !printed.contains("a@b.example") && !printed.contains("[9"),
        "{printed}"
    );
}
