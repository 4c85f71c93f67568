//! Somebody on the path between two agents: who records, who changes, who cuts, and strangers who knock.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use mytunnel_pairing::{InviteSecret, Link};

use crate::files::Files as _;
use crate::pair::Agent;

/// What is on the path does with the bytes.
#[derive(Default)]
pub(crate) struct Path {
    pub(crate) seen: Mutex<Vec<u8>>,
    /// Changes one bit of each piece from now on.
    changes: AtomicBool,
    /// Lets nothing through from now on, and ends what there is.
    is_cut: AtomicBool,
    pub(crate) connections: AtomicUsize,
}

/// An invite that leads through the path.
pub(crate) fn through(invite: &str, path: &Arc<Path>) -> String {
    let mut link = Link::parse(invite).unwrap();
    let tcp =
        link.addresses.iter().map(ToString::to_string).find(|address| address.contains("/tcp/")).unwrap();
    let host: SocketAddr = format!("127.0.0.1:{}", tcp.rsplit('/').next().unwrap()).parse().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let path = Arc::clone(path);
    thread::spawn(move || {
        for guest in listener.incoming().map_while(Result::ok) {
            path.connections.fetch_add(1, Ordering::SeqCst);
            let Ok(host) = TcpStream::connect(host) else { continue };
            for (from, to) in [(&guest, &host), (&host, &guest)] {
                let (from, to, path) =
                    (from.try_clone().unwrap(), to.try_clone().unwrap(), Arc::clone(&path));
                thread::spawn(move || path.carry(from, to));
            }
        }
    });
    link.addresses = vec![format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()];
    link.to_text().to_string()
}

impl Path {
    fn carry(&self, mut from: TcpStream, mut to: TcpStream) {
        from.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let mut piece = [0; 4096];
        while !self.is_cut.load(Ordering::SeqCst) {
            let count = match from.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
                Err(_) => break,
            };
            self.seen.lock().unwrap().extend_from_slice(&piece[..count]);
            if self.changes.load(Ordering::SeqCst) {
                piece[count / 2] ^= 1;
            }
            if to.write_all(&piece[..count]).is_err() {
                break;
            }
        }
        // Either may be gone already.
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    }
}

pub(crate) fn contains(all: &[u8], part: impl AsRef<[u8]>) -> bool {
    all.windows(part.as_ref().len()).any(|window| window == part.as_ref())
}

/// The secret of a link, as it would be on a wire: behind version, flags and the invite's id.
pub(crate) fn secret_of(invite: &str) -> Vec<u8> {
    let payload = invite.strip_prefix("pair1-").and_then(|rest| rest.rsplit_once('-')).unwrap().0;
    let payload = data_encoding::BASE64URL_NOPAD.decode(payload.as_bytes()).unwrap();
    let secret = payload[10..42].to_vec();
    let link = Link::parse(invite).unwrap();
    assert_eq!(link.secret, InviteSecret::from_bytes(secret.clone().try_into().unwrap()));
    secret
}

#[test]
fn who_records_everything_reads_nothing() {
    let (host, guest, path) = (Agent::new(), Agent::new(), Arc::new(Path::default()));
    let (_, invites) = host.open(&["--goal", "the-secret-goal", "--name", "ada-of-the-host"]);
    let invite = through(&invites[0], &path);
    guest.join_as("bob-of-the-guest", &invite).succeeded();
    host.say("words-of-the-host");
    guest.hear(1);
    guest.say("words-of-the-guest");
    host.hear(1);
    let shared = host.share(&host.write("name-of-the-file.txt", b"content-of-the-file"));
    guest.hear(1);
    guest.receive(&shared["offer"]);
    let seen = path.seen.lock().unwrap();
    assert!(seen.len() > 1_000 && contains(&seen, "/noise"), "{}", seen.len());
    assert!(!contains(&seen, secret_of(&invites[0])));
    for text in
        ["the-secret-goal", "ada-of-the-host", "bob-of-the-guest", "words-of-the", "of-the-file", "mytunnel"]
    {
        assert!(!contains(&seen, text), "{text}");
    }
}

#[test]
fn what_was_changed_on_the_way_never_reaches_anybody_and_the_session_comes_back() {
    let (host, guest, path) = (Agent::new(), Agent::new(), Arc::new(Path::default()));
    let (_, invites) = host.open(&[]);
    guest.join(&through(&invites[0], &path)).succeeded();
    host.say("before");
    guest.hear(1);
    path.changes.store(true, Ordering::SeqCst);
    let said = guest.say("meanwhile");
    assert_eq!(said["queued"].as_array().unwrap().len(), 1, "{said}");
    path.changes.store(false, Ordering::SeqCst);
    let heard = host.hear(1);
    assert_eq!(heard[0]["text"], "meanwhile");
    assert!(path.connections.load(Ordering::SeqCst) > 1);
    host.say("after");
    assert_eq!(guest.hear(1)[0]["text"], "after");
}

#[test]
fn a_connection_that_is_cut_is_made_again_and_nothing_is_lost_or_doubled() {
    let (host, guest, path) = (Agent::new(), Agent::new(), Arc::new(Path::default()));
    let (_, invites) = host.open(&[]);
    guest.join(&through(&invites[0], &path)).succeeded();
    path.is_cut.store(true, Ordering::SeqCst);
    for text in ["one", "two", "three"] {
        host.say(text);
        guest.say(text);
    }
    path.is_cut.store(false, Ordering::SeqCst);
    for agent in [&guest, &host] {
        let heard = agent.hear(3);
        let texts: Vec<_> = heard.iter().map(|message| message["text"].as_str().unwrap()).collect();
        assert_eq!(texts, ["one", "two", "three"]);
    }
}

#[test]
fn three_hundred_who_knock_and_say_nothing_keep_nobody_out() {
    let (host, guest) = (Agent::new(), Agent::new());
    let (_, invites) = host.open(&[]);
    let link = Link::parse(&invites[0]).unwrap();
    let tcp =
        link.addresses.iter().map(ToString::to_string).find(|address| address.contains("/tcp/")).unwrap();
    let at: SocketAddr = format!("127.0.0.1:{}", tcp.rsplit('/').next().unwrap()).parse().unwrap();
    let idlers: Vec<TcpStream> = (0..300).map(|_| TcpStream::connect(at).unwrap()).collect();
    let began = Instant::now();
    guest.join(&invites[0]).succeeded();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    drop(idlers);
}
