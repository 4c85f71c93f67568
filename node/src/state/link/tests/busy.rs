//! A relay whose machine answers, and which has no time yet.

use super::*;

/// One that came over TCP, has lost its session and dials again.
fn dialling_again(relays: usize) -> Bench {
    let now = Instant::now();
    let mut bench = Bench { link: Link::new(relays, Carrier::Tcp, now), now };
    bench.tick();
    bench.link.on_connected(connection(1), 0, Carrier::Tcp, bench.now);
    bench.link.on_welcomed(connection(1), bench.now, true);
    bench.pass(STABLE);
    bench.commands();
    bench.link.on_closed(connection(1), "it was killed", bench.now);
    assert_eq!(dials(&bench.tick()), [(0, Carrier::Tcp)]);
    bench
}

#[test]
fn a_relay_whose_machine_answers_is_not_asked_for_more_handshakes() {
    let mut bench = dialling_again(1);
    let begun = bench.now;
    bench.link.on_reached(0, bench.now);
    assert_eq!(dials(&bench.wait()), [(0, Carrier::Tcp)], "nothing else was dialled in between");
    assert_eq!(bench.now - begun, Duration::from_secs(15));
}

#[test]
fn what_answers_and_says_nothing_is_tried_over_one_carrier_after_the_other() {
    let mut bench = dialling_again(1);
    bench.link.on_reached(0, bench.now);
    bench.pass(Duration::from_secs(15));
    let (lost, mut seen, mut pauses) = (bench.now, Vec::new(), Vec::new());
    let mut over = Carrier::Tcp;
    while seen.len() < 6 {
        bench.link.on_dial_failed(0, over, Some("time".to_owned()), bench.now);
        let failed = bench.now;
        let mut dialled = bench.wait();
        while dials(&dialled).is_empty() {
            dialled = bench.wait();
        }
        let [(0, carrier)] = dials(&dialled)[..] else { panic!("one at a time: {dialled:?}") };
        over = carrier;
        seen.push(carrier);
        pauses.push((bench.now - failed).as_secs());
        if carrier == Carrier::Tcp {
            bench.link.on_reached(0, bench.now);
        }
        assert!(seen.len() > 1 || bench.now - lost < Duration::from_secs(5));
        // As long as such a dial lasts.
        let lasts = Duration::from_secs(if carrier == Carrier::Quic { 5 } else { 15 });
        let begun = bench.now;
        while bench.now - begun < lasts {
            assert!(dials(&bench.tick()).is_empty(), "nothing beside it");
            bench.pass(Duration::from_secs(1));
        }
    }
    let [web, tcp, quic] = [Carrier::WebSocket, Carrier::Tcp, Carrier::Quic];
    assert_eq!(seen, [web, quic, tcp, web, quic, tcp]);
    assert_eq!(pauses, [1, 2, 4, 4, 4, 4], "the shortest ones");
}

#[test]
fn what_there_is_nothing_of_to_dial_takes_no_time() {
    let mut bench = dialling_again(1);
    bench.link.on_reached(0, bench.now);
    bench.pass(Duration::from_secs(15));
    bench.link.on_dial_failed(0, Carrier::Tcp, Some("time".to_owned()), bench.now);
    let mut dialled = bench.wait();
    while dials(&dialled).is_empty() {
        dialled = bench.wait();
    }
    assert_eq!(dials(&dialled), [(0, Carrier::WebSocket)]);
    bench.link.on_dial_failed(0, Carrier::WebSocket, None, bench.now);
    assert_eq!(dials(&bench.tick()), [(0, Carrier::Quic)]);
}

#[test]
fn what_answers_and_breaks_off_again_and_again_is_not_the_only_way_that_is_tried() {
    let mut bench = dialling_again(1);
    let (lost, mut seen) = (bench.now, Vec::new());
    let mut over = Carrier::Tcp;
    while bench.now - lost < Duration::from_secs(30) {
        if over == Carrier::Tcp {
            bench.link.on_reached(0, bench.now);
        }
        bench.pass(MS * 30);
        bench.link.on_dial_failed(0, over, Some("reset".to_owned()), bench.now);
        let mut dialled = bench.tick();
        while dials(&dialled).is_empty() {
            dialled = bench.wait();
        }
        let [(0, carrier)] = dials(&dialled)[..] else { panic!("one at a time: {dialled:?}") };
        over = carrier;
        seen.push((carrier, bench.now - lost));
    }
    for carrier in [Carrier::WebSocket, Carrier::Quic] {
        let at = seen.iter().find(|(over, _)| *over == carrier).map(|(_, at)| *at);
        assert!(at.is_some_and(|at| at < Duration::from_secs(5)), "{seen:?}");
    }
    assert!(seen.len() < 40, "{seen:?}");
}

#[test]
fn who_is_never_welcomed_asks_for_fewer_and_fewer_handshakes() {
    let mut bench = dialling_again(1);
    let mut begun = Vec::new();
    for number in 2..6 {
        begun.push(bench.now);
        bench.link.on_reached(0, bench.now);
        bench.link.on_connected(connection(number), 0, Carrier::Tcp, bench.now);
        bench.commands();
        bench.pass(GREETING);
        let mut dialled = bench.tick();
        while dials(&dialled).is_empty() {
            dialled = bench.wait();
        }
        assert_eq!(dials(&dialled), [(0, Carrier::Tcp)]);
    }
    let between: Vec<_> = begun.windows(2).map(|pair| (pair[1] - pair[0] - GREETING).as_secs()).collect();
    assert_eq!(between, [0, 2, 4], "the shortest pauses");
}

#[test]
fn what_answers_over_tcp_keeps_nobody_from_the_way_that_led_there() {
    let mut bench = over_the_last_resort();
    bench.pass(STABLE);
    bench.link.on_closed(connection(1), "it broke", bench.now);
    let lost = bench.now;
    let mut seen = Vec::new();
    while !seen.contains(&Carrier::WebSocket) {
        for (_, carrier) in dials(&bench.wait()) {
            seen.push(carrier);
            if carrier == Carrier::Tcp {
                bench.link.on_reached(0, bench.now);
            }
        }
    }
    assert!(bench.now - lost <= KNOWN_RESORT * 2, "{:?}", bench.now - lost);
}

#[test]
fn after_a_busy_relay_that_closes_again_the_next_try_is_not_far() {
    let mut bench = dialling_again(1);
    bench.link.on_reached(0, bench.now);
    bench.pass(Duration::from_secs(3));
    bench.link.on_connected(connection(2), 0, Carrier::Tcp, bench.now);
    bench.link.on_closed(connection(2), "no room", bench.now);
    bench.commands();
    let closed = bench.now;
    let mut dialled = bench.wait();
    while dials(&dialled).is_empty() {
        dialled = bench.wait();
    }
    assert!(bench.now - closed < Duration::from_secs(1), "{:?}", bench.now - closed);
}

#[test]
fn a_relay_that_breaks_handshakes_off_is_left_alone_for_a_while() {
    let mut bench = dialling_again(1);
    bench.link.on_reached(0, bench.now);
    bench.link.on_dial_failed(0, Carrier::Tcp, Some("reset".to_owned()), bench.now);
    assert_eq!(dials(&bench.tick()), [(0, Carrier::Tcp)], "once at once");
    bench.link.on_reached(0, bench.now);
    bench.pass(MS * 300);
    bench.link.on_dial_failed(0, Carrier::Tcp, Some("reset".to_owned()), bench.now);
    let failed = bench.now;
    let mut dialled = bench.wait();
    while dials(&dialled).is_empty() {
        dialled = bench.wait();
    }
    assert_eq!(dials(&dialled), [(0, Carrier::Tcp)]);
    assert_eq!(bench.now - failed, Duration::from_secs(1), "the shortest pause");
}

#[test]
fn a_first_search_takes_an_answering_machine_for_nothing() {
    let now = Instant::now();
    let mut bench = Bench { link: Link::new(1, Carrier::Tcp, now), now };
    bench.tick();
    bench.link.on_reached(0, bench.now);
    let mut seen = Vec::new();
    while !seen.contains(&(0, Carrier::Quic)) {
        seen.extend(dials(&bench.wait()));
    }
    assert_eq!(bench.now - now, HEAD_START);
}

#[test]
fn a_first_search_dials_everything_once_and_asks_for_no_second_handshake_beside_the_first() {
    let now = Instant::now();
    let mut bench = Bench { link: Link::new(1, Carrier::Tcp, now), now };
    bench.tick();
    bench.link.on_reached(0, bench.now);
    let mut seen = Vec::new();
    while bench.now - now < Duration::from_secs(14) {
        seen.extend(dials(&bench.wait()).into_iter().map(|(_, carrier)| carrier));
    }
    assert_eq!(seen[..2], [Carrier::Quic, Carrier::WebSocket]);
    assert_eq!(seen[2..], [Carrier::Tcp], "which is not before its time is over");
    assert!(bench.now - now >= Duration::from_secs(15));
}

#[test]
fn another_relay_is_tried_while_one_is_busy() {
    let mut bench = dialling_again(2);
    bench.link.on_reached(0, bench.now);
    let lost = bench.now;
    let mut dialled = bench.wait();
    while dials(&dialled).is_empty() {
        dialled = bench.wait();
    }
    assert_eq!(dials(&dialled), [(1, Carrier::Tcp)]);
    assert!(bench.now - lost < Duration::from_secs(1));
}

#[test]
fn a_dead_relay_takes_nothing_from_the_wait_for_a_busy_one() {
    let mut bench = dialling_again(2);
    let lost = bench.now;
    bench.link.on_reached(0, bench.now);
    let mut seen = Vec::new();
    while bench.now - lost < Duration::from_secs(10) {
        for (relay, carrier) in dials(&bench.wait()) {
            seen.push((relay, carrier, bench.now - lost));
            assert_eq!(relay, 1, "the busy one is asked for no second handshake: {seen:?}");
            bench.link.on_dial_failed(relay, carrier, Some("refused".to_owned()), bench.now);
        }
    }
    for carrier in [Carrier::Tcp, Carrier::Quic, Carrier::WebSocket] {
        let at = seen.iter().find(|(_, over, _)| *over == carrier).map(|(.., at)| *at);
        assert!(at.is_some_and(|at| at < Duration::from_secs(1)), "{carrier:?}: {at:?}");
    }
}

#[test]
fn of_relays_that_are_all_busy_each_is_asked_once() {
    let mut bench = dialling_again(3);
    let lost = bench.now;
    bench.link.on_reached(0, bench.now);
    for relay in [1, 2] {
        let mut dialled = bench.wait();
        while dials(&dialled).is_empty() {
            dialled = bench.wait();
        }
        assert_eq!(dials(&dialled), [(relay, Carrier::Tcp)]);
        bench.link.on_reached(relay, bench.now);
    }
    assert!(bench.now - lost < Duration::from_secs(1));
    let mut dialled = bench.wait();
    while dials(&dialled).is_empty() {
        dialled = bench.wait();
    }
    assert!(bench.now - lost >= Duration::from_secs(15), "{:?}", bench.now - lost);
}

#[test]
fn a_relay_that_is_left_alone_keeps_nobody_from_the_others() {
    let mut bench = dialling_again(2);
    // Relay 1 refuses whatever comes.
    let until_dialled = |bench: &mut Bench| {
        let (begun, mut others) = (bench.now, 0);
        loop {
            for (relay, carrier) in dials(&bench.wait()) {
                if (relay, carrier) == (0, Carrier::Tcp) {
                    return (bench.now - begun, others);
                }
                others += usize::from((relay, carrier) == (1, Carrier::Tcp));
                bench.link.on_dial_failed(relay, carrier, Some("refused".to_owned()), bench.now);
            }
        }
    };
    bench.link.on_reached(0, bench.now);
    bench.link.on_dial_failed(0, Carrier::Tcp, Some("reset".to_owned()), bench.now);
    let (again, _) = until_dialled(&mut bench);
    assert!(again < Duration::from_secs(1), "once nearly at once: {again:?}");
    bench.link.on_reached(0, bench.now);
    bench.link.on_dial_failed(0, Carrier::Tcp, Some("reset".to_owned()), bench.now);
    let (again, others) = until_dialled(&mut bench);
    assert!(again >= Duration::from_secs(1), "the shortest pause: {again:?}");
    assert!(others > 0, "the other one was tried meanwhile");
}

#[test]
fn relays_that_accept_and_hang_keep_nobody_from_the_next_one() {
    let now = Instant::now();
    let mut bench = Bench { link: Link::new(4, Carrier::Tcp, now), now };
    let mut seen = Vec::new();
    while !seen.contains(&(3, Carrier::Tcp)) {
        seen.extend(dials(&bench.wait()));
        assert!(bench.now - now < Duration::from_secs(5), "{seen:?}");
    }
}
