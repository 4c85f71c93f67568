//! TCP to a host of many addresses: while one does not answer, the next is tried (RFC 8305), or a network that swallows one family
//! would shut the other out.

use std::{collections::VecDeque, future::pending, io, net::SocketAddr, time::Duration};

use futures::{StreamExt as _, stream::FuturesUnordered};
use tokio::{
    net::{TcpStream, lookup_host},
    time::sleep,
};

use super::place::{Family, Host};

/// How long an address has before the next one is tried beside it.
const HEAD_START: Duration = Duration::from_millis(250);

/// Addresses of one name that are tried.
const MOST: usize = 8;

/// Connects to a host.
pub(super) async fn connect(host: &Host, port: u16) -> io::Result<TcpStream> {
    let addresses = match host {
        Host::Ip(ip) => VecDeque::from([SocketAddr::new(*ip, port)]),
        Host::Name(name, family) => in_turn(lookup_host((name.as_str(), port)).await?, *family),
    };
    let socket = first_of(addresses, TcpStream::connect).await?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// Those of a family, each followed by one of the other, in the order in which the resolver prefers them.
fn in_turn(found: impl Iterator<Item = SocketAddr>, family: Family) -> VecDeque<SocketAddr> {
    let found: Vec<SocketAddr> = found.filter(|address| family.has(address.ip())).collect();
    let is_first =
        |address: &SocketAddr| found.first().is_some_and(|first| first.is_ipv4() == address.is_ipv4());
    let (first, second): (Vec<SocketAddr>, Vec<SocketAddr>) =
        found.iter().partition(|address| is_first(address));
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut all = VecDeque::new();
    while all.len() < MOST {
        let before = all.len();
        all.extend(first.next());
        all.extend(second.next());
        if all.len() == before {
            break;
        }
    }
    all
}

/// The first that stands; or why the last one does not.
async fn first_of<S, F>(mut waiting: VecDeque<SocketAddr>, dial: impl Fn(SocketAddr) -> F) -> io::Result<S>
where
    F: Future<Output = io::Result<S>>,
{
    let mut under_way = FuturesUnordered::new();
    let mut trouble = io::Error::new(io::ErrorKind::NotFound, "its name leads to no address");
    loop {
        match waiting.pop_front() {
            Some(address) => under_way.push(dial(address)),
            None if under_way.is_empty() => return Err(trouble),
            None => {}
        }
        let is_last = waiting.is_empty();
        let next = async {
            if is_last {
                pending::<()>().await;
            }
            sleep(HEAD_START).await;
        };
        tokio::select! {
            biased;
            Some(ended) = under_way.next() => match ended {
                Ok(connected) => return Ok(connected),
                Err(error) => trouble = error,
            },
            () = next => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    fn at(address: &str) -> SocketAddr {
        SocketAddr::new(address.parse().unwrap(), 443)
    }

    fn all(addresses: &[&str]) -> Vec<SocketAddr> {
        addresses.iter().map(|address| at(address)).collect()
    }

    #[test]
    fn families_take_turns_and_a_name_of_one_has_no_other() {
        let found = all(&["2001:db8::1", "2001:db8::2", "2001:db8::3", "192.0.2.1"]);
        let turns = |family| Vec::from(in_turn(found.iter().copied(), family));
        assert_eq!(turns(Family::Any), all(&["2001:db8::1", "192.0.2.1", "2001:db8::2", "2001:db8::3"]));
        assert_eq!(turns(Family::V4), all(&["192.0.2.1"]));
        assert_eq!(turns(Family::V6), found[..3]);
        let many = (0..100).map(|number| SocketAddr::from(([192, 0, 2, number], 443)));
        assert_eq!(in_turn(many, Family::Any).len(), MOST);
        assert!(in_turn(std::iter::empty(), Family::Any).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_behind_an_address_that_swallows_everything_is_reached_at_the_next() {
        let begun = Instant::now();
        let addresses = VecDeque::from(all(&["2001:db8::1", "192.0.2.1"]));
        let dial = async |address: SocketAddr| match address.is_ipv6() {
            true => pending().await,
            false => Ok(address),
        };
        assert_eq!(first_of(addresses, dial).await.unwrap(), at("192.0.2.1"));
        assert_eq!(begun.elapsed(), HEAD_START);
    }

    #[tokio::test(start_paused = true)]
    async fn after_one_that_refuses_the_next_is_tried_at_once_and_the_last_says_why() {
        let begun = Instant::now();
        let addresses = VecDeque::from(all(&["2001:db8::1", "192.0.2.1", "192.0.2.2"]));
        let dial = async |address: SocketAddr| Err::<(), _>(io::Error::other(address.to_string()));
        assert_eq!(first_of(addresses, dial).await.unwrap_err().to_string(), "192.0.2.2:443");
        assert_eq!(begun.elapsed(), Duration::ZERO);
        let nowhere = first_of(VecDeque::new(), dial).await.unwrap_err();
        assert!(nowhere.to_string().contains("no address"), "{nowhere}");
    }
}
