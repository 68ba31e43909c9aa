//! What one connection does next: sends what it may, keeps its timers, and tells those who wait.
//!
//! `quinn-proto` decides all of it. Here is what it is asked, in which order, and how much is done at once.

use std::{
    cell::RefCell,
    collections::HashMap,
    mem,
    task::Waker,
    time::{Duration, Instant},
};

use quinn_proto::{ConnectionError, ConnectionHandle, Dir, Event, StreamEvent, StreamId, Transmit};

use super::{endpoint::Inner, socket::Socket};

/// Calls to the kernel in a row by whoever has come along: 256 KiB are some 100 µs, and it has something else to do. The
/// connection's own task goes on.
pub(super) const ALONG: usize = 4;
/// Calls in a row by the connection's own task, before others of its worker have their turn.
pub(super) const OWN: usize = 16;
/// Times in a row that the state machine is asked whether there is yet more: it never needs as many.
const ROUNDS: usize = 8;

thread_local! {
    /// What is about to be sent. Belongs to a worker, not to a connection.
    static SENDING: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What waits for a stream, one for each of its halves.
pub(super) type Waiting = HashMap<StreamId, Waker>;

/// A connection, while its lock is held.
pub(super) struct State {
    pub(super) proto: quinn_proto::Connection,
    handle: ConnectionHandle,
    /// Why it is over, if it is.
    pub(super) error: Option<ConnectionError>,
    pub(super) connected: bool,
    pub(super) readers: Waiting,
    pub(super) writers: Waiting,
    /// Who waits until all of a stream has been acknowledged.
    pub(super) finishers: Waiting,
    /// Something was done that there may be more to do of.
    pub(super) dirty: bool,
    /// Who is to be told once the lock is free.
    pub(super) news: News,
    /// What a full socket did not take.
    stuck: Option<(Transmit, Vec<u8>)>,
    pub(super) alarm: Alarm,
}

/// Who is to be told of what. Done without the lock, since those who are woken want it.
#[derive(Debug, Default)]
pub(super) struct News {
    pub(super) wakers: Vec<Waker>,
    /// A stream of the peer, by direction.
    pub(super) opened: [bool; 2],
    /// Room for a stream of ours, by direction.
    pub(super) available: [bool; 2],
    pub(super) datagram: bool,
    /// It stands, or is over.
    pub(super) changed: bool,
    /// There is something for the connection's own task.
    pub(super) turn: bool,
}

impl State {
    pub(super) fn new(handle: ConnectionHandle, proto: quinn_proto::Connection) -> Self {
        Self {
            proto,
            handle,
            error: None,
            connected: false,
            readers: HashMap::new(),
            writers: HashMap::new(),
            finishers: HashMap::new(),
            dirty: true,
            news: News::default(),
            stuck: None,
            alarm: Alarm::default(),
        }
    }

    /// Does what there is to do, with at most so many calls to the kernel.
    pub(super) fn drive(&mut self, endpoint: &Inner, now: Instant, calls: usize) {
        self.dirty = false;
        let mut left = calls;
        for round in 1.. {
            let mut again = self.transmit(&endpoint.socket(), now, &mut left);
            again |= self.tell_endpoint(endpoint);
            if self.proto.poll_timeout().is_some_and(|at| at <= now) {
                self.proto.handle_timeout(now);
                again = true;
            }
            if self.stuck.is_some() || !again {
                break;
            }
            if left == 0 || round == ROUNDS {
                self.dirty = true;
                self.news.turn = true;
                break;
            }
        }
        self.take_events();
        let next = self.proto.poll_timeout();
        self.news.turn |= self.alarm.is_early(next);
    }

    /// Sends what may be sent now; says whether there may be more.
    fn transmit(&mut self, socket: &Socket, now: Instant, left: &mut usize) -> bool {
        if self.stuck.is_some() {
            return false;
        }
        let segments = socket.segments(self.proto.current_mtu());
        SENDING.with_borrow_mut(|buffer| {
            while *left > 0 {
                buffer.clear();
                let Some(transmit) = self.proto.poll_transmit(now, segments, buffer) else {
                    return false;
                };
                *left -= 1;
                if !socket.send(&transmit, &buffer[..transmit.size]) {
                    self.stuck = Some((transmit, mem::take(buffer)));
                    self.news.turn = true;
                    return false;
                }
            }
            true
        })
    }

    /// Whether the socket was full.
    pub(super) fn is_stuck(&self) -> bool {
        self.stuck.is_some()
    }

    /// Sends what the socket did not take before, if it does now.
    pub(super) fn unstick(&mut self, socket: &Socket) {
        if let Some((transmit, contents)) = self.stuck.take()
            && !socket.send(&transmit, &contents[..transmit.size])
        {
            self.stuck = Some((transmit, contents));
        }
    }

    /// Hands on what concerns the endpoint; says whether there was an answer.
    fn tell_endpoint(&mut self, endpoint: &Inner) -> bool {
        let mut answered = false;
        while let Some(event) = self.proto.poll_endpoint_events() {
            if let Some(answer) = endpoint.handle_event(self.handle, event) {
                self.proto.handle_event(answer);
                answered = true;
            }
        }
        answered
    }

    fn take_events(&mut self) {
        while let Some(event) = self.proto.poll() {
            match event {
                Event::Connected => {
                    self.connected = true;
                    self.news.changed = true;
                }
                Event::ConnectionLost { reason } => self.end(reason),
                Event::DatagramReceived => self.news.datagram = true,
                // Nobody waits for these: what finds no room is dropped, and who the peer is shows when it stands.
                Event::DatagramsUnblocked | Event::HandshakeDataReady => {}
                Event::Stream(event) => self.take_stream_event(&event),
            }
        }
    }

    fn take_stream_event(&mut self, event: &StreamEvent) {
        let news = &mut self.news;
        match event {
            StreamEvent::Available { dir } => news.available[index(*dir)] = true,
            StreamEvent::Opened { dir } => news.opened[index(*dir)] = true,
            StreamEvent::Readable { id } => news.wakers.extend(self.readers.remove(id)),
            StreamEvent::Writable { id } => news.wakers.extend(self.writers.remove(id)),
            StreamEvent::Finished { id } => news.wakers.extend(self.finishers.remove(id)),
            StreamEvent::Stopped { id, .. } => {
                news.wakers.extend(self.finishers.remove(id));
                news.wakers.extend(self.writers.remove(id));
            }
        }
    }

    /// It is over: everybody who waits for anything is told.
    pub(super) fn end(&mut self, error: ConnectionError) {
        self.error.get_or_insert(error);
        for waiting in [&mut self.readers, &mut self.writers, &mut self.finishers] {
            self.news.wakers.extend(waiting.drain().map(|(_, waker)| waker));
        }
        let news = &mut self.news;
        (news.opened, news.available) = ([true; 2], [true; 2]);
        (news.datagram, news.changed, news.turn) = (true, true, true);
    }
}

pub(super) fn index(direction: Dir) -> usize {
    match direction {
        Dir::Bi => 0,
        Dir::Uni => 1,
    }
}

/// When the connection's own task wakes. Timers are put off with nearly every packet: it sleeps until the earliest of
/// them that there was, looks again, and is woken before only for one that is earlier still.
#[derive(Debug, Default)]
pub(super) struct Alarm(Option<Instant>);

impl Alarm {
    /// Whether the task would wake too late for a timer that is due `at`. Says so once.
    fn is_early(&mut self, at: Option<Instant>) -> bool {
        let early = at.is_some_and(|at| self.0.is_none_or(|set| at < set));
        if early {
            self.0 = at;
        }
        early
    }

    /// The task goes to sleep until then.
    pub(super) fn set(&mut self, at: Option<Instant>) {
        self.0 = at;
    }
}

/// Beside a deadline: what one that has none sleeps for. It is woken before.
pub(super) const FAR: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_that_sleeps_is_woken_for_an_earlier_timer_only() {
        let now = Instant::now();
        let at = |millis| Some(now + Duration::from_millis(millis));
        let mut alarm = Alarm::default();
        assert!(!alarm.is_early(None));
        assert!(alarm.is_early(at(25)), "nothing was set");
        assert!(!alarm.is_early(at(25)), "it is awake by then");
        assert!(!alarm.is_early(at(40)), "it looks again at 25 and sleeps on");
        assert!(!alarm.is_early(None), "it looks at 25 for nothing");
        assert!(alarm.is_early(at(10)));
        assert!(!alarm.is_early(at(20)), "it has been told");
        alarm.set(at(100));
        assert!(alarm.is_early(at(20)));
    }
}
