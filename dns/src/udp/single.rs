//! One packet at a time, as every system can.

use std::{io, net::UdpSocket};

use super::{Desk, MAX_QUERY, Way};
use crate::compile::MAX_UDP;

/// Room for one packet and its answer.
pub(crate) struct Single {
    out: Vec<u8>,
    packet: Vec<u8>,
}

impl Default for Single {
    fn default() -> Self {
        Self { out: Vec::with_capacity(MAX_UDP), packet: vec![0; MAX_QUERY] }
    }
}

impl Way for Single {
    fn step(&mut self, socket: &UdpSocket, desk: &mut Desk<'_>) -> io::Result<usize> {
        let (length, from) = socket.recv_from(&mut self.packet)?;
        let moment = desk.begin();
        desk.answer(&self.packet[..length], from, &moment, &mut self.out);
        desk.count();
        if !self.out.is_empty()
            && let Err(error) = socket.send_to(&self.out, from)
        {
            desk.unsent(&error, from);
        }
        desk.end(&moment, 1);
        Ok(1)
    }
}
