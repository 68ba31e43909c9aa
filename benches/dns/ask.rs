//! One question at a time, as the benchmark asks: whether a server has its services, and what it says of one now.

use std::{
    io::{self, ErrorKind},
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

/// How long one answer is waited for.
const WAITED: Duration = Duration::from_millis(100);
const HEADER: usize = 12;

/// What an answer says, as far as it is looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Answer {
    /// How many records there are.
    pub(crate) records: u8,
    /// The response code.
    pub(crate) code: u8,
    /// The last four octets: the address, where that is all there is.
    pub(crate) last: [u8; 4],
}

/// Asks again and again from one socket.
pub(crate) struct Asker {
    socket: UdpSocket,
    query: Vec<u8>,
    id: u16,
}

impl Asker {
    pub(crate) fn new(address: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind((address.ip(), 0))?;
        socket.connect(address)?;
        socket.set_read_timeout(Some(WAITED))?;
        Ok(Self { socket, query: Vec::new(), id: 0 })
    }

    /// What is said of a name; none where no answer came in time.
    pub(crate) fn ask(&mut self, name: &str, record_type: u16) -> io::Result<Option<Answer>> {
        self.id = self.id.wrapping_add(1);
        self.query.clear();
        self.query.extend_from_slice(&self.id.to_be_bytes());
        self.query.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        for label in name.split('.') {
            self.query.push(u8::try_from(label.len()).unwrap_or(0));
            self.query.extend_from_slice(label.as_bytes());
        }
        self.query.push(0);
        self.query.extend_from_slice(&record_type.to_be_bytes());
        self.query.extend_from_slice(&[0, 1]);
        match self.socket.send(&self.query).and_then(|_| self.answer()) {
            Ok(answer) => Ok(Some(answer)),
            Err(error) => match error.kind() {
                ErrorKind::ConnectionRefused | ErrorKind::TimedOut | ErrorKind::WouldBlock => {
                    Ok(None)
                }
                _ => Err(error),
            },
        }
    }

    fn answer(&self) -> io::Result<Answer> {
        let mut packet = [0; 1500];
        loop {
            let length = self.socket.recv(&mut packet)?;
            // What was given up before may come late.
            if length < HEADER || packet[..2] != self.id.to_be_bytes() {
                continue;
            }
            let last = packet[..length].last_chunk().copied().unwrap_or_default();
            return Ok(Answer { records: packet[7], code: packet[3] & 0xf, last });
        }
    }
}
