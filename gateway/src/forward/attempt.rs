//! One try to bring a call through one link.

use std::{sync::Arc, time::Duration};

use tokio::{
    net::TcpStream,
    time::{Instant, sleep_until},
};

use super::early::{Early, Stop};
use crate::{
    health::LinkState,
    links::{Link, Load},
    route::Scope,
    transport::{RecvStream, SendStream, StreamError},
    wire::{self, Answer, Refusal},
};

/// How long one gateway may take to answer: longer than it takes to find that three pods do not.
const ANSWER: Duration = Duration::from_secs(7);

/// How long a call that may have been delivered waits for a link to be heard again: "a hiccup cuts nothing", and a machine
/// that starts many pods has kept gateways from the processor for more than a second. Only the client can know whether to
/// send it again, so that it is told well before the link itself is given up.
const UNSURE: Duration = Duration::from_secs(2);

/// Why a link was given up that is silent.
pub(crate) const SUSPECT: &str = "suspect";

/// A stream whose other end is a pod.
#[derive(Debug)]
pub(super) struct Connected {
    pub(super) send: SendStream,
    pub(super) recv: RecvStream,
    pub(super) load: Load,
}

/// What became of a try.
#[derive(Debug)]
pub(super) enum Attempt {
    /// The client is gone.
    ClientGone,
    /// A pod has accepted.
    Connected(Connected),
    /// Payload is out and no answer has come: no other try is allowed.
    MaybeDelivered(&'static str),
    /// Nothing was delivered.
    NotDelivered(&'static str, Scope),
}

/// Opens a stream, sends the header and what has come from the client, and waits for the answer.
pub(super) async fn attempt(
    client: &TcpStream,
    link: &Arc<Link>,
    header: &[u8],
    early: &mut Early,
    deadline: Instant,
) -> Attempt {
    early.restart();
    let deadline = deadline.min(Instant::now() + ANSWER);
    let mut state = link.watch();
    let opened = tokio::select! {
        opened = open(link, header) => opened,
        _ = state.wait_for(|state| !state.takes_streams()) => {
            return Attempt::NotDelivered(SUSPECT, Scope::Silence);
        }
        () = sleep_until(deadline) => return Attempt::NotDelivered("timeout", Scope::Link),
    };
    let Ok((mut send, mut recv, load)) = opened else {
        return Attempt::NotDelivered("link_lost", Scope::Link);
    };
    let ended = answered(client, link, (&mut send, &mut recv), early, deadline).await;
    match ended {
        Ended::Answer(Answer::Connected) => Attempt::Connected(Connected { send, recv, load }),
        Ended::Answer(Answer::Refused(refusal)) => {
            Attempt::NotDelivered(refusal.reason(), scope(&refusal))
        }
        Ended::ClientGone => Attempt::ClientGone,
        Ended::Lost(why) if early.any_sent() => Attempt::MaybeDelivered(why),
        Ended::Lost(SUSPECT) => Attempt::NotDelivered(SUSPECT, Scope::Silence),
        Ended::Lost(why) => Attempt::NotDelivered(why, Scope::Link),
    }
}

/// How the wait for an answer ends.
enum Ended {
    Answer(Answer),
    ClientGone,
    Lost(&'static str),
}

/// Sends ahead what comes from the client until there is an answer, or none to hope for.
///
/// Where a link falls silent, what was not sent can go elsewhere at once. What was sent cannot, so that it waits a little
/// for the link to be heard again.
async fn answered(
    client: &TcpStream,
    link: &Arc<Link>,
    (send, recv): (&mut SendStream, &mut RecvStream),
    early: &mut Early,
    deadline: Instant,
) -> Ended {
    let mut state = link.watch();
    let answer = answer(recv);
    tokio::pin!(answer);
    let took = |answer: Result<Answer, StreamError>| {
        answer.map_or(Ended::Lost("link_lost"), Ended::Answer)
    };
    loop {
        let lost = tokio::select! {
            // An answer that is there counts, whatever else has happened.
            biased;
            answer = &mut answer => return took(answer),
            stop = early.pump(client, link, send) => match stop {
                Stop::Client(error) => {
                    tracing::debug!("the client has gone: {error}");
                    return Ended::ClientGone;
                }
                Stop::Link => "link_lost",
            },
            _ = state.wait_for(|state| matches!(state, LinkState::Closed | LinkState::Suspect)) => SUSPECT,
            () = sleep_until(deadline) => "timeout",
        };
        if lost != SUSPECT || !early.any_sent() {
            return Ended::Lost(lost);
        }
        tokio::select! {
            biased;
            answer = &mut answer => return took(answer),
            _ = state.wait_for(|state| *state != LinkState::Suspect) => {}
            () = sleep_until(deadline.min(Instant::now() + UNSURE)) => return Ended::Lost(SUSPECT),
        }
        if *state.borrow() == LinkState::Closed {
            return Ended::Lost("link_lost");
        }
    }
}

async fn open(
    link: &Arc<Link>,
    header: &[u8],
) -> Result<(SendStream, RecvStream, Load), StreamError> {
    let (mut send, recv, load) = link.open().await?;
    send.write_all(header).await?;
    Ok((send, recv, load))
}

/// Reads the answer to a header.
pub(crate) async fn answer(recv: &mut RecvStream) -> Result<Answer, StreamError> {
    let mut prefix = [0; wire::ANSWER_PREFIX];
    recv.read_exact(&mut prefix).await?;
    let (code, length) = wire::answer_prefix(prefix);
    let mut text = vec![0; length];
    recv.read_exact(&mut text).await?;
    Ok(wire::decode_answer(code, &text))
}

/// Whether another gateway of the same cluster may know better.
pub(crate) fn scope(refusal: &Refusal) -> Scope {
    match refusal {
        Refusal::ConnectFailed | Refusal::Denied | Refusal::NoEndpoint | Refusal::NotExported => {
            Scope::Cluster
        }
        Refusal::Draining
        | Refusal::Malformed
        | Refusal::NotHub
        | Refusal::NotReady
        | Refusal::Overloaded
        | Refusal::UnsupportedVersion(_) => Scope::Link,
    }
}
