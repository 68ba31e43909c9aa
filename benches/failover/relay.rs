//! A way between clusters that takes time: datagrams are carried by hand and handed on when they are due. Not every
//! kernel has a queue that delays.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use landbridge_xtask::space::Space;

/// Datagrams that are on their way, at most: far more than 200 calls a second make.
const ON_THE_WAY: usize = 65_536;

type Due = (Instant, Vec<u8>, SocketAddr);

/// Carries what comes to `front`, in the namespace `space`, to `target` and back, each way in half of `round_trip`. It
/// goes on until the process ends; its sockets close with it.
pub(crate) fn start(
    space: &Space,
    front: SocketAddr,
    target: SocketAddr,
    round_trip: Duration,
) -> anyhow::Result<()> {
    let bound = space.start(move || -> std::io::Result<()> {
        let front = Arc::new(UdpSocket::bind(front)?);
        let back = Arc::new(UdpSocket::bind((front.local_addr()?.ip(), 0))?);
        // Whoever has called last: one gateway dials, from one port.
        let caller = Arc::new(Mutex::new(None));
        let (there, here) = (Arc::clone(&caller), caller);
        carry(Arc::clone(&front), Arc::clone(&back), round_trip / 2, move |from| {
            *there.lock().unwrap_or_else(PoisonError::into_inner) = Some(from);
            Some(target)
        });
        carry(back, front, round_trip / 2, move |_| {
            *here.lock().unwrap_or_else(PoisonError::into_inner)
        });
        Ok(())
    })?;
    bound.join().map_err(|_| anyhow::anyhow!("a relay has panicked"))???;
    Ok(())
}

/// One direction. Threads stay in the namespace of the one that starts them.
fn carry(
    from: Arc<UdpSocket>,
    over: Arc<UdpSocket>,
    delay: Duration,
    to: impl Fn(SocketAddr) -> Option<SocketAddr> + Send + 'static,
) {
    let (send, due) = sync_channel::<Due>(ON_THE_WAY);
    thread::spawn(move || {
        for (at, datagram, to) in due {
            thread::sleep(at.saturating_duration_since(Instant::now()));
            // Nobody may be there: that is what is measured.
            let _ = over.send_to(&datagram, to);
        }
    });
    thread::spawn(move || receive(&from, &send, delay, to));
}

fn receive(
    from: &UdpSocket,
    send: &SyncSender<Due>,
    delay: Duration,
    to: impl Fn(SocketAddr) -> Option<SocketAddr>,
) {
    let mut buffer = vec![0; 65_536];
    loop {
        let Ok((count, sender)) = from.recv_from(&mut buffer) else {
            // What an earlier datagram met.
            continue;
        };
        if let Some(to) = to(sender) {
            // Where too many are on their way, one is lost, as on any way.
            let _ = send.try_send((Instant::now() + delay, buffer[..count].to_vec(), to));
        }
    }
}
