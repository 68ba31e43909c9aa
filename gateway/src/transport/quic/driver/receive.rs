//! What comes in on a socket: buffers, and the datagrams in them.
//!
//! Buffers belong to a worker, not to a socket: an idle one holds none. What has come is copied out of them once, into
//! memory of just that size, and from there on only handed on.

use std::{
    cell::RefCell,
    io::{self, IoSliceMut},
};

use bytes::BytesMut;
use quinn_udp::RecvMeta;

use super::socket::Socket;

/// Messages that one call receives. Of a stream that is read in time there are one or two.
const MESSAGES: usize = 8;
/// What one message holds: datagrams of one sender that the kernel has put together, to the size of one packet of IP.
const LONGEST: usize = 64 << 10;

thread_local! {
    static BUFFERS: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Receives what is there, hands each datagram to `each` and says whether there may be more.
pub(super) fn receive(
    socket: &Socket,
    mut each: impl FnMut(&RecvMeta, BytesMut),
) -> io::Result<bool> {
    BUFFERS.with_borrow_mut(|buffers| {
        buffers.resize(MESSAGES * LONGEST, 0);
        let mut about = [RecvMeta::default(); MESSAGES];
        let count = {
            let mut chunks = buffers.chunks_mut(LONGEST);
            let mut slices: [IoSliceMut<'_>; MESSAGES] =
                std::array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
            socket.receive(&mut slices, &mut about)?
        };
        for (about, buffer) in about[..count].iter().zip(buffers.chunks(LONGEST)) {
            let message = BytesMut::from(&buffer[..about.len.min(LONGEST)]);
            for datagram in datagrams(message, about.stride) {
                each(about, datagram);
            }
        }
        Ok(count == MESSAGES)
    })
}

/// The datagrams of a message, all but the last of `stride` bytes.
fn datagrams(mut message: BytesMut, stride: usize) -> impl Iterator<Item = BytesMut> {
    std::iter::from_fn(move || {
        let size = stride.max(1).min(message.len());
        (size > 0).then(|| message.split_to(size))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(message: &[u8], stride: usize, expected: &[&[u8]]) {
        let found: Vec<BytesMut> = datagrams(BytesMut::from(message), stride).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_message_is_cut_into_the_datagrams_that_it_was_made_of() {
        check(b"aaabbbcc", 3, &[b"aaa", b"bbb", b"cc"]);
        check(b"aaabbb", 3, &[b"aaa", b"bbb"]);
        check(b"aaa", 3, &[b"aaa"]);
        check(b"aa", 3, &[b"aa"]);
        check(b"", 3, &[]);
        // The kernel says no such thing; nothing hangs if it does.
        check(b"ab", 0, &[b"a", b"b"]);
        check(b"", 0, &[]);
    }
}
