//! The door (design, "Joining, liveness, leaving"): whoever has no certificate yet is brought to the set's authority, and to
//! nothing else.
//!
//! What comes through it is TLS from end to end between the one who joins and the authority, which judges his token. A gateway
//! sees none of that, and knows nothing of him but his address: so he gets little time, few bytes, and few places.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    copy,
    core::Core,
    hub::{self, Target},
    transport::{CloseReason, JOIN_WINDOW, JoinStream, Joining},
};

/// Those who may be inside at once. A joining takes a second; people type few of them in that time.
const MOST: usize = 8;
/// Of them from one address: somebody who only stands there leaves room for others.
const MOST_OF_ONE: usize = 2;
/// How long one may take in all: three tries of the authority to reach the hub's API, at its slowest.
const TIME: Duration = Duration::from_secs(30);
/// What may pass in each direction: a joining is some tens of kilobytes.
const BYTES: u64 = JOIN_WINDOW as u64;
/// How long the authority may take to accept.
const CONNECT: Duration = Duration::from_secs(3);

/// Who is inside.
#[derive(Debug, Default)]
pub(crate) struct Door {
    inside: Mutex<HashMap<IpAddr, usize>>,
}

impl Door {
    /// Takes a place for somebody, until what is returned is dropped; none where there is none left for him.
    fn enter(self: &Arc<Self>, from: IpAddr) -> Option<Place> {
        let from = network(from);
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = inside.values().sum();
        let own = inside.get(&from).copied().unwrap_or_default();
        if all >= MOST || own >= MOST_OF_ONE {
            return None;
        }
        inside.insert(from, own + 1);
        Some(Place { door: Arc::clone(self), from })
    }
}

/// What counts as one address: of IPv6 everybody has a whole network.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        v4 => v4,
    }
}

/// A place inside.
#[derive(Debug)]
struct Place {
    door: Arc<Door>,
    from: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inside = self.door.inside.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = inside.get_mut(&self.from) {
            *own -= 1;
            if *own == 0 {
                inside.remove(&self.from);
            }
        }
    }
}

/// Takes in somebody who knocks.
pub(crate) async fn knocks(core: &Arc<Core>, joining: Joining, from: SocketAddr) {
    let over = joining.carrier().as_str();
    let result = tokio::select! {
        result = serve(core, joining, from) => result,
        () = core.stop.cancelled() => return,
    };
    core.metrics.hub.join(result);
    tracing::info!(%from, over, result, "somebody without a certificate has knocked");
}

/// One word for what has come of it.
async fn serve(core: &Arc<Core>, joining: Joining, from: SocketAddr) -> &'static str {
    let Some(authority) = core.hub.authority() else {
        joining.refuse(CloseReason::NotListed);
        return "no_authority";
    };
    let Some(_place) = core.door.enter(from.ip()) else {
        joining.refuse(CloseReason::TooMany);
        return "too_many";
    };
    match timeout(TIME, bring(core, authority, joining)).await {
        Ok(result) => result,
        Err(_) => "timeout",
    }
}

async fn bring(core: &Core, authority: &Target, joining: Joining) -> &'static str {
    let Ok(mut stream) = joining.stream().await else { return "lost" };
    let connected = timeout(CONNECT, hub::connect(&core.room, authority)).await;
    let mut tcp = match connected {
        Ok(Ok(tcp)) => tcp,
        Ok(Err(error)) => {
            tracing::warn!(%authority, "somebody who joins cannot be brought to the authority: {error}");
            stream.end(CloseReason::Going).await;
            return "authority_away";
        }
        Err(_) => {
            tracing::warn!(%authority, "somebody who joins cannot be brought to the authority, it does not answer");
            stream.end(CloseReason::Going).await;
            return "authority_away";
        }
    };
    match both(&mut stream, &mut tcp).await {
        Ok(()) => {
            stream.end(CloseReason::Replaced).await;
            "done"
        }
        Err(why) => {
            copy::reset(tcp);
            stream.end(CloseReason::Protocol).await;
            why
        }
    }
}

/// Carries both directions until both have ended, or one is too much.
async fn both(stream: &mut JoinStream, tcp: &mut TcpStream) -> Result<(), &'static str> {
    let (of_stream, to_stream) = tokio::io::split(stream);
    let (of_tcp, to_tcp) = tcp.split();
    tokio::try_join!(pass(of_stream, to_tcp), pass(of_tcp, to_stream)).map(drop)
}

async fn pass(
    from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
) -> Result<(), &'static str> {
    let lost = |_: io::Error| "lost";
    let mut from = from.take(BYTES + 1);
    if tokio::io::copy(&mut from, &mut to).await.map_err(lost)? > BYTES {
        return Err("too_large");
    }
    to.shutdown().await.map_err(lost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_all_places() {
        let door = Arc::new(Door::default());
        let v4 = |last| IpAddr::from([192, 0, 2, last]);
        let first = door.enter(v4(1)).unwrap();
        let second = door.enter(v4(1)).unwrap();
        assert!(door.enter(v4(1)).is_none(), "two of one address");
        let mapped = IpAddr::from([0, 0, 0, 0, 0, 0xffff, 0xc000, 0x0201]);
        assert!(
            door.enter(mapped).is_none(),
            "the same address, as a socket of both families has it"
        );
        let others: Vec<Place> = (2..=7).filter_map(|last| door.enter(v4(last))).collect();
        assert_eq!(others.len(), 6);
        assert!(door.enter(v4(8)).is_none(), "eight in all");
        drop(first);
        assert!(door.enter(v4(8)).is_some());
        drop((second, others));
        assert!(door.inside.lock().unwrap().is_empty());
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(network(address("2001:db8::1")), network(address("2001:db8:0:0:ffff::2")));
        assert_ne!(network(address("2001:db8::1")), network(address("2001:db8:0:1::1")));
    }
}
