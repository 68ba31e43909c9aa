//! As many packets at a time as have come: one call receives them, one sends the answers (recvmmsg and sendmmsg).
//!
//! Under load a call is shared by many packets; when there is little to do each is answered as soon as it comes. All
//! room is made once, for each thread.

use std::{
    io::{self, IoSlice, IoSliceMut},
    net::{SocketAddr, UdpSocket},
    os::fd::AsRawFd,
};

use nix::sys::socket::{
    MsgFlags, MultiHeaders, SockaddrIn, SockaddrIn6, SockaddrLike, recvmmsg, sendmmsg,
};

use super::{Desk, MAX_QUERY, Way};
use crate::compile::MAX_UDP;

/// The most packets at a time. More do not make a packet cheaper, and the first of them waits for the last.
const BATCH: usize = 32;
/// The fewest that there is room for: what is laid out for packets that do not come is work for nothing.
const FEWEST: usize = 4;

/// Room for packets and their answers, for a socket of either family.
pub(crate) enum Batch {
    /// IPv4.
    V4(Box<Room<SockaddrIn>>),
    /// IPv6.
    V6(Box<Room<SockaddrIn6>>),
}

impl Batch {
    /// For a socket at `address`.
    pub(crate) fn new(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(_) => Self::V4(Room::new()),
            SocketAddr::V6(_) => Self::V6(Room::new()),
        }
    }
}

impl Way for Batch {
    fn step(&mut self, socket: &UdpSocket, desk: &mut Desk<'_>) -> io::Result<usize> {
        match self {
            Self::V4(room) => room.step(socket, desk, |from| SocketAddr::V4((*from).into())),
            Self::V6(room) => room.step(socket, desk, |from| SocketAddr::V6((*from).into())),
        }
    }
}

pub(crate) struct Room<S> {
    /// How many packets room is laid out for next: twice as many as came last.
    ahead: usize,
    answers: MultiHeaders<S>,
    outs: [Vec<u8>; BATCH],
    packets: Box<[[u8; MAX_QUERY]]>,
    queries: MultiHeaders<S>,
}

impl<S: Copy + SockaddrLike> Room<S> {
    fn new() -> Box<Self> {
        Box::new(Self {
            ahead: FEWEST,
            answers: MultiHeaders::preallocate(BATCH, None),
            outs: std::array::from_fn(|_| Vec::with_capacity(MAX_UDP)),
            packets: vec![[0; MAX_QUERY]; BATCH].into(),
            queries: MultiHeaders::preallocate(BATCH, None),
        })
    }

    fn step(
        &mut self,
        socket: &UdpSocket,
        desk: &mut Desk<'_>,
        address: impl Fn(&S) -> SocketAddr,
    ) -> io::Result<usize> {
        let (received, from) = self.receive(socket)?;
        let moment = desk.begin();
        // Answers lie side by side, without gaps for packets that get none.
        let (mut to, mut answers) = ([None; BATCH], 0);
        let packets = self.packets.iter().zip(received.0).take(received.1);
        if received.1 > 1 {
            packets.clone().for_each(|(packet, length)| desk.foresee(&packet[..length]));
        }
        for ((packet, length), from) in packets.zip(from) {
            let Some(from) = from else {
                continue;
            };
            let out = &mut self.outs[answers];
            desk.answer(&packet[..length], address(&from), &moment, out);
            if !out.is_empty() {
                to[answers] = Some(from);
                answers += 1;
            }
        }
        desk.count();
        self.send(socket, &to[..answers], desk, address);
        desk.end(&moment, received.1);
        Ok(received.1)
    }

    /// Waits for one packet and takes what has come beside it: the length of each and how many, and from where.
    #[expect(clippy::type_complexity, reason = "two arrays that live for one step")]
    fn receive(
        &mut self,
        socket: &UdpSocket,
    ) -> io::Result<(([usize; BATCH], usize), [Option<S>; BATCH])> {
        let (mut lengths, mut from) = ([0; BATCH], [None; BATCH]);
        let mut packets = self.packets[..self.ahead].iter_mut();
        let mut room: [[IoSliceMut<'_>; 1]; BATCH] = std::array::from_fn(|_| {
            [IoSliceMut::new(packets.next().map_or(&mut [], |packet| &mut packet[..]))]
        });
        let received = recvmmsg(
            socket.as_raw_fd(),
            &mut self.queries,
            room[..self.ahead].iter_mut(),
            MsgFlags::MSG_WAITFORONE,
            None,
        )?;
        let mut count = 0;
        for message in received.take(BATCH) {
            lengths[count] = message.bytes.min(MAX_QUERY);
            from[count] = message.address;
            count += 1;
        }
        self.ahead = (2 * count).clamp(FEWEST, BATCH);
        Ok(((lengths, count), from))
    }

    /// Sends the answers. One that cannot be sent does not keep those behind it.
    fn send(
        &mut self,
        socket: &UdpSocket,
        to: &[Option<S>],
        desk: &Desk<'_>,
        address: impl Fn(&S) -> SocketAddr,
    ) {
        let mut sent = 0;
        while sent < to.len() {
            let rest: [[IoSlice<'_>; 1]; BATCH] = std::array::from_fn(|at| {
                [IoSlice::new(self.outs.get(sent + at).map_or(&[], |out| &out[..]))]
            });
            let done = sendmmsg(
                socket.as_raw_fd(),
                &mut self.answers,
                rest.iter(),
                &to[sent..],
                [],
                MsgFlags::empty(),
            );
            match done.map(Iterator::count) {
                Ok(count @ 1..) => sent += count,
                Ok(0) | Err(_) => {
                    let error = io::Error::last_os_error();
                    if let Some(to) = &to[sent] {
                        desk.unsent(&error, address(to));
                    }
                    sent += 1;
                }
            }
        }
    }
}
