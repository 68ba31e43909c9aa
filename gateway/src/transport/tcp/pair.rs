//! The two TCP connections of a link, on the side that is dialled: each names its link, and the one that comes first waits
//! for the other.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use h2::{RecvStream as Body, client, server};
use rustls_pki_types::CertificateDer;
use tokio::sync::oneshot;

use super::{
    half::{Lost, Requests},
    io::Secured,
    stream::Chunk,
};
use crate::credentials::InForce;

/// The length of a link's name: 16 bytes by chance, in hexadecimal digits. Who does not know it cannot guess it, and who
/// has another certificate cannot use it.
pub(super) const NAME: usize = 32;

/// What both kinds of halves have.
#[derive(Debug)]
pub(super) struct Half {
    pub(super) end: End,
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) remote: SocketAddr,
    pub(super) heard: Arc<std::sync::atomic::AtomicU64>,
    pub(super) lost: Lost,
    /// What the peer was shown, or what was in force just before.
    pub(super) shown: Arc<InForce>,
}

/// Which half it is.
pub(super) enum End {
    /// The peer opens streams on it. It has opened the first, which waits for an answer.
    Forward {
        connection: server::Connection<Secured, Chunk>,
        tie: Body,
        respond: server::SendResponse<Chunk>,
    },
    /// This side opens streams on it.
    Back { connection: client::Connection<Secured, Chunk>, requests: Requests },
}

impl std::fmt::Debug for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_forward() { "Forward" } else { "Back" })
    }
}

impl End {
    fn is_forward(&self) -> bool {
        matches!(self, Self::Forward { .. })
    }
}

/// What becomes of a half.
#[derive(Debug)]
pub(super) enum Met {
    /// Here is the other.
    Both(Box<[Half; 2]>),
    /// Its link has one like it, or another peer's.
    Stranger,
    /// It waits, and hears when it was taken.
    Waits(oneshot::Receiver<()>),
}

/// The halves that wait: as many as there may be handshakes.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    waiting: Mutex<HashMap<String, (Half, oneshot::Sender<()>)>>,
}

impl Pairs {
    /// Brings a half of `link`.
    pub(super) fn meet(&self, link: &str, half: Half) -> Met {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        match waiting.entry(link.to_owned()) {
            Entry::Vacant(place) => {
                let (taken, told) = oneshot::channel();
                place.insert((half, taken));
                Met::Waits(told)
            }
            Entry::Occupied(place) => {
                let (other, _) = place.get();
                let fits =
                    other.chain == half.chain && other.end.is_forward() != half.end.is_forward();
                if !fits {
                    return Met::Stranger;
                }
                let (other, taken) = place.remove();
                // Whoever waits may have given up at this moment: then nobody is told.
                let _ = taken.send(());
                Met::Both(Box::new([other, half]))
            }
        }
    }

    /// Gives up waiting.
    pub(super) fn leave(&self, link: &str) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(link);
    }
}
