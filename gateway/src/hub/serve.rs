//! At the hub: a member's gateway has opened a stream to the API or the authority.

use std::{sync::Arc, time::Duration};

use tokio::{net::TcpStream, time::timeout};

use super::{About, Place, connect};
use crate::{
    core::Core,
    links::Link,
    metrics::Direction,
    room,
    serve::refuse,
    transport::{RecvStream, SendStream},
    wire::{self, Answer, HubService, Refusal},
};

/// How long the API or the authority may take to accept.
const CONNECT: Duration = Duration::from_secs(2);

/// Brings a stream of a member to what it is for.
pub(crate) async fn serve(
    core: &Core,
    link: &Arc<Link>,
    service: HubService,
    (mut send, recv): (SendStream, RecvStream),
) {
    let peer = link.peer();
    let about = About::new(Direction::Inbound, service, &peer.cluster, None);
    let (tcp, _place) = match bring(core, &about).await {
        Ok(brought) => brought,
        Err(refusal) => {
            let reason = refusal.reason();
            tracing::info!(peer = %peer, service = service.as_str(), reason, "a stream to the hub is refused");
            about.refused(core, reason);
            return refuse(core, send, refusal).await;
        }
    };
    let connected = wire::encode_answer(&Answer::Connected);
    if send.write_all(&connected).await.is_err() {
        return about.refused(core, "link_lost");
    }
    // The link is cut with its peer, and every stream with it: an open watch ends though it outlives its rights.
    let parts = async {
        core.draining.cancelled().await;
        Refusal::Draining.reason()
    };
    about.carry(core, tcp, (send, recv), parts).await;
}

async fn bring<'a>(core: &'a Core, about: &About) -> Result<(TcpStream, Place<'a>), Refusal> {
    let target = core.hub.target(about.service).ok_or(Refusal::NotHub)?;
    let Some(place) = core.hub.enter(&about.peer) else {
        tracing::warn!(peer = %about.peer, "a member has too many streams to the hub");
        return Err(Refusal::Overloaded);
    };
    match timeout(CONNECT, connect(&core.room, target)).await {
        Ok(Ok(tcp)) => Ok((tcp, place)),
        Ok(Err(error)) if room::is_own(&error) => {
            core.room.refuses(&error.to_string());
            Err(Refusal::Overloaded)
        }
        Ok(Err(error)) => {
            tracing::warn!(%target, "a member cannot be brought to the hub: {error}");
            Err(Refusal::ConnectFailed)
        }
        Err(_) => {
            tracing::warn!(%target, "a member cannot be brought to the hub: it does not answer");
            Err(Refusal::ConnectFailed)
        }
    }
}
