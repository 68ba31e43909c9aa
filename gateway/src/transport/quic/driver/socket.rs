//! A UDP socket that sends many datagrams in one call, and receives many in one.

use std::{
    io::{self, IoSliceMut},
    net::SocketAddr,
};

use quinn_proto::{EcnCodepoint, Transmit};
use quinn_udp::{RecvMeta, UdpSocketState};
use tokio::{io::Interest, net::UdpSocket};

/// What one call sends at most: the kernel takes the payload of one IP packet, whatever number of datagrams that is.
const MOST: usize = 65_000;

/// A socket, and what the kernel below it can do.
#[derive(Debug)]
pub(super) struct Socket {
    io: UdpSocket,
    state: UdpSocketState,
}

impl Socket {
    pub(super) fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        Ok(Self { io: UdpSocket::from_std(socket)?, state })
    }

    pub(super) fn local_address(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    /// Whether the size of a path cannot be found out, because the kernel would cut what is too large.
    pub(super) fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }

    /// How many datagrams of this size go in one call.
    pub(super) fn segments(&self, size: u16) -> usize {
        segments(usize::from(size), self.state.max_gso_segments())
    }

    /// Sends datagrams, and says whether that is done: it is not where the socket takes no more for now. What cannot be
    /// sent at all is lost, as it could be on the way.
    pub(super) fn send(&self, transmit: &Transmit, contents: &[u8]) -> bool {
        let transmit = quinn_udp::Transmit {
            destination: transmit.destination,
            ecn: transmit.ecn.map(|ecn| match ecn {
                EcnCodepoint::Ect0 => quinn_udp::EcnCodepoint::Ect0,
                EcnCodepoint::Ect1 => quinn_udp::EcnCodepoint::Ect1,
                EcnCodepoint::Ce => quinn_udp::EcnCodepoint::Ce,
            }),
            contents,
            segment_size: transmit.segment_size,
            src_ip: transmit.src_ip,
        };
        let send = || self.state.send((&self.io).into(), &transmit);
        // Only errors that say "later" come back, and only then has the runtime to know.
        send().is_ok() || self.io.try_io(Interest::WRITABLE, send).is_ok()
    }

    /// Waits until it takes more.
    pub(super) async fn writable(&self) {
        // A socket that is broken is found to be so by whoever uses it.
        let _ = self.io.writable().await;
    }

    /// Receives what is there, at most one message for each of `buffers`: a datagram, or several of one size that came
    /// from one sender.
    pub(super) fn receive(
        &self,
        buffers: &mut [IoSliceMut<'_>],
        about: &mut [RecvMeta],
    ) -> io::Result<usize> {
        let mut count = 0;
        let result = self.io.try_io(Interest::READABLE, || {
            count = self.state.recv((&self.io).into(), buffers, about)?;
            // Fewer than there was room for: it is empty now, which the runtime need not find out by another call.
            if count < about.len() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        if count > 0 { Ok(count) } else { result.map(|()| 0) }
    }

    /// Waits until something has come.
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.io.readable().await
    }
}

/// How many datagrams of `size` bytes go in one call, where the kernel takes `most`.
fn segments(size: usize, most: usize) -> usize {
    (MOST / size.max(1)).clamp(1, most.max(1))
}

/// As `quinn-proto` has it.
pub(super) fn ecn(ecn: quinn_udp::EcnCodepoint) -> EcnCodepoint {
    match ecn {
        quinn_udp::EcnCodepoint::Ect0 => EcnCodepoint::Ect0,
        quinn_udp::EcnCodepoint::Ect1 => EcnCodepoint::Ect1,
        quinn_udp::EcnCodepoint::Ce => EcnCodepoint::Ce,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_call_sends_as_many_datagrams_as_one_packet_of_ip_holds() {
        assert_eq!(segments(1452, 64), 44);
        assert_eq!(segments(1200, 64), 54);
        // Small ones are bounded by their number, large ones by their size.
        assert_eq!(segments(600, 64), 64);
        assert_eq!(segments(65_527, 64), 1);
        // Where the kernel takes one at a time, and where nothing is known.
        assert_eq!(segments(1452, 1), 1);
        assert_eq!(segments(0, 0), 1);
    }
}
