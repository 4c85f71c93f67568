//! What this version writes is read by the ones to come: sessions as they were written when the format was fixed.
//!
//! `cargo test -p mytunnel-pairing --lib -- --ignored writes_sessions` writes them anew, which is right only together with another [`VERSION`].

use super::*;

/// Rows of a session, for a file.
#[derive(Serialize, Deserialize)]
struct Written(Vec<u8>, Vec<u8>, Vec<Vec<u8>>, Vec<Vec<u8>>);

const HOST: &[u8] = include_bytes!("first/host");
const GUEST: &[u8] = include_bytes!("first/guest");

fn read(file: &[u8]) -> Session {
    let Written(state, loose, entries, outbox) = bytes::decode(file).unwrap();
    assert_eq!(state[0], 1, "the version that it was written by");
    let rows = Rows { state: Zeroizing::new(state), loose, entries, outbox };
    Session::restored(ID, &rows, &Era::of_machine(0, WALL), now()).unwrap()
}

/// Two messages that everybody has, and one of the guest's that has not left it.
fn world() -> World {
    let mut world = World::new();
    world.say(0);
    world.say(1);
    world.check();
    world.cut(0);
    world.say(1);
    world.guests[0].write();
    world
}

#[test]
fn sessions_of_the_first_version_are_read() {
    let (host, guest) = (read(HOST), read(GUEST));
    for session in [&host, &guest] {
        let texts: Vec<_> = texts(session).into_iter().map(|(_, text)| text).collect();
        assert_eq!(texts, ["0 1", "1 2"]);
    }
    let Side::Host(room) = &host.side else { panic!("it was the host's") };
    assert_eq!((room.opening.goal.as_str(), room.opening.seed.public()), ("fix the build", seed(1).public()));
    assert_eq!(room.members.keys().copied().collect::<Vec<_>>(), [1, 2]);

    let mut world = world();
    world.cut(1);
    (world.host.session, world.guests[0].session) = (host, guest);
    world.check();
    let last = world.host.texts().pop().unwrap();
    assert_eq!(last.1, "1 3", "what had not left the guest comes when it is back");
}

#[test]
#[ignore = "it writes what the test above reads"]
fn writes_sessions() {
    let world = world();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/daemon/session/kept/tests/first");
    for (name, end) in [("host", &world.host), ("guest", &world.guests[0])] {
        let Rows { state, loose, entries, outbox } = end.store.as_ref().unwrap().read(ID).unwrap().unwrap();
        let written = bytes::encode(&Written(state.to_vec(), loose, entries, outbox));
        std::fs::write(folder.join(name), written).unwrap();
    }
}
