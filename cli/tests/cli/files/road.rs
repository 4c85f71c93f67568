//! A path between two agents that counts what passes, and stops where it is told.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use mytunnel_pairing::Link;

/// See the module.
#[derive(Default)]
pub(super) struct Road {
    passed: AtomicU64,
    /// What more may pass from now on, where that is bounded.
    granted: Mutex<Option<u64>>,
    more: Condvar,
    /// Behind so many bytes nothing goes on, where this is not zero.
    ends_at: AtomicU64,
    /// Then the connections end, too.
    cuts: AtomicBool,
}

impl Road {
    pub(super) fn through(self: &Arc<Self>, invite: &str) -> String {
        let mut link = Link::parse(invite).unwrap();
        let tcp = link.addresses.iter().map(ToString::to_string).find(|address| address.contains("/tcp/"));
        let host: SocketAddr =
            format!("127.0.0.1:{}", tcp.unwrap().rsplit('/').next().unwrap()).parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let road = Arc::clone(self);
        thread::spawn(move || {
            for guest in listener.incoming().map_while(Result::ok) {
                let Ok(host) = TcpStream::connect(host) else { continue };
                for (from, to) in [(&guest, &host), (&host, &guest)] {
                    let (from, to, road) =
                        (from.try_clone().unwrap(), to.try_clone().unwrap(), Arc::clone(&road));
                    thread::spawn(move || road.carry(from, to));
                }
            }
        });
        link.addresses = vec![format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()];
        link.to_text().to_string()
    }

    fn carry(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut piece = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut piece) {
            self.wait_for(count as u64);
            let passed = self.passed.fetch_add(count as u64, Ordering::SeqCst);
            let end = self.ends_at.load(Ordering::SeqCst);
            if end != 0 && passed > end {
                if self.cuts.load(Ordering::SeqCst) {
                    break;
                }
                // Takes in what still comes, and lets nothing through.
                continue;
            }
            if to.write_all(&piece[..count]).is_err() {
                break;
            }
        }
        // Either may be gone already.
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    }

    /// Waits until so much may pass.
    fn wait_for(&self, count: u64) {
        let granted = self.granted.lock().unwrap();
        let mut granted =
            self.more.wait_while(granted, |left| left.is_some_and(|left| left < count)).unwrap();
        *granted = granted.map(|left| left - count);
    }

    /// Lets this much more through, and nothing else from here on.
    pub(super) fn grant(&self, bytes: u64) {
        let mut granted = self.granted.lock().unwrap();
        *granted = Some(granted.unwrap_or_default().saturating_add(bytes));
        self.more.notify_all();
    }

    pub(super) fn stop_after(&self, bytes: u64, cuts: bool) {
        self.cuts.store(cuts, Ordering::SeqCst);
        self.ends_at.store(self.passed.load(Ordering::SeqCst) + bytes, Ordering::SeqCst);
    }

    pub(super) fn open(&self) {
        self.ends_at.store(0, Ordering::SeqCst);
    }

    pub(super) fn passed(&self) -> u64 {
        self.passed.load(Ordering::SeqCst)
    }
}
